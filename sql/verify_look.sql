-- Where the source stands, what this very statement sees, and since when the table has lost no row to the ring: a row
-- stays at least until the slot after its own has passed. Takes no lock. Index: event_id of each leaf.
select seen::text, page_upto::text, page_after, batch, checkpoint_next, source, incarnation, system_identifier,
  database_oid, pg_current_snapshot()::text, statement_timestamp(),
  greatest(
    to_timestamp((floor(extract(epoch from statement_timestamp()) / slot_seconds) - 1)::double precision * slot_seconds),
    (select min(applied_at) from outbox.migration)),
  (select id from outbox.event order by id limit 1),
  (select id from outbox.event order by id desc limit 1)
from outbox.relay
