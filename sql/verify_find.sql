-- The rows behind id $1 up to id $2 that are event $3; no payload. Takes no lock. Index: event_id of each leaf.
select id, txid::text::bigint, event_id, topic, key, created_at
from outbox.event
where id > $1 and id <= $2 and event_id = $3
order by id
