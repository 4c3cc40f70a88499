-- The rows with the ids $1; no payload. Takes no lock. Index: event_id of each leaf.
select id, txid::text::bigint, event_id, topic, key, created_at
from outbox.event
where id = any ($1::bigint[])
