-- Makes rows from another cluster ours: the numbers of its transactions mean nothing here, and one of them above our
-- own would look new at every read. What is published gets the number that every snapshot sees, the rest that of this
-- transaction. Locks every row; writers are locked out before, so that none is missed.
update outbox.event set txid = case
  when exists (select from outbox.ahead where ahead.id = event.id and ahead.txid = event.txid) then '2'::xid8
  else pg_current_xact_id() end
