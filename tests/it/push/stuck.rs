//! Sagas that are beyond a limit: found by the log's own word, alike by everybody who reads it, and never because a relay is away.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use outboxd::logic::push::placement::partition_of;
use serde_json::{Value, json};
use tokio_postgres::Client;

use super::log::{SagaLog, TOLD, Told};
use super::site::Site;
use crate::site::{ctl, outboxd};
use crate::support::consumer::read_all;
use crate::support::daemon::Daemon;
use crate::support::kafka::Kafka;
use crate::support::socket::{Known, Socket};
use crate::support::{block_on, kafka, postgres, unique, wait_until};
use crate::world::{OUTBOXD, Service, kafka_block};

const PATIENCE: Duration = Duration::from_secs(90);
const LIMIT_MS: i64 = 500;
const PARTITIONS: i32 = 12;

/// The orders' own saga, and one that the kitchen has a part in.
fn definitions(kitchen: &str) -> [(String, String); 2] {
    let states = "[states]\nOPEN = { kind = \"initial\", limit = \"500ms\", next = [\"DONE\"] }\n\
                  DONE = { kind = \"terminal\", outcome = \"completed\" }\n";
    let steps = format!("[steps]\ncook = {{ service = \"{kitchen}\", kind = \"retriable\" }}\n");
    [("alone", ""), ("joint", steps.as_str())].map(|(saga_type, steps)| {
        let text = format!("saga = \"{saga_type}\"\n{states}{steps}");
        (format!("sagas/{saga_type}.toml"), text)
    })
}

/// Ids whose records all go to partition 0, so that their order in the log is known.
fn ids() -> impl Iterator<Item = String> {
    let ids = (1..).map(|number| format!("o-{number}"));
    ids.filter(|id| partition_of(id, PARTITIONS) == 0)
}

async fn insert(client: &Client, saga_type: &str, id: &str, columns: &str, values: &str) {
    let insert = format!(
        "insert into outbox.event (topic, key, event_type, payload, saga_type, saga_id, {columns})
         values ('o', '{id}', 'E', '{{}}', '{saga_type}', '{id}', {values})"
    );
    client.batch_execute(&insert).await.unwrap();
}

async fn opened(orders: &Client, saga_type: &str, id: &str) {
    let columns = "saga_user, saga_state";
    insert(orders, saga_type, id, columns, "'c-7', 'OPEN'").await;
}

fn snapshot(site: &Site, saga_type: &str, id: &str) -> Value {
    let token = site.token("operator", &["*"]);
    site.ask(&format!("/v1/sagas/{saga_type}/{id}"), &token).1
}

fn wait_stuck(sites: [&Site; 2], saga_type: &str, id: &str) {
    for site in sites {
        wait_until(&format!("{saga_type} {id} to be stuck"), PATIENCE, || {
            snapshot(site, saga_type, id)["stuck_since"].is_string()
        });
    }
    let [one, other] = sites.map(|site| snapshot(site, saga_type, id));
    assert_eq!(one, other, "every instance says the same, version and all");
}

fn listed(site: &Site) -> Vec<String> {
    let token = site.token("operator", &["*"]);
    let (status, listed) = site.ask("/v1/sagas?stuck=true", &token);
    assert_eq!(status, 200, "{listed}");
    let sagas = listed["sagas"].as_array().unwrap();
    let name = |saga: &Value| format!("{} {}", saga["saga_type"], saga["saga_id"]).replace('"', "");
    sagas.iter().map(name).collect()
}

