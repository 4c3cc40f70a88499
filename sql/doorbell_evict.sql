-- Ends sessions of our own that still hold the doorbell: their leader is fenced, and nobody else would let it ring.
select pg_terminate_backend(held.pid)
from pg_locks as held join pg_stat_activity as session on session.pid = held.pid
where held.locktype = 'advisory' and held.classid = 1870034018 and held.objid = 1 and held.objsubid = 2
  and held.mode = 'ExclusiveLock' and held.granted
  and held.database = (select oid from pg_database where datname = current_database())
  and session.usename = current_user and held.pid <> pg_backend_pid()
