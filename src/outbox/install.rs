//! Creating the outbox schema and granting its rights, by the owner of a service's database. Never changes a row.

use std::fmt::Write;
use std::time::Duration;

use tokio_postgres::Transaction;

use super::connect::Link;
use super::error::{OutboxError, SCHEMA_VERSION};

/// Every version's migration, oldest first.
const MIGRATIONS: [(i32, &str); 1] = [(1, include_str!("../../sql/0001_outbox.sql"))];

/// The oldest PostgreSQL that outboxd works with.
const OLDEST_SERVER: u32 = 140_000;

/// What an installation may be told.
#[derive(Debug, Clone)]
pub struct Install {
    /// The role that outboxd connects as.
    pub relay_role: Option<String>,
    /// The role that the service connects as.
    pub app_role: Option<String>,
    /// How long a slot of the ring is written.
    pub slot: Duration,
}

/// What an installation did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Installed {
    /// The version found; 0 if there was no schema.
    pub from: i32,
    /// The version now.
    pub to: i32,
}

/// Installs or upgrades the schema and renews the grants, all or nothing.
///
/// Waits 2 s for locks at most, so that it never queues in front of the service for longer.
pub async fn install(link: &mut Link, options: &Install) -> Result<Installed, OutboxError> {
    if link.server.version < OLDEST_SERVER {
        let found = format!("{}", link.server.version / 10_000);
        return Err(OutboxError::ServerVersion { found });
    }
    let transaction = link.client.transaction().await?;
    transaction
        .batch_execute(
            "set local lock_timeout = '2s'; set local statement_timeout = '60s'; \
             select pg_advisory_xact_lock(1870034018, 2)",
        )
        .await?;
    for role in [&options.relay_role, &options.app_role]
        .into_iter()
        .flatten()
    {
        let known = transaction
            .query_opt("select 1 from pg_roles where rolname = $1", &[role])
            .await?;
        if known.is_none() {
            return Err(OutboxError::RoleMissing { role: role.clone() });
        }
    }
    let from = version(&transaction).await?;
    if from > SCHEMA_VERSION {
        return Err(OutboxError::SchemaVersion { found: from });
    }
    for (_, migration) in MIGRATIONS.iter().filter(|(version, _)| *version > from) {
        transaction
            .batch_execute(&fill(migration, options.slot))
            .await?;
    }
    transaction
        .batch_execute(&slot_statements(options.slot))
        .await?;
    transaction.batch_execute(&grants(options)).await?;
    transaction.commit().await?;
    Ok(Installed {
        from,
        to: SCHEMA_VERSION,
    })
}

async fn version(transaction: &Transaction<'_>) -> Result<i32, OutboxError> {
    let there = transaction
        .query_one("select to_regclass('outbox.migration') is not null", &[])
        .await?;
    if !there.try_get::<_, bool>(0)? {
        return Ok(0);
    }
    let row = transaction
        .query_one(
            "select coalesce(max(version), 0) from outbox.migration",
            &[],
        )
        .await?;
    Ok(row.try_get(0)?)
}

/// All migrations behind version `from` as one text, for tools that run migrations themselves.
pub fn show(from: i32, options: &Install) -> String {
    let mut text = String::from(
        "-- The outbox schema of outboxd. Run it in one transaction, as the database's owner.\n\n",
    );
    for (_, migration) in MIGRATIONS.iter().filter(|(version, _)| *version > from) {
        text.push_str(&fill(migration, options.slot));
        text.push('\n');
    }
    text.push_str(&grants(options));
    text
}

fn fill(migration: &str, slot: Duration) -> String {
    migration.replace("{slot_seconds}", &slot.as_secs().to_string())
}

/// Another slot length concerns new rows only: where a row lies says nothing about whether it is published, and a slot is
/// emptied by what is in it, not by its time.
fn slot_statements(slot: Duration) -> String {
    let seconds = slot.as_secs();
    format!(
        "alter table outbox.event alter column slot set default \
         ((floor(extract(epoch from transaction_timestamp()))::bigint / {seconds}) % 4)::smallint;
         update outbox.relay set slot_seconds = {seconds} where slot_seconds <> {seconds}"
    )
}

/// The columns that a service sets.
const SERVICE_COLUMNS: &str = "topic, key, event_type, kind, payload, payload_bytes, content_type, headers, event_id, \
    correlation_id, causation_id, reply_to, reply_outcome, saga_type, saga_id, saga_user, saga_state, saga_outcome, \
    saga_step, saga_step_status, traceparent, tracestate, created_at";

/// The statements that give both roles what they need and nothing else.
pub fn grants(options: &Install) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    if let Some(role) = options.app_role.as_deref().map(quoted) {
        let _ = write!(
            text,
            "-- The service: it inserts, and may ask for the event id that it was given.
grant usage on schema outbox to {role};
grant insert ({SERVICE_COLUMNS}), select (event_id) on outbox.event to {role};
grant execute on function outbox.is_json(text), outbox.ring_doorbell() to {role};
"
        );
    }
    if let Some(role) = options.relay_role.as_deref().map(quoted) {
        let _ = write!(
            text,
            "-- outboxd: it reads, empties published slots, and keeps its own books.
grant usage on schema outbox to {role};
grant select on outbox.event, outbox.relay, outbox.ahead, outbox.dead_letter, outbox.migration to {role};
grant select, truncate on outbox.event_0, outbox.event_1, outbox.event_2, outbox.event_3 to {role};
grant update on outbox.relay to {role};
grant insert, delete on outbox.ahead to {role};
grant insert, update, delete on outbox.dead_letter to {role};
"
        );
    }
    text
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_is_quoted() {
        let options = Install {
            relay_role: Some("a\"b".into()),
            app_role: None,
            slot: Duration::from_secs(1800),
        };
        assert!(grants(&options).contains("to \"a\"\"b\";"));
        assert!(!show(0, &options).contains("{slot_seconds}"));
        assert!(!show(1, &options).contains("create schema"));
    }
}
