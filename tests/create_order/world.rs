//! The deployment that all tests share, one after the other, and the orders that they place in it. It can say when nothing more
//! will happen: never by waiting for a while.

use std::{
    collections::{BTreeMap, HashSet},
    env,
    ops::Deref,
    path::Path,
    process::Command,
    sync::{LazyLock, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
};
use serde_json::{Value, json};
use tokio_postgres::{NoTls, Row};
use uuid::Uuid;

use crate::{
    customer::Customer,
    ending::{Ending, Fate, Style, endings},
    support::{
        self, block_on, consumer,
        deployment::{Deployment, Programs, SERVICES, TOPICS, Wishes},
        http,
    },
};

/// Both.
pub(crate) const STYLES: [Style; 2] = [Style::Choreography, Style::Orchestration];

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(90);

static DEPLOYMENT: LazyLock<Mutex<Deployment>> = LazyLock::new(|| {
    let told = |_: &str, _: &str, _: Duration| {};
    // A saga that stands still is stuck sooner than in real life.
    let wishes = Wishes {
        limit: "5s",
        ..Wishes::default()
    };
    Mutex::new(Deployment::start(programs(), &wishes, &told))
});

/// Builds the example in the way in which this test was built; mostly there is nothing to do.
fn programs() -> Programs {
    let outboxd = Path::new(env!("CARGO_BIN_EXE_outboxd"));
    let mut build = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    build.args(["build", "--quiet", "--locked", "--example", "create_order"]);
    if cfg!(feature = "failpoints") {
        build.args(["--features", "failpoints"]);
    }
    let folder = outboxd.parent().unwrap();
    build.env("CARGO_TARGET_DIR", folder.parent().unwrap());
    let built = build.current_dir(env!("CARGO_MANIFEST_DIR")).status();
    assert!(built.unwrap().success());
    Programs {
        outboxd: outboxd.to_owned(),
        example: folder.join("examples/create_order"),
    }
}

/// The deployment, while one test has it.
pub(crate) struct World(MutexGuard<'static, Deployment>);

impl Deref for World {
    type Target = Deployment;

    fn deref(&self) -> &Deployment {
        &self.0
    }
}

/// An order, and the customer who watches it.
pub(crate) struct Placed {
    pub(crate) id: String,
    pub(crate) saga_id: String,
    pub(crate) style: Style,
    pub(crate) fate: Fate,
    pub(crate) request: Value,
    pub(crate) customer: Customer,
}

/// A message in Kafka.
pub(crate) struct Message {
    id: String,
    topic: String,
    partition: i32,
    offset: i64,
    key: String,
    name: String,
    pub(crate) is_copy: bool,
}

impl World {
    /// Waits for its turn; whatever an earlier test has left behind is put right.
    pub(crate) fn take() -> Self {
        let world = Self(DEPLOYMENT.lock().unwrap_or_else(PoisonError::into_inner));
        if world.daemon.pid().is_none() {
            world.daemon.start_again();
        }
        world.daemon.wait_ready();
        world.kill("twice");
        for service in SERVICES {
            world.begin(service);
        }
        world.mood(&json!({}));
        world.wait_for_orders();
        world
    }

    /// Waits until something holds, and meanwhile starts again what ends by itself.
    pub(crate) fn wait(&self, what: &str, mut holds: impl FnMut() -> bool) {
        support::wait_until(what, PATIENCE, || {
            self.tend();
            holds()
        });
    }

    /// Waits until orders can be placed.
    pub(crate) fn wait_for_orders(&self) {
        self.wait("the order service", || {
            http::get(self.orders(), "/").is_ok()
        });
    }

    /// Places an order of each fate in each style.
    pub(crate) fn place_each(&self, fates: &[Fate]) -> Vec<Placed> {
        let all = STYLES
            .iter()
            .flat_map(|style| fates.iter().map(move |fate| (*style, *fate)));
        let place = |(style, fate)| match fate {
            // An account that is disabled.
            Fate::CardRefused => self.place_as(style, fate, "c-9"),
            Fate::Success | Fate::ConsumerRefuses | Fate::KitchenRefuses => {
                self.place_as(style, fate, "c-1")
            }
        };
        all.map(place).collect()
    }

    /// Places an order for a consumer, who begins to watch it.
    pub(crate) fn place_as(&self, style: Style, fate: Fate, consumer: &str) -> Placed {
        let id = format!("o-{}", Uuid::new_v4());
        let request = json!({
            "style": match style {
                Style::Choreography => "choreography",
                Style::Orchestration => "orchestration",
            },
            "orderId": id,
            "consumerId": consumer,
            "restaurantId": if fate == Fate::KitchenRefuses { "r-closed" } else { "r-1" },
            "items": [{
                "name": "soup",
                "quantity": 2,
                "price": if fate == Fate::ConsumerRefuses { 9999 } else { 625 },
            }],
        });
        let (status, placed) = self.ask("POST", "/orders", &request);
        // It may have been placed by a service that died before it could say so.
        assert!(matches!(status, 201 | 200), "{placed}");
        let text = |name: &str| placed[name].as_str().unwrap();
        let (saga_type, saga_id) = (text("sagaType"), text("sagaId"));
        let customer = Customer::watch(self.push(), self.token(consumer, &[]), saga_type, saga_id);
        let saga_id = saga_id.to_owned();
        Placed {
            id,
            saga_id,
            style,
            fate,
            request,
            customer,
        }
    }

    /// Waits until nothing more will happen to these orders, and holds how each has ended against how it should have.
    pub(crate) fn see_to_the_end(&self, orders: &[Placed]) {
        self.wait("the ends of all sagas", || {
            let ended = |order: &Placed| {
                let saga = order.customer.saga();
                saga.is_some_and(|saga| saga.outcome.is_string())
            };
            orders.iter().all(ended)
        });
        self.wait("the end of everything that is under way", || {
            self.is_quiet()
        });
        let messages = self.messages();
        let mut ids = HashSet::new();
        for message in messages.iter().filter(|message| !message.is_copy) {
            assert!(
                ids.insert(&message.id),
                "published twice: {} {}",
                message.name,
                message.id
            );
        }
        for order in orders {
            let right = endings(order.style, order.fate);
            // All is published; the customer may be about to hear of it.
            let deadline = Instant::now() + PATIENCE;
            while Instant::now() < deadline
                && !right.iter().any(|right| right.steps == order.seen().steps)
            {
                thread::sleep(support::process::POLL);
            }
            let ending = self.ending(order, &messages);
            assert!(right.contains(&ending), "{ending:#?} is none of {right:#?}");
            self.check_plan(order);
        }
    }

    /// By the saga's definition nothing is left to do or to undo, and nothing has happened that should not have.
    fn check_plan(&self, order: &Placed) {
        let path = format!("/v1/sagas/{}/{}", order.saga_type(), order.saga_id);
        let saga = self.saga(&path, "operator").unwrap();
        for left in ["anomalies", "remaining_steps", "due_compensations"] {
            assert_eq!(saga[left], json!([]), "{left}: {saga}");
        }
        assert_eq!(saga["stuck_since"], json!(null), "{saga}");
    }

    /// How an order has ended.
    fn ending(&self, order: &Placed, messages: &[Message]) -> Ending {
        let originals = order.of(messages).filter(|message| !message.is_copy);
        let named = |message: &Message| {
            let name = match message.name.as_str() {
                "AccountDisabledReply" | "CardDeclined" => "refusal of the card",
                name => name,
            };
            format!("{} {name}", message.topic)
        };
        let mut said: Vec<_> = originals.map(named).collect();
        said.sort();
        let state = |database: &str, table: &str| {
            let query = format!("select state from {table} where order_id = '{}'", order.id);
            let rows = self.query(database, &query);
            rows.first().map(|row| row.get::<_, String>(0))
        };
        let seen = order.seen();
        let state_of_order = state("order", "orders").unwrap();
        assert_eq!(seen.order, state_of_order);
        Ending {
            order: state_of_order,
            ticket: state("kitchen", "tickets"),
            authorization: state("accounting", "authorizations"),
            messages: said,
            ..seen
        }
    }

    /// Whether nothing is under way: all that is committed is published, all that is published has taken effect, and that was no
    /// further row.
    fn is_quiet(&self) -> bool {
        let before = self.rows();
        let Some(before) = before else { return false };
        let messages = self.messages();
        let published: HashSet<_> = messages.iter().map(|message| message.id.as_str()).collect();
        before.iter().all(|id| published.contains(id.as_str()))
            && SERVICES
                .iter()
                .all(|service| self.has_read(service, &messages))
            && self.rows().is_some_and(|after| after == before)
    }

    /// The ids of all rows in all outboxes; `None`: the card company is still to be asked something.
    fn rows(&self) -> Option<Vec<String>> {
        let asking = "select 1 from authorizations where state = 'REQUESTED'";
        if !self.query("accounting", asking).is_empty() {
            return None;
        }
        let query = "select event_id::text from outbox.event order by id";
        let rows = SERVICES
            .iter()
            .flat_map(|service| self.query(service, query));
        Some(rows.map(|row| row.get(0)).collect())
    }

    /// Whether a service has committed the offset of every message in its channels.
    fn has_read(&self, service: &str, messages: &[Message]) -> bool {
        let mut ends = BTreeMap::new();
        for message in messages {
            if reads(service, &message.topic) {
                ends.insert(
                    (message.topic.as_str(), message.partition),
                    message.offset + 1,
                );
            }
        }
        let mut partitions = TopicPartitionList::new();
        for (topic, partition) in ends.keys() {
            partitions.add_partition(topic, *partition);
        }
        let mut group = ClientConfig::new();
        group
            .set("bootstrap.servers", self.kafka.bootstrap())
            .set("group.id", service);
        let group: BaseConsumer = group.create().unwrap();
        let committed = group.committed_offsets(partitions, PATIENCE).unwrap();
        ends.iter().all(|((topic, partition), end)| {
            let found = committed.find_partition(topic, *partition).unwrap();
            matches!(found.offset(), Offset::Offset(offset) if offset >= *end)
        })
    }

    /// Everything in Kafka.
    pub(crate) fn messages(&self) -> Vec<Message> {
        let all = consumer::read_all(&self.kafka.bootstrap(), &TOPICS);
        let text = |bytes: Option<Vec<u8>>| String::from_utf8(bytes.unwrap_or_default()).unwrap();
        let message = |record: consumer::Message| {
            let header = |name: &str| {
                let found = record.headers.iter().find(|(header, _)| header == name);
                found.map(|(_, value)| text(value.clone()))
            };
            Message {
                id: header("ce_id").unwrap(),
                name: header("ce_type").unwrap(),
                is_copy: header("copy").is_some(),
                key: text(record.key),
                topic: record.topic,
                partition: record.partition,
                offset: record.offset,
            }
        };
        all.into_iter().map(message).collect()
    }

    /// How often the card company was asked.
    pub(crate) fn asked(&self) -> u64 {
        let (_, told) = http::get(self.cards(), "/mood").unwrap();
        let told: Value = serde_json::from_str(&told).unwrap();
        told["asked"].as_u64().unwrap()
    }

    /// The state of an order's ticket.
    pub(crate) fn ticket(&self, order_id: &str) -> Option<String> {
        let query = format!("select state from tickets where order_id = '{order_id}'");
        self.query("kitchen", &query).first().map(|row| row.get(0))
    }

    /// A snapshot over HTTP, for a user, or for an operator who may see all.
    pub(crate) fn saga(&self, path: &str, user: &str) -> Option<Value> {
        let grants: &[&str] = if user == "operator" { &["*"] } else { &[] };
        let token = self.token(user, grants);
        let request = format!("GET {path} HTTP/1.0\r\nAuthorization: Bearer {token}\r\n\r\n");
        let answer = http::raw(self.push(), &request).unwrap();
        match answer {
            (200, body) => Some(serde_json::from_str(&body).unwrap()),
            (404, _) => None,
            other => panic!("{other:?}"),
        }
    }

    /// Does what the consumer service does when it reads the message that concerns it, before that is published.
    pub(crate) fn play_the_consumer_service(&self, order: &Placed) {
        let (cause, refused) = (order.first_message(), order.fate == Fate::ConsumerRefuses);
        let of = format!("key = '{}' and event_type = '{cause}'", order.id);
        let query = format!("select event_id::text from outbox.event where {of}");
        let id: String = self.query("order", &query)[0].get(0);
        let (saga_type, saga_id) = (order.saga_type(), &order.saga_id);
        let (topic, key, kind, name) = match (order.style, refused) {
            (Style::Choreography, false) => {
                ("consumer.events", &order.id, "event", "ConsumerVerified")
            }
            (Style::Choreography, true) => (
                "consumer.events",
                &order.id,
                "event",
                "ConsumerVerificationFailed",
            ),
            (Style::Orchestration, false) => {
                ("create-order-saga.replies", saga_id, "reply", "Success")
            }
            (Style::Orchestration, true) => (
                "create-order-saga.replies",
                saga_id,
                "reply",
                "ConsumerVerificationFailed",
            ),
        };
        let outcome = match (order.style, refused) {
            (Style::Choreography, _) => "null",
            (Style::Orchestration, false) => "'success'",
            (Style::Orchestration, true) => "'failure'",
        };
        let status = if refused { "failed" } else { "done" };
        let payload = json!({ "orderId": order.id, "reason": "it is too much" });
        let statements = format!(
            "begin;
             insert into inbox (reader, message_id) values ('consumer', '{id}');
             insert into outbox.event (topic, key, kind, event_type, payload, correlation_id, causation_id,
                 reply_outcome, saga_type, saga_id, saga_step, saga_step_status)
             values ('{topic}', '{key}', '{kind}', '{name}', '{payload}', '{saga_id}', '{id}',
                 {outcome}, '{saga_type}', '{saga_id}', 'verify-consumer', '{status}');
             commit"
        );
        let url = self.postgres.url("consumer", "consumer");
        block_on(async {
            let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
            let run = async move { client.batch_execute(&statements).await };
            tokio::join!(run, connection).0.unwrap();
        });
    }

    /// Asks a database as its superuser.
    fn query(&self, database: &str, query: &str) -> Vec<Row> {
        let url = self.postgres.url("postgres", database);
        block_on(async {
            let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
            let ask = async move { client.query(query, &[]).await };
            tokio::join!(ask, connection).0.unwrap()
        })
    }
}

impl Placed {
    /// The type of its saga.
    pub(crate) fn saga_type(&self) -> &'static str {
        match self.style {
            Style::Choreography => "create-order-choreographed",
            Style::Orchestration => "create-order-orchestrated",
        }
    }

    /// The message that asks the consumer service to act.
    fn first_message(&self) -> &'static str {
        match self.style {
            Style::Choreography => "OrderCreated",
            Style::Orchestration => "ValidateOrderByConsumer",
        }
    }

    /// Whether the kitchen may hear that it is refused before it hears of it.
    pub(crate) fn leaves_a_tombstone(&self) -> bool {
        self.style == Style::Choreography && self.fate == Fate::ConsumerRefuses
    }

    /// What is about this order.
    pub(crate) fn of<'a>(&'a self, messages: &'a [Message]) -> impl Iterator<Item = &'a Message> {
        let keys = [&self.id, &self.saga_id];
        messages
            .iter()
            .filter(move |message| keys.contains(&&message.key))
    }

    /// What its customer has seen.
    fn seen(&self) -> Ending {
        let Some(saga) = self.customer.saga() else {
            return Ending::default();
        };
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let steps = saga.steps.iter();
        Ending {
            order: text(&saga.state),
            outcome: text(&saga.outcome),
            steps: steps
                .map(|(step, status)| (step.clone(), text(status)))
                .collect(),
            ..Ending::default()
        }
    }
}

/// Which service reads which channel.
fn reads(service: &str, topic: &str) -> bool {
    let (channel, of) = topic.split_once('.').unwrap();
    match of {
        "commands" | "documents" => channel == service,
        "replies" => service == "order",
        _ => match service {
            "consumer" => channel == "order",
            other => channel != other,
        },
    }
}
