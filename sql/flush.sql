-- Makes what is visible outlive a crash: a synchronous commit of its own, which flushes all WAL before it.
begin; set local synchronous_commit = local; select pg_logical_emit_message(true, 'outboxd', 'flush'); commit
