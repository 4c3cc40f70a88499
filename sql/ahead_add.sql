-- Notes rows that are published although the position has not passed them. $1 ids and $2 event ids, in pairs.
-- Gives how many of them the table has: a row may be lost by a fail-over, or its id be another's by now.
-- Locks no row of outbox.event. Index: event_id of each leaf.
with published as (
  select event.id, event.txid
  from unnest($1::bigint[], $2::uuid[]) as given (id, event_id)
  join outbox.event as event on event.id = given.id and event.event_id = given.event_id
), added as (
  insert into outbox.ahead (id, txid) select id, txid from published on conflict (id) do nothing
)
select count(*) from published
