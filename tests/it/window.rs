//! Windows that are too large to be sorted: read in small steps, each row once, whatever commits meanwhile.

use std::path::Path;
use std::time::Duration;

use outboxd::config::database;
use outboxd::logic::lease::Holder;
use outboxd::logic::window::{Page, Position};
use outboxd::outbox::{Effort, Limits, Session};
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::site::VERSIONS;
use crate::support::{block_on, postgres};
use crate::world::Service;

const LIMITS: Limits = Limits {
    events: 10,
    bytes: 1 << 20,
};
/// So little that a backlog of a few hundred rows is large.
const EFFORT: Effort = Effort {
    sorted: 30,
    passed: 25,
};

async fn session(service: &Service<'_>) -> Session {
    let url = service
        .postgres
        .url(&format!("{}_relay", service.name), &service.name);
    let database = database::parse(&url, Path::new("")).unwrap();
    Session::open(&database, "test").await.unwrap()
}

async fn insert(client: &Client, rows: i32) {
    let insert =
        "insert into outbox.event (topic, event_type) select 't', 'E' from generate_series(1, $1)";
    client.execute(insert, &[&rows]).await.unwrap();
}

/// A transaction that has drawn the next ids and is not committed.
async fn open(service: &Service<'_>, rows: i32) -> Client {
    let client = service.connect().await;
    client.batch_execute("begin").await.unwrap();
    insert(&client, rows).await;
    client
}

/// Reads until `position` has no more; gives the ids of each read.
async fn read_all(session: &Session, position: &mut Position) -> Vec<Vec<i64>> {
    let mut reads = Vec::new();
    loop {
        let read = session.read(position, LIMITS, EFFORT).await.unwrap();
        reads.push(read.events.iter().map(|event| event.id).collect());
        *position = read.position;
        if !read.more {
            return reads;
        }
    }
}

#[test]
fn a_large_window_is_read_in_small_steps_and_each_row_once() {
    let service = Service::install(postgres(16), "window");
    block_on(async {
        let mut session = session(&service).await;
        let me = Holder {
            instance: "test".to_owned(),
            process: String::new(),
        };
        let lease = Duration::from_secs(600);
        let epoch = session.take(0, "window", &me, lease).await.unwrap();
        let mut position = session.standing(epoch.unwrap()).await.unwrap().position;
        let writer = service.connect().await;

        // Read and left in the table: what a large window has to be found behind.
        let early = open(&service, 5).await;
        insert(&writer, 200).await;
        let mut seen = read_all(&session, &mut position).await.concat();
        assert_eq!(seen.len(), 200);

        let late = open(&service, 40).await;
        insert(&writer, 100).await;
        let never = open(&service, 100).await;
        insert(&writer, 100).await;
        early.batch_execute("commit").await.unwrap();

        let first = session.read(&position, LIMITS, EFFORT).await.unwrap();
        assert!(first.events.is_empty() && first.more, "it is large");
        assert!(matches!(
            first.position.page,
            Some(Page {
                after: i64::MIN,
                ..
            })
        ));
        position = first.position;
        // Commits with ids of the middle: too late for this window, and for the next one it comes alone.
        late.batch_execute("commit").await.unwrap();
        never.batch_execute("rollback").await.unwrap();
        let window = read_all(&session, &mut position).await;
        let steps = window.len();
        let window = window.concat();
        assert!(window.is_sorted(), "{window:?}");
        assert_eq!(window.len(), 205, "the early one's too");
        // 405 rows are there: 200 of them read before, and passed by 25 at least; the others come by 10 at most.
        assert!((8 + 20..60).contains(&steps), "{steps} steps");
        seen.extend(window);

        let last = read_all(&session, &mut position).await.concat();
        assert_eq!(last.len(), 40);
        seen.extend(last);
        assert_eq!(read_all(&session, &mut position).await, [[0i64; 0]]);
        seen.sort_unstable();
        let all = "select array_agg(id order by id) from outbox.event";
        let owner = service.connect_as("postgres").await;
        let all: Vec<i64> = owner.query_one(all, &[]).await.unwrap().get(0);
        assert_eq!(seen, all);
    });
}

/// Whatever the version makes of the statements: none sorts a large window, and none looks at more rows than it was told.
#[test]
fn no_statement_looks_at_more_rows_than_it_was_told() {
    for version in VERSIONS {
        let service = Service::install(postgres(version), "effort");
        block_on(async {
            insert(&service.connect().await, 5000).await;
            let client = service.connect_as("postgres").await;
            let pin = include_str!("../../sql/pin.sql");
            client.batch_execute(pin).await.unwrap();
            let statements = [
                (
                    "poll",
                    include_str!("../../sql/poll.sql"),
                    "'3', '{}', 10, 10000, 300",
                ),
                (
                    "large",
                    include_str!("../../sql/large.sql"),
                    "'3', '{}', 300",
                ),
                (
                    "page",
                    include_str!("../../sql/page.sql"),
                    "'3', '{}', '900000:900000:', 0, 10, 10000, 300",
                ),
                // Nothing of this window is among the first rows, or anywhere.
                (
                    "page_in_vain",
                    include_str!("../../sql/page.sql"),
                    "'3', '{}', '3:3:', 0, 10, 10000, 300",
                ),
                ("scanned", include_str!("../../sql/scanned.sql"), "0, 300"),
            ];
            for (name, statement, parameters) in statements {
                let explain = format!(
                    "prepare {name} as {statement}; explain (analyze, costs off, timing off) execute {name}({parameters})"
                );
                let plan: Vec<String> = client
                    .simple_query(&explain)
                    .await
                    .unwrap()
                    .into_iter()
                    .filter_map(|message| {
                        let SimpleQueryMessage::Row(row) = message else {
                            return None;
                        };
                        row.get(0).map(str::to_owned)
                    })
                    .collect();
                let looked_at: f64 = plan
                    .iter()
                    .filter(|line| line.contains("Scan using"))
                    .map(|line| rows(line))
                    .sum();
                let plan = plan.join("\n");
                assert!(
                    looked_at > 0.0 && looked_at <= 301.0,
                    "{version}, {name}: {plan}"
                );
                assert!(
                    name == "poll" || !plan.contains("Sort Method"),
                    "{version}, {name}: {plan}"
                );
            }
        });
    }
}

/// How many rows a node of a plan gave and threw away.
fn rows(line: &str) -> f64 {
    let Some((_, rest)) = line.split_once("actual rows=") else {
        return 0.0;
    };
    rest.split(' ').next().unwrap().parse().unwrap()
}
