-- The dead letters without their payloads, oldest first, $1 at most. Takes no lock.
select event_id, topic, key, reason, release, error,
  to_char(at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
from outbox.dead_letter order by seq limit $1
