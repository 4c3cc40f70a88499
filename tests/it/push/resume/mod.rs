//! Clients on bad networks: cut off, sent away and left alone by dying daemons, they come back to any instance and find no gap, by the
//! client rule alone, whatever they are connected by. Never helped by knowing what was written.

mod client;
mod road;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_postgres::Client;

use self::client::{Tally, Way, follow};
use self::road::Road;
use super::log::fold;
use super::site::Site;
use super::tls::{Trust, under};
use crate::support::authority::Authority;
use crate::support::{block_on, kafka, postgres, unique, wait_until};
use crate::world::{Service, topic};

const PATIENCE: Duration = Duration::from_secs(90);

/// How much is tried.
struct Run {
    name: &'static str,
    way: Way,
    clients: usize,
    sagas: usize,
    /// Steps of the writer, each with a failure that is forced.
    steps: usize,
    /// Sagas that change in one step.
    changes: usize,
    /// Connections that one failure cuts.
    cuts: usize,
    /// Lines of `[push]`.
    lines: String,
}

/// What the clients and the writer tell each other.
#[derive(Default)]
pub(super) struct Shared {
    /// The step that the writer is at.
    pub(super) step: AtomicUsize,
    /// Everything is written.
    pub(super) written: AtomicBool,
    /// Nothing more will be, though not everything is.
    pub(super) failed: AtomicBool,
    /// Changes and snapshots that clients took.
    pub(super) news: AtomicUsize,
}

#[test]
fn a_thousand_clients_find_no_gap_through_two_hundred_failures_and_a_rolling_restart() {
    let run = Run {
        name: "resume",
        way: Way::Socket(None),
        clients: 1_000,
        sagas: 300,
        steps: 200,
        changes: 60,
        cuts: 20,
        lines: "state_directory = \"state\"\n".to_owned(),
    };
    let (tally, sites, failures) = survive(&run);
    assert!(failures >= 200, "only {failures} failures");
    assert!(tally.changes > 20_000, "{tally:?} proves little");
    assert!(
        tally.resumed > 1_000 && tally.with_snapshot > 20,
        "{tally:?}"
    );
    for result in ["changes", "current", "snapshot"] {
        let of = |site: &Site| {
            let labels = [("result", result)];
            let metrics = site.daemon.metrics();
            metrics.value("outboxd_push_resumes_total", &labels)
        };
        let resumes: f64 = sites.iter().filter_map(of).sum();
        assert!(resumes > 0.0, "nobody resumed by {result}");
    }
}

/// The same in small, for another way to be connected.
fn small(name: &'static str, way: Way, lines: &str) -> Run {
    Run {
        name,
        way,
        clients: 60,
        sagas: 40,
        steps: 40,
        changes: 20,
        cuts: 6,
        lines: lines.to_owned(),
    }
}

#[test]
fn clients_under_tls_find_no_gap() {
    let authority = Authority::new();
    let trust = Trust::of(&authority);
    let run = small("resume_tls", Way::Socket(Some(trust)), &under(&authority));
    let (tally, _, failures) = survive(&run);
    assert!(
        failures >= run.steps && tally.changes > 500 && tally.resumed > 50,
        "{tally:?}"
    );
}

#[test]
fn clients_with_a_stream_find_no_gap() {
    let run = small("resume_sse", Way::Stream, "");
    let (tally, _, failures) = survive(&run);
    assert!(
        failures >= run.steps && tally.changes > 200 && tally.resumed > 25,
        "{tally:?}"
    );
}

#[test]
fn clients_that_poll_never_go_back_and_see_the_end() {
    let run = small("resume_poll", Way::Poll, "");
    let (tally, _, failures) = survive(&run);
    assert!(failures >= run.steps && tally.snapshots > 200, "{tally:?}");
}

