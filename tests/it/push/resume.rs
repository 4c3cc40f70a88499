//! Clients that are cut off and come back, to either of two instances that are killed: no gap by the client rule of the contract.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;

use super::log::fold;
use super::site::Site;
use crate::support::socket::{Known, Socket};
use crate::support::{block_on, kafka, postgres, unique};
use crate::world::{Service, topic};

const CLIENTS: usize = 200;
const SAGAS: usize = 100;
/// Disconnects of our own, beside those that the kills make.
const DISCONNECTS: usize = 50;
const CHANGES: usize = 60;

#[test]
fn two_hundred_clients_find_no_gap_through_disconnects_and_kills() {
    let kafka = kafka();
    let prefix = unique("resume");
    let service = Service::install(postgres(16), "resume");
    let orders = topic(kafka, "orders", 3, &[]);
    let sites = [(); 2].map(|()| Site::start(kafka, &prefix, &[&service], ""));
    for site in &sites {
        site.daemon.wait_ready();
    }
    let token = sites[0].token("c-7", &[]);
    let addresses = [sites[0].address(), sites[1].address()];
    let (written, cut) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (sites, written, cut) = (&sites, &written, &cut);
    let known = std::thread::scope(|scope| {
        scope.spawn(move || {
            let _end = End(written);
            block_on(write(&service, &orders, &sites[0], &sites[1]));
        });
        block_on(async move {
            let shared = std::sync::Arc::new(Shared {
                token,
                addresses,
                written: AtomicBool::new(false),
                cut: AtomicUsize::new(0),
            });
            let mut clients = JoinSet::new();
            for number in 0..CLIENTS {
                clients.spawn(follow(number, std::sync::Arc::clone(&shared)));
            }
            // The writer is on another thread and knows nothing of this runtime.
            while !written.load(Ordering::Acquire) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            shared.written.store(true, Ordering::Release);
            let known = clients.join_all().await;
            cut.store(shared.cut.load(Ordering::Relaxed), Ordering::Relaxed);
            known
        })
    });
    let cut = cut.load(Ordering::Relaxed);
    assert!(cut >= DISCONNECTS, "only {cut} disconnects");
    let expected = fold(kafka, &prefix);
    assert_eq!(expected.len(), SAGAS);
    for (number, known) in known.iter().enumerate() {
        for (key, seen) in &known.sagas {
            assert_eq!(Some(seen), expected.get(key), "client {number}, {key:?}");
        }
        assert_eq!(known.sagas.len(), 2, "client {number} watches two sagas");
    }
    let resumes = |result: &str| -> f64 {
        let value = |site: &Site| {
            site.daemon
                .metrics()
                .value("outboxd_push_resumes_total", &[("result", result)])
        };
        sites.iter().filter_map(value).sum()
    };
    assert!(resumes("changes") > 0.0);
    assert!(resumes("snapshot") > 0.0);
    let changes: u64 = known.iter().map(|known| known.changes).sum();
    assert!(changes > 1000, "{changes} changes prove little");
}

/// Says that the writer is done, also when it fails.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Changes every saga again and again; kills each instance once on the way.
async fn write(service: &Service<'_>, orders: &str, first: &Site, second: &Site) {
    let client = service.connect().await;
    let insert = format!(
        "insert into outbox.event (topic, key, event_type, payload, saga_type, saga_id, saga_user, saga_state, saga_outcome, \
         saga_step, saga_step_status) values ('{orders}', $1, 'E', '{{}}', 'create-order', $1, 'c-7', $2, $3, $4, $5)"
    );
    let insert = client.prepare(&insert).await.unwrap();
    for round in 0..CHANGES {
        for saga in 0..SAGAS {
            let id = format!("o-{saga}");
            let is_step = round % 3 == 1;
            let state = (!is_step).then(|| format!("S{round}"));
            let outcome = (round == CHANGES - 1).then_some("completed");
            let step = is_step.then(|| format!("step-{}", round % 5));
            let status = is_step.then_some("done");
            client
                .execute(&insert, &[&id, &state, &outcome, &step, &status])
                .await
                .unwrap();
        }
        for (at, site) in [(CHANGES / 3, first), (2 * CHANGES / 3, second)] {
            if round == at {
                site.daemon.kill();
                site.daemon.start_again();
            }
        }
    }
}

struct Shared {
    token: String,
    addresses: [SocketAddr; 2],
    written: AtomicBool,
    cut: AtomicUsize,
}

/// A client with two sagas, which is cut off now and then and comes back to the other instance.
async fn follow(number: usize, shared: std::sync::Arc<Shared>) -> Known {
    let ids = [number % SAGAS, (number + 37) % SAGAS].map(|saga| format!("o-{saga}"));
    let mut known = Known::default();
    let mut attempt = number;
    let mut leaves = if number.is_multiple_of(4) { 3 } else { 0 };
    loop {
        attempt += 1;
        let address = shared.addresses[attempt % 2];
        let Ok((mut socket, ready)) = Socket::authenticated(address, &shared.token).await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        known.ready(&ready);
        for (request, id) in (2..).zip(&ids) {
            let subscribe = known.subscribe(request, "create-order", id);
            if socket.send(&subscribe).await.is_err() {
                continue;
            }
        }
        // Some leave in the middle of everything, while changes go on.
        let leaves_after = (leaves > 0).then_some(5 + number % 17);
        let mut frames = 0;
        loop {
            let all_ended = |known: &Known| {
                known.sagas.len() == 2 && known.sagas.values().all(|seen| !seen.outcome.is_null())
            };
            if shared.written.load(Ordering::Acquire) && all_ended(&known) {
                return known;
            }
            let Ok(frame) = socket.next().await else {
                break;
            };
            if let Err(gap) = known.take(&frame) {
                panic!("client {number}: {gap:?}");
            }
            frames += 1;
            if Some(frames) == leaves_after {
                shared.cut.fetch_add(1, Ordering::Relaxed);
                leaves -= 1;
                break;
            }
        }
    }
}
