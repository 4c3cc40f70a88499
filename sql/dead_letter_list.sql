-- The dead letters without their payloads, oldest first. Takes no lock.
select event_id, topic, key, reason, release, error, at
from outbox.dead_letter order by seq limit $1
