-- One dead letter, whole; an event id may stand in several rows. Takes no lock.
select to_jsonb(letter) || jsonb_build_object('payload_bytes', encode(payload_bytes, 'base64'))
from outbox.dead_letter as letter where event_id = $1 order by seq
