-- Counts what is not published, a million at most, and when the oldest of it was inserted. Takes no lock.
-- $1 xmax and $2 open transactions of the position's snapshot, $3 a begun window's end and $4 the last id read of it.
-- Index: event_txid of each leaf.
select count(*) as events, min(created_at) as oldest
from (
  select created_at from outbox.event
  where (txid >= $1::text::xid8 or txid = any ($2::text[]::xid8[]))
    and not coalesce(id <= $4::bigint and pg_visible_in_snapshot(txid, $3::text::pg_snapshot), false)
  limit 1000000
) waiting
