-- Whether slot {slot} holds a row that is not settled: beyond $1 xmax or among $2 open transactions of the position's
-- snapshot. Runs while the slot's lock is held, so the last writer of the slot is gone. Index: event_txid of the leaf.
select exists (
  select from only outbox.event_{slot} where txid >= $1::text::xid8 or txid = any ($2::text[]::xid8[]))
