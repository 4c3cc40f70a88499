-- The rows that are published ahead of the position. Takes no lock.
select id from outbox.ahead
