-- Forgets the rows that the position with snapshot $1 has passed. Locks only the rows it deletes.
delete from outbox.ahead where pg_visible_in_snapshot(txid, $1::text::pg_snapshot)
