-- The topics of the rows behind id $1 up to id $2. Takes no lock. Index: event_id of each leaf.
select distinct topic from outbox.event where id > $1 and id <= $2
