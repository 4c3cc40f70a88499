//! Services that write as nastily as a correct service may, and remember what they did.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Error};
use uuid::Uuid;

use crate::support::history::{Attempt, Log, Outcome, Row};
use crate::world::Service;

const KEYS: u64 = 20;

/// Makes the aggregates that put the writers of a key in order, a table that does not, and the ledger.
pub(crate) fn prepare(service: &Service<'_>) {
    let app = format!("{}_app", service.name);
    service.execute(&format!(
        "create table aggregate (key text primary key, version bigint not null);
         create table audit (at timestamptz default now());
         create table ledger (id uuid primary key);
         insert into aggregate select 'k-' || n, 0 from generate_series(0, {KEYS} - 1) n;
         grant select, update on aggregate to {app};
         grant insert on audit to {app}; grant insert on ledger to {app}"
    ));
}

/// What a writer writes to and where it notes it.
#[derive(Clone, Copy)]
pub(crate) struct Writer<'a> {
    pub(crate) service: &'a Service<'a>,
    /// Where its events go.
    pub(crate) topics: &'a [String],
    /// Where the records of sagas appear.
    pub(crate) sagas: &'a str,
    pub(crate) log: &'a Log,
    /// Whether the server takes PREPARE TRANSACTION.
    pub(crate) prepares: bool,
    /// Between two transactions it rests for less than so many milliseconds.
    pub(crate) rest_ms: u64,
    /// Bytes of the few payloads that are large.
    pub(crate) large: i32,
}

/// A source of choices that needs no quality but the same every time.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn below(&mut self, sides: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    pub(crate) fn one_in(&mut self, sides: u64) -> bool {
        self.below(sides) == 0
    }

    async fn nap(&mut self, most_ms: u64) {
        tokio::time::sleep(Duration::from_millis(self.below(most_ms))).await;
    }
}

/// A transaction while it is written.
struct Draft {
    id: Uuid,
    rows: Vec<Row>,
    /// Whether it may be prepared and not yet decided.
    prepared: bool,
}

