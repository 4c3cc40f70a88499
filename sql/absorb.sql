-- Includes a checkpoint that an earlier leader could not settle: only its number moves, its rows go to outbox.ahead.
-- $1 epoch, $2 batch, $3 checkpoint_next. Locks the one row of outbox.relay.
update outbox.relay set batch = $2, checkpoint_next = $3, updated_at = clock_timestamp()
where epoch = $1 and batch = $2::bigint - 1
