-- The rows behind id $1 that snapshot $2 sees, lowest id first, $3 at most; no payload. Takes no lock.
-- Index: event_id of each leaf.
select id, txid::text::bigint, event_id, topic, key, created_at
from outbox.event
where id > $1 and pg_visible_in_snapshot(txid, $2::text::pg_snapshot)
order by id
limit $3
