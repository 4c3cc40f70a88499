-- Version 1 of the outbox schema. Run by the database's owner; `outboxd sql install` does it in one transaction.
-- Takes no lock on any table of the service. {slot_seconds} is replaced before it runs.

-- What follows must mean the same whatever the database's or the role's search path is.
set local search_path = pg_catalog, pg_temp;

-- The schema may be there, empty: thus a role that may not create one can be given it.
do $$
begin
  if to_regnamespace('outbox') is null then
    create schema outbox;
  end if;
end
$$;

create table outbox.migration (
  version    integer     primary key,
  applied_at timestamptz not null default clock_timestamp()
);

-- From PostgreSQL 16 on JSON is tested by an expression; before, only by trying. No backslash may stand in this file,
-- since it means something else under standard_conforming_strings = off.
do $$
begin
  if current_setting('server_version_num')::int >= 160000 then
    execute 'create function outbox.is_json(document text) returns boolean
             language sql immutable strict parallel safe
             return document is json';
  else
    -- Not `parallel safe`: the exception block is a subtransaction.
    execute 'create function outbox.is_json(document text) returns boolean
             language plpgsql immutable strict as
             ''begin perform document::pg_catalog.json; return true; exception when data_exception then return false; end''';
  end if;
end
$$;

-- Rows are appended, read and emptied by TRUNCATE, slot by slot; none is ever updated or deleted.
create table outbox.event (
  slot              smallint    not null
    default ((floor(extract(epoch from transaction_timestamp()))::bigint / {slot_seconds}) % 4)::smallint,
  txid              xid8        not null default pg_current_xact_id(),
  -- Drawn while the writer holds its aggregate, so that it rises with the order of commits of one key. Never cached:
  -- a second session's cache would hand out lower ids later.
  id                bigint      not null generated always as identity (cache 1),
  topic             text        not null,
  key               text,
  event_type        text        not null,
  kind              text        default 'event',
  payload           text,
  payload_bytes     bytea,
  content_type      text,
  headers           jsonb,
  event_id          uuid        not null default gen_random_uuid(),
  correlation_id    text,
  causation_id      text,
  reply_to          text,
  reply_outcome     text,
  saga_type         text,
  saga_id           text,
  saga_user         text,
  saga_state        text,
  saga_outcome      text,
  saga_step         text,
  saga_step_status  text,
  traceparent       text,
  tracestate        text,
  created_at        timestamptz not null default clock_timestamp(),

  constraint topic_is_not_legal check (
    topic collate "C" ~ '^[A-Za-z0-9._-]{1,249}$' and topic not in ('.', '..') and topic !~ '^__'),
  constraint kind_is_unknown check (kind in ('event', 'command', 'reply', 'document')),
  constraint payload_and_payload_bytes_are_both_set check (payload is null or payload_bytes is null),
  constraint payload_is_not_json check (
    (content_type is not null and
      content_type collate "C" !~* '^[[:space:]]*[^/;[:space:]]+/([^;[:space:]]+[+])?json[[:space:]]*(;|$)')
    or outbox.is_json(payload)),
  constraint header_is_not_a_string check (
    -- In the lax mode an array of strings would pass: a filter looks into it.
    jsonb_typeof(headers) = 'object' and not jsonb_path_exists(headers, 'strict $.* ? (@.type() != "string")')),
  -- The function behind `?|`, which some drivers take for a placeholder.
  constraint header_name_is_reserved check (not jsonb_exists_any(headers, array[
    'ce_specversion', 'ce_id', 'ce_source', 'ce_type', 'ce_time', 'content-type', 'ce_kind', 'ce_correlationid',
    'ce_causationid', 'ce_replyto', 'ce_replyoutcome', 'ce_sagatype', 'ce_sagaid', 'ce_sagastate', 'ce_sagaoutcome',
    'ce_sagastep', 'ce_sagastepstatus', 'traceparent', 'tracestate'])),
  constraint reply_outcome_is_unknown check (reply_outcome in ('success', 'failure')),
  constraint saga_type_and_saga_id_go_together check ((saga_type is null) = (saga_id is null)),
  -- Whatever its escapes, a saga record then fits into a record of Kafka's usual size.
  constraint saga_text_is_too_long check (
    octet_length(event_type) + coalesce(octet_length(saga_type), 0) + coalesce(octet_length(saga_id), 0)
    + coalesce(octet_length(saga_user), 0) + coalesce(octet_length(saga_state), 0)
    + coalesce(octet_length(saga_step), 0) <= 100000),
  constraint saga_outcome_is_unknown check (
    saga_outcome in ('completed', 'rejected', 'failed', 'cancelled', 'timed_out')),
  constraint saga_step_status_is_unknown check (saga_step_status in (
    'pending', 'done', 'failed', 'compensating', 'compensated', 'compensation_failed', 'skipped')),
  constraint created_at_is_out_of_range check (
    created_at >= '1970-01-01 00:00:00+00' and created_at < '10000-01-01 00:00:00+00'),
  constraint text_is_empty_use_null check (not ('' = any (array[
    key, event_type, content_type, correlation_id, causation_id, reply_to, saga_type, saga_id, saga_user, saga_state,
    saga_step, traceparent, tracestate])))
) partition by list (slot);

create table outbox.event_0 partition of outbox.event for values in (0);
create table outbox.event_1 partition of outbox.event for values in (1);
create table outbox.event_2 partition of outbox.event for values in (2);
create table outbox.event_3 partition of outbox.event for values in (3);

-- Nothing of these tables is ever dead, so vacuum has nothing to gain before TRUNCATE empties them.
alter table outbox.event_0 set (autovacuum_vacuum_insert_threshold = -1);
alter table outbox.event_1 set (autovacuum_vacuum_insert_threshold = -1);
alter table outbox.event_2 set (autovacuum_vacuum_insert_threshold = -1);
alter table outbox.event_3 set (autovacuum_vacuum_insert_threshold = -1);

create index event_txid on outbox.event (txid);
create index event_id on outbox.event (id);

-- One row: who leads this source, and how far it has come.
create table outbox.relay (
  only_row          boolean     primary key default true check (only_row),
  source            text,
  -- Which database this is: these tell a copy, a restored dump and a new cluster from the original. A rebase changes
  -- the last 8 digits of the incarnation only, so that what was published before it is still known as ours.
  incarnation       uuid        not null default gen_random_uuid(),
  system_identifier bigint      not null,
  database_oid      oid         not null,
  slot_seconds      integer     not null,
  -- The leader. `process` tells a restarted daemon whether the holder of its own lease is gone.
  instance          text,
  process           text,
  epoch             bigint      not null default 0,
  lease_until       timestamptz not null default '-infinity',
  -- The position: all that `seen` sees is published; of what `page_upto` sees beyond it, all up to `page_after`.
  seen              pg_snapshot not null,
  page_upto         pg_snapshot,
  page_after        bigint,
  -- The last checkpoint that the position and `outbox.ahead` include, and the offset after it.
  batch             bigint      not null default 0,
  checkpoint_next   bigint      not null default 0,
  updated_at        timestamptz not null default clock_timestamp(),
  check ((page_upto is null) = (page_after is null))
) with (fillfactor = 50);

-- Published, but ahead of the position: what a lost settle left behind.
create table outbox.ahead (
  id   bigint primary key,
  txid xid8   not null
);

-- What Kafka did not take, whole, in the order in which it is due.
create table outbox.dead_letter (
  seq              bigint      primary key generated always as identity (cache 1),
  id               bigint      not null,
  topic            text        not null,
  key              text,
  event_type       text        not null,
  kind             text,
  payload          text,
  payload_bytes    bytea,
  content_type     text,
  headers          jsonb,
  event_id         uuid        not null,
  correlation_id   text,
  causation_id     text,
  reply_to         text,
  reply_outcome    text,
  saga_type        text,
  saga_id          text,
  saga_user        text,
  saga_state       text,
  saga_outcome     text,
  saga_step        text,
  saga_step_status text,
  traceparent      text,
  tracestate       text,
  created_at       timestamptz not null,
  reason           text        not null,
  release          text        not null check (release in ('auto', 'manual')),
  error            text        not null,
  at               timestamptz not null default clock_timestamp(),
  -- What an operator asked for; the leader carries it out.
  wish             text        check (wish in ('retry', 'drop')),
  unique (id, event_id)
);

create index dead_letter_key on outbox.dead_letter (topic, key, seq);

-- Rings only while the relay sleeps: it then holds the same lock exclusively. A NOTIFY for every insert would make
-- all commits of the cluster wait for each other.
create function outbox.ring_doorbell() returns trigger language plpgsql as $$
begin
  if not pg_catalog.pg_try_advisory_xact_lock_shared(1870034018, 1) then
    perform pg_catalog.pg_notify('outboxd', '');
  end if;
  return null;
end
$$;

create trigger ring_doorbell after insert on outbox.event
  for each statement execute function outbox.ring_doorbell();

-- The position begins here: whatever is inserted from now on is published.
insert into outbox.relay (system_identifier, database_oid, slot_seconds, seen)
select (select system_identifier from pg_control_system()),
       (select oid from pg_database where datname = current_database()),
       {slot_seconds},
       pg_current_snapshot();

insert into outbox.migration (version) values (1);
