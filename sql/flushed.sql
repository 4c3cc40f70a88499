-- Whether a crash of the database could still undo what was visible at $1. Takes no lock.
select pg_current_wal_flush_lsn() >= $1::text::pg_lsn
