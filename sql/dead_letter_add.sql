-- Copies refused rows to the dead letters, lowest id first. $1 ids and $2 event ids, in pairs; $3 reason, $4 release,
-- $5 error. A row that is there already stays as it is. Locks no row of outbox.event. Index: event_id of each leaf.
insert into outbox.dead_letter (id, topic, key, event_type, kind, payload, payload_bytes, content_type, headers, event_id, correlation_id,
  causation_id, reply_to, reply_outcome, saga_type, saga_id, saga_user, saga_state, saga_outcome, saga_step,
  saga_step_status, traceparent, tracestate, created_at, reason, release, error)
select event.id, event.topic, event.key, event.event_type, event.kind, event.payload, event.payload_bytes, event.content_type, event.headers, event.event_id, event.correlation_id, event.causation_id, event.reply_to, event.reply_outcome, event.saga_type, event.saga_id, event.saga_user, event.saga_state, event.saga_outcome, event.saga_step, event.saga_step_status, event.traceparent, event.tracestate, event.created_at, $3, $4, $5
from unnest($1::bigint[], $2::uuid[]) as given (id, event_id)
join outbox.event as event on event.id = given.id and event.event_id = given.event_id
order by event.id
on conflict (id, event_id) do nothing
