-- Writes the position back and renews the lease; no row if another daemon leads. Locks the one row of outbox.relay.
-- Nor does it in another session of the server than the position was read in: behind a pooler, a crash of the server may
-- have taken back transactions that the position has passed.
-- $1 epoch, $2 seen, $3 page_upto, $4 page_after, $5 batch, $6 checkpoint_next, $7 lease in ms, $8 the session's process.
update outbox.relay
set seen = $2::text::pg_snapshot, page_upto = $3::text::pg_snapshot, page_after = $4, batch = $5, checkpoint_next = $6,
  lease_until = clock_timestamp() + $7::bigint * interval '1 ms', updated_at = clock_timestamp()
where epoch = $1 and pg_backend_pid() = $8
