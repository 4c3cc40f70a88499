//! Creating and upgrading the outbox schema, by the owner of a service's database. Never touches a table of the
//! service, and never changes a row but the one of `outbox.relay`.

use std::time::Duration;

use tokio_postgres::Transaction;

use super::connect::Link;
use super::error::{OutboxError, SCHEMA_VERSION};
use super::grants;

/// Every version's migration, oldest first. One is never changed once it was released.
const MIGRATIONS: [(i32, &str); 1] = [(1, include_str!("../../sql/0001_outbox.sql"))];

/// The oldest PostgreSQL that outboxd works with.
const OLDEST_SERVER: u32 = 140_000;

/// How long a slot of the ring is written unless somebody says otherwise.
pub const SLOT: Duration = Duration::from_secs(30 * 60);

/// What an installation may be told.
#[derive(Debug, Clone, Default)]
pub struct Install {
    /// The role that outboxd connects as.
    pub relay_role: Option<String>,
    /// The role that the service connects as.
    pub app_role: Option<String>,
    /// How long a slot of the ring is written; `None` leaves it as it is, or takes [`SLOT`].
    pub slot: Option<Duration>,
}

/// What an installation did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    /// The version found; 0 if there was no schema.
    pub from: i32,
    /// The version now.
    pub to: i32,
    /// What the operator should know.
    pub notices: Vec<String>,
}

/// Installs or upgrades the schema and renews the grants, all or nothing.
///
/// Waits 2 s for locks at most, so that it never queues in front of the service for longer. Roles that have rights
/// already keep them, also when none is named.
pub async fn install(link: &mut Link, options: &Install) -> Result<Installed, OutboxError> {
    if link.server.standby {
        let server = link.server.display.clone();
        return Err(OutboxError::Standby { server });
    }
    if link.server.version < OLDEST_SERVER {
        let found = format!("{}", link.server.version / 10_000);
        return Err(OutboxError::ServerVersion { found });
    }
    let transaction = link.client.transaction().await?;
    // The lock makes a second installation wait and then find the first one's work.
    transaction
        .batch_execute(
            "set local lock_timeout = '2s'; set local statement_timeout = '60s'; \
             set local synchronous_commit = on; select pg_advisory_xact_lock(1870034018, 2)",
        )
        .await?;
    let installed = carry_out(&transaction, options)
        .await
        .map_err(OutboxError::for_owner)?;
    transaction.commit().await?;
    Ok(installed)
}

async fn carry_out(
    transaction: &Transaction<'_>,
    options: &Install,
) -> Result<Installed, OutboxError> {
    check_roles(transaction, options).await?;
    let from = version(transaction).await?;
    if from > SCHEMA_VERSION {
        return Err(OutboxError::SchemaVersion { found: from });
    }
    let slot = options.slot.unwrap_or(SLOT);
    for migration in behind(from) {
        transaction.batch_execute(&fill(migration, slot)).await?;
    }
    if let Some(slot) = options.slot {
        set_slot(transaction, slot).await?;
    }
    let mut notices = Vec::new();
    for role in services(transaction, options).await? {
        transaction.batch_execute(&grants::service(&role)).await?;
    }
    for role in relays(transaction, options).await? {
        transaction.batch_execute(&grants::relay(&role)).await?;
        transaction.batch_execute(&grants::pin(&role)).await?;
        if !is_pinned(transaction, &role).await? {
            notices.push(unpinned(&role));
        }
    }
    Ok(Installed {
        from,
        to: SCHEMA_VERSION,
        notices,
    })
}

/// All migrations behind version `from` as one text, for tools that run migrations themselves.
pub fn show(from: i32, options: &Install) -> String {
    let mut text = String::from(HEAD);
    for migration in behind(from) {
        text.push_str(&fill(migration, options.slot.unwrap_or(SLOT)));
        text.push('\n');
    }
    if let Some(slot) = options.slot.filter(|_| from > 0) {
        text.push_str(&slot_statements(slot));
    }
    text.push_str(&rights(options));
    text
}

const HEAD: &str = "-- The outbox schema of outboxd. Run it in one transaction, as the database's owner (with Liquibase: \
                    splitStatements:false).\n\nset local lock_timeout = '2s';\n\n";

/// The statements that give the named roles what they need and nothing else.
pub fn rights(options: &Install) -> String {
    let mut text = String::new();
    if let Some(role) = &options.app_role {
        text.push_str(&grants::service(role));
    }
    if let Some(role) = &options.relay_role {
        text.push_str(&grants::relay(role));
        text.push_str(&grants::pin(role));
    }
    text
}

fn behind(from: i32) -> impl Iterator<Item = &'static str> {
    let migrations = MIGRATIONS
        .iter()
        .filter(move |(version, _)| *version > from);
    migrations.map(|(_, migration)| *migration)
}

fn fill(migration: &str, slot: Duration) -> String {
    migration.replace("{slot_seconds}", &slot.as_secs().to_string())
}

/// Takes a lock on `outbox.event` that waits for writers, hence only when something changes.
async fn set_slot(transaction: &Transaction<'_>, slot: Duration) -> Result<(), OutboxError> {
    let query = "select slot_seconds::bigint from outbox.relay";
    let seconds: i64 = transaction.query_one(query, &[]).await?.try_get(0)?;
    if u64::try_from(seconds) != Ok(slot.as_secs()) {
        transaction.batch_execute(&slot_statements(slot)).await?;
    }
    Ok(())
}

