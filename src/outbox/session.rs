//! One database session of one source, from its first question to its end. Never survives a doubt: after an error it
//! is dropped, and what it knew with it.

use std::time::Duration;

use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row, Statement};
use uuid::Uuid;

use super::connect::{self, Link};
use super::error::{OutboxError, SCHEMA_VERSION};
use crate::config::Database;
use crate::failpoint::{self, Point, Sabotage, sabotaged};
use crate::logic::lease::{Holder, Lease};
use crate::logic::window::{Page, Position};

/// A session that may read and settle one source.
#[derive(Debug)]
pub struct Session {
    pub(super) link: Link,
    pub(super) statements: Statements,
    /// What it is connected to.
    pub identity: Identity,
}

/// What a session is connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Of the cluster; a restored dump has another.
    pub system_identifier: i64,
    /// Of the database in the cluster.
    pub database_oid: u32,
    /// Rises with every promotion of a standby.
    pub timeline: u32,
    /// Whether NOTIFY may be used: PREPARE TRANSACTION forbids it.
    pub prepares: bool,
}

/// The one row of `outbox.relay`, as somebody who does not lead sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seat {
    /// The source that this database belongs to; `None` before its first leader.
    pub source: Option<String>,
    /// Who leads.
    pub lease: Lease,
    /// Made with the schema; tells a schema that was created anew.
    pub incarnation: Uuid,
    /// The cluster that the position belongs to.
    pub system_identifier: i64,
    /// The database that the position belongs to.
    pub database_oid: u32,
}

/// How far a source has come, as its leader finds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// How far it has been settled.
    pub position: Position,
    /// The last checkpoint that the database includes.
    pub batch: i64,
    /// The offset behind it.
    pub checkpoint_next: i64,
}

macro_rules! statements {
    ($($name:ident),+ $(,)?) => {
        #[derive(Debug)]
        pub(super) struct Statements { $(pub(super) $name: Statement),+ }

        impl Statements {
            /// Prepares all of them in one round trip.
            async fn prepare(client: &Client) -> Result<Self, OutboxError> {
                let ($($name),+) = tokio::try_join!(
                    $(prepare(client, include_str!(concat!("../../sql/", stringify!($name), ".sql")))),+
                )?;
                Ok(Self { $($name),+ })
            }
        }
    };
}

/// Prepares a statement as it is, unless a negative control takes the epoch out of it.
async fn prepare(
    client: &Client,
    statement: &'static str,
) -> Result<Statement, tokio_postgres::Error> {
    if sabotaged(Sabotage::NoEpochCheck) {
        let anyone = statement.replace("where epoch = $1", "where $1::bigint is not null");
        return client.prepare(&anyone).await;
    }
    client.prepare(statement).await
}

statements! {
    poll, large, page, scanned, flushed, position, settle, absorb, lease_look, lease_take, lease_return, renew, ahead_add, ahead_list,
    ahead_trim, dead_letter_add, dead_letter_blocked, dead_letter_count,
    dead_letter_drop, dead_letter_due, dead_letter_judge, dead_letter_queue, dead_letter_remove, backlog, ring, doorbell_evict,
}

impl Session {
    /// Connects, and makes sure that this is a primary with a schema that we know.
    ///
    /// Plans are pinned: a plan made while the table was empty would read all of a backlog for each
    /// batch. Commits are asynchronous: a lost one is found again in the checkpoints.
    pub async fn open(database: &Database, instance: &str) -> Result<Self, OutboxError> {
        let link = connect::connect(database, &format!("outboxd {instance}")).await?;
        link.client
            .batch_execute(include_str!("../../sql/pin.sql"))
            .await?;
        let identity = identify(&link.client).await?;
        let statements = Box::pin(Statements::prepare(&link.client)).await?;
        Ok(Self {
            link,
            statements,
            identity,
        })
    }

    /// Who leads.
    pub async fn seat(&self) -> Result<Seat, OutboxError> {
        let row = self
            .link
            .client
            .query_opt(&self.statements.lease_look, &[])
            .await?;
        let row = row.ok_or_else(|| OutboxError::WrongShape {
            reason: "outbox.relay has no row".to_owned(),
        })?;
        let (instance, process): (Option<String>, Option<String>) =
            (row.try_get(1)?, row.try_get(2)?);
        let holder = instance
            .zip(process)
            .map(|(instance, process)| Holder { instance, process });
        let remaining: i64 = row.try_get(4)?;
        let remaining = Duration::from_millis(remaining.try_into().unwrap_or(0));
        Ok(Seat {
            source: row.try_get(0)?,
            lease: Lease {
                holder,
                epoch: row.try_get(3)?,
                until: row.try_get(8)?,
                remaining,
            },
            incarnation: row.try_get(5)?,
            system_identifier: row.try_get(6)?,
            database_oid: row.try_get(7)?,
        })
    }

