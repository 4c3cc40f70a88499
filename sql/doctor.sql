-- What a doctor wants to know of a database that is to be relayed. Takes no lock.
select
  current_user::text as role,
  (select rolsuper from pg_roles where rolname = current_user) as superuser,
  exists (select from pg_class where relowner = (select oid from pg_roles where rolname = current_user)
    and relnamespace = 'outbox'::regnamespace) as owner,
  has_table_privilege('outbox.event', 'select') and has_table_privilege('outbox.event_0', 'truncate')
    and has_table_privilege('outbox.relay', 'update') and has_table_privilege('outbox.ahead', 'insert, delete')
    and has_table_privilege('outbox.dead_letter', 'insert, update, delete') as rights,
  (select seqcache from pg_sequence where seqrelid = pg_get_serial_sequence('outbox.event', 'id')::regclass) as cache,
  current_setting('max_prepared_transactions')::integer as max_prepared_transactions,
  (select count(*) from outbox.dead_letter) as dead_letters,
  (select source from outbox.relay) as source,
  (select system_identifier from outbox.relay) = (select system_identifier from pg_control_system())
    and (select database_oid from outbox.relay) = (select oid from pg_database where datname = current_database())
    as same_database,
  (select extract(epoch from clock_timestamp() - min(xact_start))::bigint from pg_stat_activity
    where backend_xid is not null and pid <> pg_backend_pid() and datname = current_database()) as oldest_transaction_s