/// A reader of another kind: what the rule makes of partition 0 of the topic. Version, and whether it is stuck.
fn folded(kafka: &Kafka, prefix: &str) -> BTreeMap<String, (i64, bool)> {
    let (mut sagas, mut deadlines) = (BTreeMap::new(), HashMap::<String, i64>::new());
    let mut until: HashMap<String, Option<i64>> = HashMap::new();
    let mut parts: HashMap<String, Vec<String>> = HashMap::new();
    let topic = format!("{prefix}.sagas");
    let messages = read_all(&kafka.bootstrap(), &[&topic]);
    for message in messages.iter().filter(|it| it.partition == 0) {
        let value: Value = serde_json::from_slice(message.value.as_ref().unwrap()).unwrap();
        let text = |field: &str| value[field].as_str().map(str::to_owned);
        let source = text("source").unwrap();
        if let Some(said) = text("published_until") {
            let said = outboxd::logic::event::Timestamp::from_rfc3339(&said).unwrap();
            until.insert(source, Some(said.as_ms()));
            deadlines.retain(|saga, due| {
                let saga_type = saga.split(' ').next().unwrap();
                let known = parts[saga_type].iter().map(|source| until[source]);
                let late = known.min().flatten().is_some_and(|until| *due < until);
                if late {
                    sagas.insert(saga.clone(), (message.offset, true));
                }
                !late
            });
            continue;
        }
        let saga_type = text("saga_type").unwrap();
        let saga = format!("{saga_type} {}", text("saga_id").unwrap());
        until.entry(source.clone()).or_default();
        parts.entry(saga_type).or_default().push(source);
        let before = sagas.insert(saga.clone(), (message.offset, false));
        if before.is_none_or(|(_, stuck)| stuck) {
            deadlines.insert(saga, message.timestamp_ms.unwrap() + LIMIT_MS);
        }
    }
    sagas
}

#[test]
fn a_saga_beyond_its_limit_is_stuck_until_it_moves_and_never_because_a_relay_is_away() {
    let (kafka, postgres) = (kafka(), postgres(18));
    let prefix = unique("stuck");
    let [orders, kitchen] = ["orders", "kitchen"].map(|name| Service::install(postgres, name));
    let files = definitions(&kitchen.name);
    let sites = [vec![&orders], vec![]]
        .map(|services| Site::defined(kafka, &prefix, &services, &files, ""));
    let [site, other] = [&sites[0], &sites[1]];
    let config = kafka_block(kafka, &prefix) + "create_topics = true\n" + &kitchen.block("");
    let cooks = Daemon::start(OUTBOXD, &config);
    sites.iter().for_each(|site| site.daemon.wait_ready());
    cooks.wait_ready();
    let [first, second, third] = ids().take(3).collect::<Vec<_>>().try_into().unwrap();
    block_on(async {
        let [order, cook] = [orders.connect().await, kitchen.connect().await];
        opened(&order, "joint", &first).await;
        opened(&order, "alone", &first).await;
        wait_until("the saga to be there", PATIENCE, || {
            snapshot(site, "joint", &first)["state"] == "OPEN"
        });
        let (mut socket, ready) = Socket::authenticated(site.address(), &site.token("c-7", &[]))
            .await
            .unwrap();
        let mut known = Known::default();
        known.ready(&ready);
        socket
            .send(&known.subscribe(2, "joint", &first))
            .await
            .unwrap();
        let (mode, seen) = (socket.news().await.unwrap(), socket.news().await.unwrap());
        assert_eq!(
            (&mode["mode"], &seen["type"]),
            (&"snapshot".into(), &"snapshot".into())
        );
        assert_eq!(seen["remaining_steps"], json!(["cook"]), "{seen}");
        known.take(&seen).unwrap();

        // Nobody does anything.
        wait_stuck([site, other], "joint", &first);
        wait_stuck([site, other], "alone", &first);
        if seen["stuck_since"].is_null() {
            let change = socket.news().await.unwrap();
            assert!(
                change["stuck_since"].is_string() && change["event_id"].is_null(),
                "{change}"
            );
            known.take(&change).unwrap();
        }
        let both = [format!("joint {first}"), format!("alone {first}")];
        assert_eq!(listed(site), both, "stalest first");
        let stuck = |site: &Site| site.daemon.metrics().sum("outboxd_sagas_stuck");
        assert_eq!([stuck(site), stuck(other)], [2.0, 2.0]);
        let configuration = site.daemon.config();
        let ran = outboxd(&[
            "saga",
            "list",
            "--stuck",
            "--config",
            configuration.to_str().unwrap(),
        ]);
        assert_eq!(ran.out.lines().count(), 3, "{ran:?}");

        // The kitchen does its part, and everybody is told that it goes on.
        insert(
            &cook,
            "joint",
            &first,
            "saga_step, saga_step_status",
            "'cook', 'done'",
        )
        .await;
        let change = socket.news().await.unwrap();
        assert_eq!(
            (&change["step"], &change["remaining_steps"]),
            (&"cook".into(), &json!([]))
        );
        assert!(
            change.as_object().unwrap().contains_key("stuck_since")
                && change["stuck_since"].is_null(),
            "{change}"
        );
        known.take(&change).unwrap();
        let done = "'DONE', 'completed'";
        insert(&order, "joint", &first, "saga_state, saga_outcome", done).await;
        let change = socket.news().await.unwrap();
        assert_eq!(change["outcome"], "completed", "{change}");
        known.take(&change).unwrap();

        // The kitchen's relay is gone. Nobody knows what the kitchen did meanwhile, so nothing that it has a part in is stuck.
        cooks.kill();
        opened(&order, "joint", &second).await;
        opened(&order, "alone", &second).await;
        wait_stuck([site, other], "alone", &second);
        let alone = [&first, &second].map(|id| format!("alone {id}"));
        assert_eq!([listed(site), listed(other)], [alone.clone(), alone]);
        cooks.start_again();
        wait_stuck([site, other], "joint", &second);
        insert(
            &order,
            "alone",
            &first,
            "saga_state, saga_outcome",
            "'OPEN', null",
        )
        .await;
        opened(&order, "alone", &third).await;
        wait_stuck([site, other], "alone", &third);
    });
    for (saga, (version, is_stuck)) in folded(kafka, &prefix) {
        let (saga_type, id) = saga.split_once(' ').unwrap();
        let shown = snapshot(site, saga_type, id);
        // A record that came since the snapshot may have found another one stuck.
        if shown["outcome"].is_null()
            && (shown["version"] != version || shown["stuck_since"].is_string() != is_stuck)
        {
            panic!("{saga} is at {version}, stuck: {is_stuck}, by the log, and shown as {shown}");
        }
    }
}

