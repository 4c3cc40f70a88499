-- Hands the lease of epoch $1 back, so that another daemon need not wait. Locks the one row of outbox.relay.
update outbox.relay set lease_until = '-infinity', updated_at = clock_timestamp() where epoch = $1
