-- Which server and database this session is connected to, and which schema it has. Takes no lock.
select pg_is_in_recovery() as in_recovery,
  (select system_identifier from pg_control_system()) as system_identifier,
  (select oid from pg_database where datname = current_database()) as database_oid,
  case when not pg_is_in_recovery() then left(pg_walfile_name(pg_current_wal_insert_lsn()), 8) end as timeline_hex,
  current_setting('max_prepared_transactions')::integer as max_prepared_transactions,
  (select max(version) from outbox.migration) as schema_version
