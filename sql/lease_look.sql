-- Who leads, by the database's clock. Reads the one row of outbox.relay; takes no lock.
select source, instance, process, epoch,
  case when lease_until > clock_timestamp()
    then ceil(extract(epoch from lease_until - clock_timestamp()) * 1000)::bigint else 0 end as remaining_ms,
  incarnation, system_identifier, database_oid, lease_until::text
from outbox.relay