/// Lets clients watch while the writer writes and things fail; then all have to know what the log says. Gives what they went
/// through, the daemons, and how many failures there were.
fn survive(run: &Run) -> (Tally, [Site; 2], usize) {
    let kafka = kafka();
    let prefix = unique(run.name);
    let service = Service::install(postgres(16), run.name);
    let orders = topic(kafka, "orders", 3, &[]);
    let lines = "drain = \"2s\"\n".to_owned() + &run.lines;
    let sites = [(); 2].map(|()| Site::start(kafka, &prefix, &[&service], &lines));
    for site in &sites {
        site.daemon.wait_ready();
    }
    let shared = Arc::new(Shared::default());
    let road = Road::open(sites.each_ref().map(Site::address));
    let (shared, road, sites_seen) = (&shared, &road, &sites);
    let (tally, failures) = std::thread::scope(|scope| {
        let writer = scope.spawn(move || {
            let _end = End(shared);
            block_on(write(run, &service, &orders, sites_seen, shared, road))
        });
        let tokens = sites_seen[0].tokens(run.clients);
        let known = block_on(async move {
            let mut clients = JoinSet::new();
            for (number, token) in tokens.into_iter().enumerate() {
                let ids = [number % run.sagas, (number + 37) % run.sagas];
                let ids = ids.map(|saga| format!("o-{saga}"));
                let (way, shared) = (run.way.clone(), Arc::clone(shared));
                let place = road.address();
                clients.spawn(async move { follow(number, way, place, token, ids, shared).await });
            }
            clients.join_all().await
        });
        let failures = writer.join().unwrap();
        let expected = fold(kafka, &prefix);
        assert_eq!(expected.len(), run.sagas);
        let mut tally = Tally::default();
        for (number, (known, of_one)) in known.iter().enumerate() {
            for (key, seen) in &known.sagas {
                assert_eq!(Some(seen), expected.get(key), "client {number}, {key:?}");
            }
            assert_eq!(known.sagas.len(), run.way.sagas(), "client {number}");
            tally.add(known, of_one);
        }
        (tally, failures)
    });
    (tally, sites, failures)
}

/// Says that the writer is done, also when it fails.
struct End<'a>(&'a Shared);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0
            .failed
            .store(std::thread::panicking(), Ordering::Release);
        self.0.written.store(true, Ordering::Release);
    }
}

/// Changes sagas step by step, and forces a failure at each: connections are cut, each instance is killed once and restarted once
/// in order. Goes on when somebody has seen something of the step.
async fn write(
    run: &Run,
    service: &Service<'_>,
    orders: &str,
    sites: &[Site; 2],
    shared: &Shared,
    road: &Road,
) -> usize {
    let client = service.connect().await;
    let mut failures = 0;
    for step in 0..run.steps {
        let before = shared.news.load(Ordering::Relaxed);
        let sagas = (0..run.changes).map(|saga| (step * run.changes + saga) % run.sagas);
        change(&client, orders, step, sagas, None).await;
        failures += 1;
        match step {
            at if at == run.steps / 4 => restart(&sites[0], true),
            at if at == run.steps / 2 => {
                for site in sites {
                    restart(site, false);
                }
            }
            at if at == 3 * run.steps / 4 => restart(&sites[1], true),
            _ => {
                let cut = || road.cut(run.cuts, step) > 0;
                wait_until("a connection to cut", PATIENCE, cut);
            }
        }
        shared.step.store(step, Ordering::Relaxed);
        wait_until("somebody to see a change", PATIENCE, || {
            shared.news.load(Ordering::Relaxed) > before
        });
    }
    let outcome = Some("completed");
    change(&client, orders, run.steps, 0..run.sagas, outcome).await;
    failures
}

/// Kills a daemon, or ends it in order, and waits until it is back.
fn restart(site: &Site, kill: bool) {
    if kill {
        site.daemon.kill();
    } else {
        assert_eq!(site.daemon.terminate(), 0);
    }
    site.daemon.start_again();
    site.daemon.wait_ready();
}

/// News of these sagas in one transaction: a state, or a participant's step.
async fn change(
    client: &Client,
    orders: &str,
    step: usize,
    sagas: impl Iterator<Item = usize>,
    outcome: Option<&str>,
) {
    let insert = format!(
        "insert into outbox.event (topic, key, event_type, payload, saga_type, saga_id, saga_user, saga_state, saga_outcome, \
         saga_step, saga_step_status) select '{orders}', id, 'E', '{{}}', 'create-order', id, 'c-7', state, $4, step, \
         case when step is not null then 'done' end from unnest($1::text[], $2::text[], $3::text[]) as news (id, state, step)"
    );
    let is_step = step % 3 == 1 && outcome.is_none();
    let ids: Vec<String> = sagas.map(|saga| format!("o-{saga}")).collect();
    let states = vec![(!is_step).then(|| format!("S{step}")); ids.len()];
    let steps = vec![is_step.then(|| format!("step-{}", step % 5)); ids.len()];
    client
        .execute(&insert, &[&ids, &states, &steps, &outcome])
        .await
        .unwrap();
}
