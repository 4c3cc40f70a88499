-- The last of the next $2 rows behind the id $1, of whatever transaction; no row when there are fewer.
-- Takes no lock that a writer waits for. Index: event_id of each leaf.
select id from outbox.event where id > $1 order by id offset $2::bigint - 1 limit 1
