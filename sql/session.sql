-- Makes a new session independent of what the database, the role or a pooler set, and says whom we talk to.
-- Takes no lock and reads no table. Everything is qualified, since the search path may be anything until this ran.
select
  pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', false),
  pg_catalog.set_config('default_transaction_read_only', 'off', false),
  pg_catalog.set_config('default_transaction_isolation', 'read committed', false),
  pg_catalog.set_config('standard_conforming_strings', 'on', false),
  pg_catalog.set_config('datestyle', 'ISO, YMD', false),
  pg_catalog.set_config('timezone', 'UTC', false),
  pg_catalog.set_config('lock_timeout', '0', false),
  pg_catalog.set_config('statement_timeout', '30s', false),
  pg_catalog.set_config('idle_in_transaction_session_timeout', '30s', false),
  pg_catalog.set_config('idle_session_timeout', '0', false),
  pg_catalog.current_setting('server_version_num') as version,
  pg_catalog.pg_is_in_recovery()::text as standby,
  pg_catalog.pg_backend_pid()::text as process,
  current_user::text as role,
  pg_catalog.current_database()::text as database