/// Another slot length concerns new rows only, and is safe for the rows in the ring: a row is read by its transaction
/// wherever it lies, and a slot is emptied by what is in it, under a lock that its writers hold as well. Only how
/// long published rows stay is uneven once.
fn slot_statements(slot: Duration) -> String {
    let seconds = slot.as_secs();
    format!(
        "alter table outbox.event alter column slot set default
  ((floor(extract(epoch from transaction_timestamp()))::bigint / {seconds}) % 4)::smallint;
update outbox.relay set slot_seconds = {seconds};
"
    )
}

async fn version(transaction: &Transaction<'_>) -> Result<i32, OutboxError> {
    let query = "select to_regclass('outbox.migration') is not null, \
                 exists (select from pg_class where relnamespace = to_regnamespace('outbox'))";
    let found = transaction.query_one(query, &[]).await?;
    if found.try_get(0)? {
        let query = "select coalesce(max(version), 0) from outbox.migration";
        return Ok(transaction.query_one(query, &[]).await?.try_get(0)?);
    }
    if found.try_get(1)? {
        let reason = "the schema \"outbox\" of this database holds tables that are not outboxd's: rename it with \
                      `alter schema outbox rename to …` first";
        return Err(OutboxError::Refused {
            reason: reason.to_owned(),
        });
    }
    Ok(0)
}

/// outboxd's role may not be one that could do more than its grants say.
async fn check_roles(transaction: &Transaction<'_>, options: &Install) -> Result<(), OutboxError> {
    let refused = |reason: String| Err(OutboxError::Refused { reason });
    let named = [&options.relay_role, &options.app_role];
    for role in named.into_iter().flatten() {
        let query = "select rolsuper, rolname = current_user from pg_roles where rolname = $1";
        let Some(row) = transaction.query_opt(query, &[role]).await? else {
            return Err(OutboxError::RoleMissing { role: role.clone() });
        };
        let mighty: bool = row.try_get::<_, bool>(0)? || row.try_get(1)?;
        if mighty && Some(role) == options.relay_role.as_ref() {
            return refused(format!(
                "role \"{role}\" is a superuser or the owner: give outboxd a role of its own, `create role outboxd login`"
            ));
        }
    }
    if options.relay_role.is_some() && options.relay_role == options.app_role {
        return refused("--relay-role and --app-role must be two roles".to_owned());
    }
    Ok(())
}

/// The services' roles: the named one, and those that had the right before.
async fn services(
    transaction: &Transaction<'_>,
    options: &Install,
) -> Result<Vec<String>, OutboxError> {
    let had = "select pg_get_userbyid(acl.grantee)::text
        from pg_attribute as attribute, aclexplode(attribute.attacl) as acl, pg_class as class
        where class.oid = attribute.attrelid and class.oid = 'outbox.event'::regclass and attribute.attname = 'topic'
          and acl.privilege_type = 'INSERT' and acl.grantee not in (0, class.relowner)";
    with(transaction, had, options.app_role.as_deref()).await
}

/// The same of outboxd's.
async fn relays(
    transaction: &Transaction<'_>,
    options: &Install,
) -> Result<Vec<String>, OutboxError> {
    let had = "select pg_get_userbyid(acl.grantee)::text
        from pg_class as class, aclexplode(class.relacl) as acl
        where class.oid = 'outbox.relay'::regclass and acl.privilege_type = 'UPDATE'
          and acl.grantee not in (0, class.relowner)";
    with(transaction, had, options.relay_role.as_deref()).await
}

async fn with(
    transaction: &Transaction<'_>,
    query: &str,
    named: Option<&str>,
) -> Result<Vec<String>, OutboxError> {
    let mut roles: Vec<String> = named.map(str::to_owned).into_iter().collect();
    for row in transaction.query(query, &[]).await? {
        let role: String = row.try_get(0)?;
        if !roles.contains(&role) {
            roles.push(role);
        }
    }
    Ok(roles)
}

async fn is_pinned(transaction: &Transaction<'_>, role: &str) -> Result<bool, OutboxError> {
    let query = "select exists (select from pg_db_role_setting
        where setrole = (select oid from pg_roles where rolname = $1)
          and setdatabase = (select oid from pg_database where datname = current_database())
          and setconfig @> array['plan_cache_mode=force_generic_plan'])";
    Ok(transaction.query_one(query, &[&role]).await?.try_get(0)?)
}

fn unpinned(role: &str) -> String {
    let settings = grants::PINNED.map(|(name, value)| format!("{name} = {value}"));
    format!(
        "the settings of role \"{role}\" were left alone, which matters behind a pooler only: a role that may should run \
         `alter role {} in database … set …` with {}",
        grants::quoted(role),
        settings.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_whole() {
        let options = Install {
            slot: Some(Duration::from_secs(7)),
            ..Install::default()
        };
        assert!(show(0, &options).contains("::bigint / 7) % 4"));
        assert!(!show(0, &options).contains("{slot_seconds}"));
        assert!(!show(1, &options).contains("create schema"));
        assert!(show(1, &options).contains("slot_seconds = 7"));
        assert!(!show(1, &Install::default()).contains("slot_seconds"));
    }
}
