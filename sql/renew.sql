-- Renews the lease of epoch $1 for $2 ms; no row if another daemon leads. Locks the one row of outbox.relay.
update outbox.relay set lease_until = clock_timestamp() + $2::bigint * interval '1 ms' where epoch = $1