impl Writer<'_> {
    /// Writes until `stop`. A server that goes away is come back to; any other error fails.
    pub(crate) async fn run(self, seed: u64, stop: &AtomicBool) {
        let mut dice = Dice(seed);
        let mut client = self.connect().await;
        let mut number = 0;
        while !stop.load(Ordering::Relaxed) {
            number += 1;
            let name = format!("{}-{seed}-{number}", self.service.name);
            let mut draft = Draft {
                id: Uuid::new_v4(),
                rows: Vec::new(),
                prepared: false,
            };
            let ended = self
                .transaction(&client, &mut dice, &name, &mut draft)
                .await;
            let (outcome, good) = ended.unwrap_or_else(|error| {
                assert!(is_gone(&error), "{error:?}");
                (Outcome::Unknown, false)
            });
            if !good {
                client = self.connect().await;
            }
            while draft.prepared && self.forget(&client, draft.id).await.is_err() {
                client = self.connect().await;
            }
            self.log.note(Attempt {
                id: draft.id,
                outcome,
                rows: draft.rows,
            });
            dice.nap(self.rest_ms).await;
        }
    }

    /// Waits for a server that is away.
    async fn connect(&self) -> Client {
        let app = format!("{}_app", self.service.name);
        let until = Instant::now() + Duration::from_secs(120);
        loop {
            match self.service.try_connect_as(&app).await {
                Ok(client) => return client,
                Err(error) => assert!(is_gone(&error) && Instant::now() < until, "{error:?}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Rolls back what was prepared before the connection ended, if it still is: it would hold its keys for ever.
    async fn forget(&self, client: &Client, id: Uuid) -> Result<(), Error> {
        let rolled_back = client
            .batch_execute(&format!("rollback prepared '{id}'"))
            .await;
        match rolled_back {
            Err(error) if error.code() == Some(&SqlState::UNDEFINED_OBJECT) => Ok(()),
            Err(error) => {
                assert!(is_gone(&error), "{error:?}");
                Err(error)
            }
            Ok(()) => Ok(()),
        }
    }

    /// One transaction: how it ended, and whether the connection is still good.
    async fn transaction(
        &self,
        client: &Client,
        dice: &mut Dice,
        name: &str,
        draft: &mut Draft,
    ) -> Result<(Outcome, bool), Error> {
        let run = async |statement: &str| client.batch_execute(statement).await;
        run("begin").await?;
        // A commit that is not flushed may be taken back, so its answer proves nothing.
        let lasting = !dice.one_in(3);
        if !lasting {
            run("set local synchronous_commit = off").await?;
        }
        if dice.one_in(2) {
            // It has its number before it has any key.
            run("insert into audit default values").await?;
            dice.nap(8).await;
        }
        client
            .execute("insert into ledger values ($1)", &[&draft.id])
            .await?;
        // Two keys are taken in one order, or two writers would wait for each other.
        let mut keys = [dice.below(KEYS), dice.below(KEYS)];
        keys.sort_unstable();
        let count = 1 + usize::try_from(dice.below(2)).unwrap();
        for (turn, key) in keys.iter().take(count).enumerate() {
            let (key, mark) = (format!("k-{key}"), format!("{name}-{turn}"));
            if dice.one_in(4) {
                run("savepoint oops").await?;
                self.bump(client, dice, &key, &format!("{mark}-oops"))
                    .await?;
                run("rollback to oops").await?;
            }
            let nested = dice.below(4);
            for depth in 0..nested {
                run(&format!("savepoint s{depth}")).await?;
            }
            let rows = self.bump(client, dice, &key, &mark).await?;
            draft.rows.extend(rows);
            if nested > 1 {
                run("release s1").await?;
            }
            if dice.one_in(8) {
                // No key, no order, but no less to be kept.
                let row = self.keyless(client, &format!("{mark}-free")).await?;
                draft.rows.push(row);
            }
            dice.nap(5).await;
        }
        self.end(client, dice, draft, lasting).await
    }

    async fn end(
        &self,
        client: &Client,
        dice: &mut Dice,
        draft: &mut Draft,
        lasting: bool,
    ) -> Result<(Outcome, bool), Error> {
        let committed = if lasting {
            Outcome::Committed
        } else {
            Outcome::Unknown
        };
        let run = async |statement: &str| client.batch_execute(statement).await;
        match dice.below(12) {
            0 | 1 => {
                run("rollback").await?;
                Ok((Outcome::RolledBack, true))
            }
            2 if self.prepares => {
                let id = draft.id;
                draft.prepared = true;
                run(&format!("prepare transaction '{id}'")).await?;
                dice.nap(40).await;
                let roll_back = dice.one_in(4);
                let word = if roll_back { "rollback" } else { "commit" };
                run(&format!("{word} prepared '{id}'")).await?;
                draft.prepared = false;
                Ok(if roll_back {
                    (Outcome::RolledBack, true)
                } else {
                    // This one is always flushed.
                    (Outcome::Committed, true)
                })
            }
            3 if dice.one_in(3) => {
                // The answer is not waited for: only the ledger knows.
                tokio::select! {
                    biased;
                    _ = client.batch_execute("commit") => {}
                    () = tokio::task::yield_now() => {}
                }
                Ok((Outcome::Unknown, false))
            }
            _ => {
                run("commit").await?;
                Ok((committed, true))
            }
        }
    }

    /// Raises a key's version by one to three and writes an event of each in one statement: to any topic, of a saga or not,
    /// small or large, some with one event id in two rows, and all with the time of the transaction's begin.
    async fn bump(
        &self,
        client: &Client,
        dice: &mut Dice,
        key: &str,
        name: &str,
    ) -> Result<Vec<Row>, Error> {
        let count = i64::try_from(1 + dice.below(3)).unwrap();
        let update = "update aggregate set version = version + $2 where key = $1 returning version";
        let version: i64 = client.query_one(update, &[&key, &count]).await?.get(0);
        let versions: Vec<i64> = (version - count + 1..=version).collect();
        let marks: Vec<String> = versions
            .iter()
            .map(|version| format!("{name}/{version}"))
            .collect();
        let any = |dice: &mut Dice| {
            self.topics[usize::try_from(dice.below(self.topics.len() as u64)).unwrap()].clone()
        };
        let topics: Vec<String> = versions.iter().map(|_| any(dice)).collect();
        let same = dice.one_in(6).then(Uuid::new_v4);
        let ids: Vec<Uuid> = versions
            .iter()
            .map(|_| same.unwrap_or_else(Uuid::new_v4))
            .collect();
        let saga = dice.one_in(2).then_some(key);
        let pad: i32 = if dice.one_in(60) { self.large } else { 20 };
        let insert = "insert into outbox.event
              (topic, key, event_type, payload, created_at, event_id, saga_type, saga_id, saga_state)
            select t.topic, $4, 'Bumped', json_build_object('mark', t.mark, 'pad', repeat('x', $6))::text, now(), t.id,
              case when $5::text is not null then 'bump' end, $5, case when $5 is not null then t.mark end
            from unnest($1::text[], $2::text[], $3::uuid[]) with ordinality as t (topic, mark, id, n) order by n";
        client
            .execute(insert, &[&topics, &marks, &ids, &key, &saga, &pad])
            .await?;
        let mut rows = Vec::new();
        for ((topic, mark), version) in topics.into_iter().zip(marks).zip(versions) {
            let row = |topic| Row {
                source: self.service.name.clone(),
                topic,
                key: Some(key.to_owned()),
                mark: mark.clone(),
                version,
            };
            rows.push(row(topic));
            rows.extend(saga.map(|_| row(self.sagas.to_owned())));
        }
        Ok(rows)
    }

    async fn keyless(&self, client: &Client, mark: &str) -> Result<Row, Error> {
        let insert = "insert into outbox.event (topic, event_type, payload)
            values ($1, 'Noted', json_build_object('mark', $2::text)::text)";
        client.execute(insert, &[&self.topics[0], &mark]).await?;
        Ok(Row {
            source: self.service.name.clone(),
            topic: self.topics[0].clone(),
            key: None,
            mark: mark.to_owned(),
            version: 0,
        })
    }
}

/// Whether an error says that the server, or our way to it, went away. A statement that was wrong is none of these.
fn is_gone(error: &Error) -> bool {
    error.as_db_error().is_none_or(|error| {
        let code = error.code();
        // Among them: shut down by an operator, after a crash, not yet to be connected to.
        code.code().starts_with("57P") || code.code().starts_with("08")
    })
}

/// A transaction with a number that stays open for seconds, over and over.
pub(crate) async fn bystander(service: &Service<'_>, stop: &AtomicBool) {
    let client = service.connect().await;
    while !stop.load(Ordering::Relaxed) {
        client
            .batch_execute("begin; insert into audit default values")
            .await
            .unwrap();
        let until = Instant::now() + Duration::from_secs(5);
        while Instant::now() < until && !stop.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        client.batch_execute("commit").await.unwrap();
    }
}
