//! Looks a database over without changing anything in it.

use tokio_postgres::Row;

use super::connect::connect;
use super::error::OutboxError;
use super::session::identify;
use crate::config::Source;
use crate::logic::finding::{Finding, Level};

/// Visits the database of a source.
pub async fn examine(source: &Source) -> Vec<Finding> {
    let target = format!("source {}", source.name);
    match look(source, &target).await {
        Ok(findings) => findings,
        Err(error) => vec![Finding::new(&target, level(&error), &error)],
    }
}

async fn look(source: &Source, target: &str) -> Result<Vec<Finding>, OutboxError> {
    let link = connect(&source.database, "outboxd check").await?;
    let good = |text: String| Finding::new(target, Level::Good, text);
    let mut findings = vec![good(format!(
        "reached {} as \"{}\"",
        source.database.display, link.server.role
    ))];
    let identity = identify(&link.client).await?;
    findings.push(good(format!(
        "schema found, timeline {}",
        identity.timeline
    )));
    let row = link
        .client
        .query_one(include_str!("../../sql/doctor.sql"), &[])
        .await?;
    findings.extend(problems(&row, source, target)?);
    link.close().await;
    Ok(findings)
}

fn problems(row: &Row, source: &Source, target: &str) -> Result<Vec<Finding>, OutboxError> {
    let mut found = Vec::new();
    let mut tell = |level, text: String| found.push(Finding::new(target, level, text));
    let role: String = row.try_get("role")?;
    if !row.try_get::<_, bool>("rights")? {
        tell(
            Level::Privilege,
            format!("role \"{role}\" lacks rights: run what `outboxd sql grants` prints"),
        );
    }
    if row.try_get("superuser")? {
        tell(
            Level::Advice,
            format!("role \"{role}\" is a superuser: use one of its own, see `outboxd sql grants`"),
        );
    } else if row.try_get("owner")? {
        tell(
            Level::Advice,
            format!("role \"{role}\" owns the outbox: use one that owns nothing"),
        );
    }
    if row.try_get::<_, i64>("cache")? != 1 {
        tell(
            Level::Shape,
            "the sequence of outbox.event.id is cached, which reorders events: run `alter table outbox.event alter \
             column id set cache 1`"
                .to_owned(),
        );
    }
    if let Some(other) = row
        .try_get::<_, Option<String>>("source")?
        .filter(|name| *name != source.name)
    {
        tell(
            Level::Shape,
            format!(
                "the database belongs to source \"{other}\": name it so, or run `outboxd sql rename`"
            ),
        );
    }
    if !row.try_get::<_, bool>("same_database")? {
        tell(
            Level::Shape,
            format!(
                "this is another database than the one that was relayed: accept it with `outboxd sql rebase --source {}`",
                source.name
            ),
        );
    }
    if row.try_get::<_, i32>("max_prepared_transactions")? > 0 {
        tell(
            Level::Advice,
            "max_prepared_transactions is above 0, so an idle source is read every 50 ms instead of being woken".to_owned(),
        );
    }
    let letters: i64 = row.try_get("dead_letters")?;
    if letters > 0 {
        tell(
            Level::Advice,
            format!(
                "{letters} dead letters wait: see `outboxd dead-letters list --source {}`",
                source.name
            ),
        );
    }
    let oldest: Option<i64> = row.try_get("oldest_transaction_s")?;
    if let Some(seconds) = oldest.filter(|seconds| *seconds > 3600) {
        tell(
            Level::Advice,
            format!(
                "a transaction has been open for {seconds} s: it keeps slots of the ring from being emptied"
            ),
        );
    }
    Ok(found)
}

fn level(error: &OutboxError) -> Level {
    match error.exit_code() {
        65 => Level::Shape,
        77 => Level::Privilege,
        78 => Level::Config,
        _ => Level::Unreachable,
    }
}
