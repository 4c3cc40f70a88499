-- Gives the source of epoch $1 the name $2, whose checkpoints begin at offset $3, and hands the lease back. Locks the one
-- row of outbox.relay.
update outbox.relay
set source = $2, checkpoint_next = $3, lease_until = '-infinity', updated_at = clock_timestamp()
where epoch = $1