    /// Takes the lease that was seen with `epoch`; `None` if somebody else was quicker.
    ///
    /// Flushed at once, unlike a settlement: were it lost, two daemons could believe in one epoch.
    pub async fn take(
        &mut self,
        epoch: i64,
        source: &str,
        me: &Holder,
        lease: Duration,
    ) -> Result<Option<i64>, OutboxError> {
        let transaction = self.link.client.transaction().await?;
        transaction
            .batch_execute("set local synchronous_commit = local")
            .await?;
        let lease_ms = as_ms(lease);
        let parameters: [&(dyn ToSql + Sync); 5] =
            [&epoch, &source, &me.instance, &me.process, &lease_ms];
        let row = transaction
            .query_opt(&self.statements.lease_take, &parameters)
            .await?;
        failpoint::pass(Point::LeaseTake);
        transaction.commit().await?;
        Ok(row.map(|row| row.try_get(0)).transpose()?)
    }

    /// Renews the lease, and finds out whether it is still ours.
    pub async fn renew(&self, epoch: i64, lease: Duration) -> Result<(), OutboxError> {
        let written = self
            .link
            .client
            .execute(&self.statements.renew, &[&epoch, &as_ms(lease)])
            .await?;
        failpoint::pass(Point::LeaseRenew);
        if written == 1 {
            Ok(())
        } else {
            Err(OutboxError::Fenced)
        }
    }

    /// Lets another daemon lead at once.
    pub async fn hand_back(&self, epoch: i64) -> Result<(), OutboxError> {
        self.link
            .client
            .execute(&self.statements.lease_return, &[&epoch])
            .await?;
        Ok(())
    }

    /// How far the source has come, if `epoch` still leads it.
    pub async fn standing(&self, epoch: i64) -> Result<Standing, OutboxError> {
        let row = self
            .link
            .client
            .query_opt(&self.statements.position, &[&epoch])
            .await?;
        standing_of(&row.ok_or(OutboxError::Fenced)?)
    }

    /// Whether the connection is gone.
    pub fn is_closed(&self) -> bool {
        self.link.client.is_closed()
    }
}

/// The first columns of position.sql.
pub(super) fn standing_of(row: &Row) -> Result<Standing, OutboxError> {
    let snapshot = |text: &str| {
        text.parse().map_err(|error| OutboxError::WrongShape {
            reason: format!("outbox.relay: {error}"),
        })
    };
    let upto: Option<&str> = row.try_get(1)?;
    let after: Option<i64> = row.try_get(2)?;
    let page = match upto.zip(after) {
        Some((upto, after)) => Some(Page {
            upto: snapshot(upto)?,
            after,
        }),
        None => None,
    };
    Ok(Standing {
        position: Position {
            seen: snapshot(row.try_get(0)?)?,
            page,
        },
        batch: row.try_get(3)?,
        checkpoint_next: row.try_get(4)?,
    })
}

pub(super) async fn identify(client: &Client) -> Result<Identity, OutboxError> {
    let row = client
        .query_one(include_str!("../../sql/identify.sql"), &[])
        .await?;
    let version: Option<i32> = row.try_get("schema_version")?;
    let found = version.unwrap_or(0);
    if !(SCHEMA_VERSION - 1..=SCHEMA_VERSION).contains(&found) || found == 0 {
        return Err(OutboxError::SchemaVersion { found });
    }
    let timeline: Option<&str> = row.try_get("timeline_hex")?;
    let timeline = timeline.and_then(|hex| u32::from_str_radix(hex, 16).ok());
    let no_timeline = || OutboxError::WrongShape {
        reason: "the server does not tell its timeline".to_owned(),
    };
    let prepared: i32 = row.try_get("max_prepared_transactions")?;
    Ok(Identity {
        system_identifier: row.try_get("system_identifier")?,
        database_oid: row.try_get("database_oid")?,
        timeline: timeline.ok_or_else(no_timeline)?,
        prepares: prepared > 0,
    })
}

pub(super) fn as_ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
