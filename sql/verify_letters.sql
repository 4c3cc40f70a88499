-- The dead letters, or those of event $1, as what they were and why they are; no payload. Takes no lock.
select id, event_id, topic, key, created_at, reason, release
from outbox.dead_letter
where $1::uuid is null or event_id = $1
order by seq
