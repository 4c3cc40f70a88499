-- What the relay's session needs on top: a plan made while the table was empty would read all of a backlog for each
-- batch, so plans are pinned to the indexes in their order; a lost settlement is found again in the checkpoints, so none
-- is waited for.
set enable_seqscan = off; set enable_bitmapscan = off; set plan_cache_mode = force_generic_plan; set jit = off;
set max_parallel_workers_per_gather = 0; set synchronous_commit = off; set statement_timeout = '30s';
set lock_timeout = '10s'; set idle_in_transaction_session_timeout = '60s'; set timezone = 'UTC'
