-- Which rows of $1 ids and $2 event ids, in pairs, the table has. Takes no lock. Index: event_id of each leaf.
select event.id, event.event_id
from unnest($1::bigint[], $2::uuid[]) as given (id, event_id)
join outbox.event as event on event.id = given.id and event.event_id = given.event_id
