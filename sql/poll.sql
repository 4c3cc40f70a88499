-- Reads the rows that became visible since the position's snapshot, lowest id first. The first row is a header: the
-- snapshot of this very statement, and what else the reader must know of the moment.
-- $1 xmax and $2 open transactions of the position's snapshot, $3 rows and $4 bytes at most (one row always comes).
-- No more than $5 rows of the window are looked at; whether it has more, large.sql tells.
-- Takes no lock that a writer waits for. Index: event_txid of each leaf.
select null::bigint as id, null::text, null::text, null::text, null::text, null::text, null::bytea, null::text, null::jsonb, null::uuid, null::text,
  null::text, null::text, null::text, null::text, null::text, null::text, null::text, null::text, null::text,
  null::text, null::text, null::text, null::timestamptz,
  null::bigint as total_bytes,
  pg_current_snapshot()::text as snapshot,
  pg_is_in_recovery() as in_recovery,
  case when not pg_is_in_recovery() then pg_current_wal_insert_lsn()::text end as inserted_upto,
  case when not pg_is_in_recovery() then pg_current_wal_flush_lsn() >= pg_current_wal_insert_lsn() end as flushed,
  statement_timestamp() as at, pg_backend_pid() as process
union all
select * from (
  select id, topic, key, event_type, kind, payload, payload_bytes, content_type, headers, event_id, correlation_id,
  causation_id, reply_to, reply_outcome, saga_type, saga_id, saga_user, saga_state, saga_outcome, saga_step,
  saga_step_status, traceparent, tracestate, created_at, total_bytes, null::text, null::boolean, null::text, null::boolean, null::timestamptz,
  null::integer
  from (
    select due.*, sum(bytes) over (order by id rows unbounded preceding)::bigint as total_bytes
    from (
      select id, topic, key, event_type, kind, payload, payload_bytes, content_type, headers, event_id, correlation_id,
  causation_id, reply_to, reply_outcome, saga_type, saga_id, saga_user, saga_state, saga_outcome, saga_step,
  saga_step_status, traceparent, tracestate, created_at,
        octet_length(topic) + coalesce(octet_length(key), 0) + coalesce(octet_length(payload), octet_length(payload_bytes), 0)
           + coalesce(pg_column_size(headers), 0) + 200 as bytes
      from (
        select * from outbox.event where txid >= $1::text::xid8
        union all
        select * from outbox.event where txid = any ($2::text[]::xid8[]) and txid < $1::text::xid8
        limit $5
      ) new
      order by id
      limit $3
    ) due
  ) summed
  where total_bytes - bytes < $4
) bounded
