-- Whether the window behind a position has so many rows that sorting them would take long. Looks at no more than those.
-- $1 xmax and $2 open transactions of the position's snapshot, $3 how many rows are not too many.
-- Takes no lock that a writer waits for. Index: event_txid of each leaf.
select exists (
  select from (
    select from outbox.event where txid >= $1::text::xid8
    union all
    select from outbox.event where txid = any ($2::text[]::xid8[]) and txid < $1::text::xid8
  ) new
  offset $3
)
