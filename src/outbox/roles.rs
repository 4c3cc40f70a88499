//! The roles of a schema: who is refused, who has rights already, and granting them anew. Never makes a role.

use tokio_postgres::Transaction;

use super::error::OutboxError;
use super::grants;
use super::install::Install;

/// The named roles must exist, and outboxd's may not be one that could do more than its grants say.
pub(super) async fn check(
    transaction: &Transaction<'_>,
    options: &Install,
) -> Result<(), OutboxError> {
    let named = [&options.relay_role, &options.app_role];
    for role in named.into_iter().flatten() {
        let query = "select rolsuper or rolname = current_user from pg_roles where rolname = $1";
        let Some(row) = transaction.query_opt(query, &[role]).await? else {
            return Err(OutboxError::RoleMissing { role: role.clone() });
        };
        if row.try_get(0)? && Some(role) == options.relay_role.as_ref() {
            return Err(too_mighty(role));
        }
    }
    if options.relay_role.is_some() && options.relay_role == options.app_role {
        let reason = "--relay-role and --app-role must be two roles".to_owned();
        return Err(OutboxError::Refused { reason });
    }
    Ok(())
}

fn too_mighty(role: &str) -> OutboxError {
    let reason = format!(
        "role \"{role}\" is a superuser or the owner: give outboxd a role of its own, `create role outboxd login`"
    );
    OutboxError::Refused { reason }
}

/// Gives the named roles their rights, and renews those of the roles that had them. Says what the operator should know.
pub(super) async fn grant(
    transaction: &Transaction<'_>,
    options: &Install,
) -> Result<Vec<String>, OutboxError> {
    let mut notices = Vec::new();
    let query = "select pg_get_userbyid(nspowner)::text from pg_namespace where nspname = 'outbox'";
    let owner: String = transaction.query_one(query, &[]).await?.try_get(0)?;
    for role in with(transaction, SERVICES, options.app_role.as_deref()).await? {
        if role == owner {
            notices.push(format!(
                "role \"{role}\" owns the outbox and may do anything to it: better give the service a role of its own"
            ));
            continue;
        }
        transaction.batch_execute(&grants::service(&role)).await?;
    }
    for role in with(transaction, RELAYS, options.relay_role.as_deref()).await? {
        if role == owner {
            return Err(too_mighty(&role));
        }
        transaction.batch_execute(&grants::relay(&role)).await?;
        transaction.batch_execute(&grants::pin(&role)).await?;
        if !is_pinned(transaction, &role).await? {
            notices.push(unpinned(&role));
        }
    }
    Ok(notices)
}

/// Those that may insert.
const SERVICES: &str = "select pg_get_userbyid(acl.grantee)::text
    from pg_attribute as attribute, aclexplode(attribute.attacl) as acl, pg_class as class
    where class.oid = attribute.attrelid and class.oid = 'outbox.event'::regclass and attribute.attname = 'topic'
      and acl.privilege_type = 'INSERT' and acl.grantee not in (0, class.relowner)";

/// Those that may lead.
const RELAYS: &str = "select pg_get_userbyid(acl.grantee)::text
    from pg_class as class, aclexplode(class.relacl) as acl
    where class.oid = 'outbox.relay'::regclass and acl.privilege_type = 'UPDATE'
      and acl.grantee not in (0, class.relowner)";

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
