-- Forgets letters that were published after all. $1 their numbers. Locks only the rows it deletes.
delete from outbox.dead_letter where seq = any ($1::bigint[])
