-- Notes what an operator wants done with letters; the leader does it. $1 `retry` or `drop`, $2 the events, or null for
-- all. Locks only the rows it changes.
update outbox.dead_letter set wish = $1 where $2::uuid[] is null or event_id = any ($2::uuid[])
