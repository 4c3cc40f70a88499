-- Accepts this database as the one that the position belongs to. A leader is fenced, and one that was told to stop
-- sees another incarnation, of which only the last 8 digits change. $1 the epoch that was seen, $2 the snapshot to begin
-- with (null: the position stays), $3 the offset where its checkpoints begin. No row if somebody leads. Locks the one row.
update outbox.relay
set system_identifier = (select system_identifier from pg_control_system()),
  database_oid = (select oid from pg_database where datname = current_database()),
  incarnation = overlay(incarnation::text placing substr(gen_random_uuid()::text, 1, 8) from 29)::uuid,
  seen = coalesce($2::text::pg_snapshot, seen),
  page_upto = case when $2::text is null then page_upto end,
  page_after = case when $2::text is null then page_after end,
  checkpoint_next = $3, epoch = epoch + 1, lease_until = '-infinity', updated_at = clock_timestamp()
where epoch = $1 and lease_until <= clock_timestamp()
