-- Takes the lease that was seen with epoch $1; no row if somebody else was quicker. Locks the one row of outbox.relay.
-- $2 source, $3 instance, $4 process, $5 lease in ms.
update outbox.relay
set source = $2, instance = $3, process = $4, epoch = epoch + 1,
  lease_until = clock_timestamp() + $5::bigint * interval '1 ms', updated_at = clock_timestamp()
where epoch = $1 and (source is null or source = $2)
returning epoch
