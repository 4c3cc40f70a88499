-- Counts the rows beyond a position: those that wait, and those that are published ahead of it. Takes no lock.
-- $1 xmax and $2 open transactions of the position's snapshot, $3 a begun window's end and $4 the last id read of it.
-- Index: event_txid of each leaf.
select count(*) filter (where ahead.id is null) as waiting, count(ahead.id) as published
from outbox.event left join outbox.ahead using (id, txid)
where (event.txid >= $1::text::xid8 or event.txid = any ($2::text[]::xid8[]))
  and not coalesce(event.id <= $4::bigint and pg_visible_in_snapshot(event.txid, $3::text::pg_snapshot), false)