#[test]
fn a_saga_keeps_the_definition_that_it_began_with_over_a_reload_and_a_restart() {
    let (kafka, prefix) = (kafka(), unique("kept"));
    let definition = |version: u32, step: &str| {
        format!(
            "saga = \"create-order\"\nversion = {version}\n[states]\n\
             PENDING = {{ kind = \"initial\", limit = \"1h\", next = [\"DONE\"] }}\n\
             DONE = {{ kind = \"terminal\", outcome = \"completed\" }}\n\
             [steps]\n{step} = {{ service = \"kitchen\", kind = \"retriable\" }}\n"
        )
    };
    let file = "sagas/create-order.toml";
    let files = [(file.to_owned(), definition(1, "cook"))];
    let site = Site::defined(kafka, &prefix, &[], &files, "state_directory = \"state\"\n");
    site.daemon.wait_ready();
    let log = SagaLog::plain(kafka, &prefix);
    let mut event = 0;
    let mut begin = |saga_id| {
        event += 1;
        log.tell(&Told {
            saga_id,
            event,
            ..TOLD
        });
        site.wait_state(saga_id, "PENDING");
    };
    let defined = |id: &str| {
        let saga = snapshot(&site, "create-order", id);
        (saga["definition"].clone(), saga["remaining_steps"].clone())
    };
    let reload = || ctl(&site.daemon, &["reload", "--wait"]);
    let (first, second) = ((json!(1), json!(["cook"])), (json!(2), json!(["fry"])));
    begin("a");
    site.daemon.write(
        file,
        &definition(2, "fry").replace("[\"DONE\"]", "[\"DNE\"]"),
    );
    let ended = reload();
    assert_eq!(ended.code, 78, "{ended:?}");
    assert!(
        ended.err.contains("create-order.toml:4:") && ended.err.contains("did you mean `DONE`?"),
        "{}",
        ended.err
    );
    begin("b");
    assert_eq!(
        [defined("a"), defined("b")],
        [first.clone(), first.clone()],
        "nothing was applied"
    );
    site.daemon.write(file, &definition(2, "fry"));
    let ended = reload();
    assert_eq!(ended.code, 0, "{ended:?}");
    begin("c");
    let now = [first.clone(), first, second];
    assert_eq!(["a", "b", "c"].map(defined), now);
    assert_eq!(site.daemon.terminate(), 0);
    site.daemon.start_again();
    site.daemon.wait_ready();
    assert_eq!(["a", "b", "c"].map(defined), now);
}
