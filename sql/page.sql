-- Reads on in a window whose end is pinned, behind the last id of the page before.
-- $1 xmax and $2 open transactions of the position's snapshot, $3 the window's end, $4 the last id, $5 rows and $6
-- bytes at most (one row always comes). Only the next $7 rows are looked at, be they of the window or not; how far that
-- was, scanned.sql tells. Takes no lock that a writer waits for. Index: event_id of each leaf.
select id, topic, key, event_type, kind, payload, payload_bytes, content_type, headers, event_id, correlation_id,
  causation_id, reply_to, reply_outcome, saga_type, saga_id, saga_user, saga_state, saga_outcome, saga_step,
  saga_step_status, traceparent, tracestate, created_at, total_bytes
from (
  select due.*, sum(bytes) over (order by id rows unbounded preceding)::bigint as total_bytes
  from (
    select id, topic, key, event_type, kind, payload, payload_bytes, content_type, headers, event_id, correlation_id,
  causation_id, reply_to, reply_outcome, saga_type, saga_id, saga_user, saga_state, saga_outcome, saga_step,
  saga_step_status, traceparent, tracestate, created_at,
      octet_length(topic) + coalesce(octet_length(key), 0) + coalesce(octet_length(payload), octet_length(payload_bytes), 0)
           + coalesce(pg_column_size(headers), 0) + 200 as bytes
    from (select * from outbox.event where id > $4 order by id limit $7) next
    where (txid >= $1::text::xid8 or txid = any ($2::text[]::xid8[]))
      and pg_visible_in_snapshot(txid, $3::text::pg_snapshot)
    order by id
    limit $5
  ) due
) summed
where total_bytes - bytes < $6
