-- Forgets letters that an operator gave up. Locks only the rows it deletes.
delete from outbox.dead_letter where wish = 'drop'
