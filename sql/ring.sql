-- Which slots of the ring hold rows, and which slot is being written. Takes no lock.
select exists (select from outbox.event_0), exists (select from outbox.event_1),
  exists (select from outbox.event_2), exists (select from outbox.event_3),
  ((floor(extract(epoch from clock_timestamp()))::bigint / slot_seconds) % 4)::integer as present,
  slot_seconds
from outbox.relay
