//! What a script in Node may ask of its test: to tell of sagas, to end the daemon, to block the road; and the shop's page that it
//! opens. Never a check of anything: the script checks.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::road::{Gate, Mode};
use super::{build, folder, run};
use crate::push::site::Site;
use crate::support::{block_on, kafka, postgres, unique};
use crate::world::{Service, topic};

/// A page of a shop that shows an order; its script knows nothing but the client.
const PAGE: &str = include_str!("../../../../clients/js/test/browser/shop.html");

/// Two services, a daemon, the road to it, and the shop's pages.
struct World {
    services: [Service<'static>; 2],
    topic: String,
    site: Site,
    gate: Gate,
}

/// Runs a script against a world of its own, whose daemon has these lines in `[push]`.
pub(super) fn play(script: &str, lines: &str) {
    build();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let services = ["orders", "kitchen"].map(|name| Service::install(postgres(17), name));
    let lines = format!("allowed_origins = [\"{url}\"]\n{lines}");
    let of: Vec<_> = services.iter().collect();
    let site = Site::start(kafka(), &unique("browser"), &of, &lines);
    site.daemon.wait_ready();
    let world = Arc::new(World {
        topic: topic(kafka(), "orders", 3, &[]),
        gate: Gate::open(site.address()),
        services,
        site,
    });
    let shared = Arc::clone(&world);
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let world = Arc::clone(&shared);
            thread::spawn(move || world.serve(client));
        }
    });
    let file = format!("test/browser/{script}.mjs");
    let arguments = ["--test", "--test-reporter=spec", &file];
    let environment = [
        ("OUTBOXD_STEWARD", url.as_str()),
        ("OUTBOXD_ROAD", &world.gate.url()),
    ];
    run("node", &arguments, &environment);
}

impl World {
    fn serve(&self, client: TcpStream) {
        let mut client = BufReader::new(client);
        let mut head = String::new();
        // Up to an empty line.
        while client.read_line(&mut head).is_ok_and(|length| length > 2) {}
        let target = head.split(' ').nth(1).unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let query: HashMap<String, String> = form_urlencoded::parse(query.as_bytes())
            .into_owned()
            .collect();
        let answer = catch_unwind(AssertUnwindSafe(|| self.answer(path, &query)));
        let (status, kind, body) = match answer {
            Ok(Some((kind, body))) => ("200 OK", kind, body),
            Ok(None) => ("404 Not Found", "text/plain", path.to_owned()),
            Err(_) => ("500 Internal Server Error", "text/plain", path.to_owned()),
        };
        let length = body.len();
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: {kind}; charset=utf-8\r\nContent-Length: {length}\r\n\
             Cache-Control: no-store\r\nConnection: close\r\n\r\n"
        );
        let mut client = client.into_inner();
        let _ = client.write_all((head + &body).as_bytes());
        let _ = client.shutdown(std::net::Shutdown::Write);
        let _ = client.read(&mut [0]);
    }

    fn answer(
        &self,
        path: &str,
        query: &HashMap<String, String>,
    ) -> Option<(&'static str, String)> {
        let given = |name: &str| query.get(name).map(String::as_str);
        let done = Some(("text/plain", String::new()));
        match path {
            "/" => Some(("text/html", PAGE.to_owned())),
            "/outboxd.min.js" => {
                let script = std::fs::read_to_string(folder().join("dist/outboxd.min.js")).unwrap();
                Some(("text/javascript", script))
            }
            "/token" => {
                let types: Vec<_> = given("types").into_iter().collect();
                let lasts = given("lasts").unwrap_or("3600").parse().unwrap();
                let user = given("user").unwrap_or("c-7");
                let token = self
                    .site
                    .token_for(user, &types, Duration::from_secs(lasts));
                Some(("text/plain", token))
            }
            "/tell" => {
                self.tell(query);
                done
            }
            "/daemon" => {
                match given("do")? {
                    "end" => assert_eq!(self.site.daemon.terminate(), 0),
                    "kill" => self.site.daemon.kill(),
                    _ => {
                        self.site.daemon.start_again();
                        self.site.daemon.wait_ready();
                    }
                }
                done
            }
            "/road" => {
                self.gate.set(match given("mode")? {
                    "cut" => Mode::Cut,
                    "asleep" => Mode::Asleep,
                    "impatient" => Mode::Impatient(Duration::from_secs(2)),
                    "no-sockets" => Mode::NoSockets,
                    "no-events" => Mode::NoEvents,
                    _ => Mode::Open,
                });
                done
            }
            "/metrics" => {
                let name = given("name")?;
                Some((
                    "text/plain",
                    self.site.daemon.metrics().sum(name).to_string(),
                ))
            }
            _ => None,
        }
    }

    /// Inserts what a service says of a saga, as it would.
    fn tell(&self, query: &HashMap<String, String>) {
        let given = |name: &str| query.get(name).map(String::as_str);
        let service = &self.services[usize::from(given("service") == Some("kitchen"))];
        let insert = format!(
            "insert into outbox.event (topic, key, event_type, payload, saga_type, saga_id, saga_user, saga_state, \
             saga_outcome, saga_step, saga_step_status) \
             values ('{}', $1, $2, '{{}}', $3, $1, $4, $5, $6, $7, $8)",
            self.topic
        );
        block_on(async {
            let client = service.connect().await;
            client
                .execute(
                    &insert,
                    &[
                        &given("id").unwrap_or("o-42"),
                        &given("event").unwrap_or("Happened"),
                        &given("type").unwrap_or("create-order"),
                        &given("user").unwrap_or("c-7"),
                        &given("state"),
                        &given("outcome"),
                        &given("step"),
                        &given("status"),
                    ],
                )
                .await
                .unwrap();
        });
    }
}
