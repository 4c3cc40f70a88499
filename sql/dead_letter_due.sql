-- The dead letters whose turn has come, oldest first: those whose topic is back, those an operator wants sent, and those
-- that only queued behind such. With $2 a key's letters go in their order, so none passes one that still waits.
-- $1 topics that are back, $3 rows and $4 bytes at most (one row always comes). Takes no lock.
-- Index: dead_letter_key for the earlier letters of a key.
select id, topic, key, event_type, kind, payload, payload_bytes, content_type, headers, event_id, correlation_id,
  causation_id, reply_to, reply_outcome, saga_type, saga_id, saga_user, saga_state, saga_outcome, saga_step,
  saga_step_status, traceparent, tracestate, created_at, total_bytes, seq
from (
  select due.*, sum(bytes) over (order by seq rows unbounded preceding)::bigint as total_bytes
  from (
    select *,
      octet_length(topic) + coalesce(octet_length(key), 0) + coalesce(octet_length(payload), octet_length(payload_bytes), 0)
        + coalesce(pg_column_size(headers), 0) + 200 as bytes
    from outbox.dead_letter as letter
    where (release = 'auto' and topic = any ($1::text[]))
      or (release = 'manual' and (wish = 'retry' or (wish is null and reason = 'behind')) and not exists (
        select from outbox.dead_letter as earlier
        where $2::boolean and earlier.topic = letter.topic and earlier.key = letter.key and earlier.seq < letter.seq
          and (earlier.release = 'auto' or (earlier.wish is distinct from 'retry' and earlier.reason <> 'behind'))))
    order by seq
    limit $3
  ) due
) summed
where total_bytes - bytes < $4
