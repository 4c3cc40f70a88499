//! The order program: two services that say what happened by a row in `outbox.event`, inserted in the very transaction that
//! makes it happen. Never speaks to Kafka; that is outboxd's work.

use std::time::Duration;

use serde_json::json;
use tokio::time::{MissedTickBehavior, interval};
use tokio_postgres::{Client, Error, NoTls, Transaction};
use tokio_util::sync::CancellationToken;

use crate::{
    event::{Event, SagaState},
    outbox::Outbox,
};

/// What the shop keeps of its own, beside its outbox.
pub(crate) const SHOP_TABLES: &str = "
    create table orders (
        id          text primary key,
        customer    text not null,
        total_cents integer not null,
        state       text not null
    )";

/// What the kitchen keeps.
pub(crate) const KITCHEN_TABLES: &str = "
    create table tickets (
        id       text primary key,
        order_id text not null,
        state    text not null
    )";

/// Of nine transactions these two are rolled back at their last moment, and tried again. An order takes four or five, so that
/// it is not always the same one of an order.
const ROLLED_BACK: [u64; 2] = [2, 6];

/// How many customers there are.
const CUSTOMERS: u64 = 7;

/// From one transaction to the next, for people: about two orders a second.
const LEISURELY: Duration = Duration::from_millis(120);

/// The same for who waits for the end.
const QUICK: Duration = Duration::from_millis(20);

/// All customers.
pub(crate) fn customers() -> impl Iterator<Item = String> {
    (0..CUSTOMERS).map(customer)
}

/// Whose order it is: one customer after the other.
fn customer(order: u64) -> String {
    format!("c-{}", order % CUSTOMERS + 1)
}

/// What it tells of its work.
pub(crate) enum Told {
    /// An order is about to be placed by a customer, who may want to watch it.
    Placing { order: String, customer: String },
    /// A transaction ended.
    Ended(Ended),
}

/// How a transaction ended, and the events that it inserted.
pub(crate) struct Ended {
    pub(crate) committed: bool,
    pub(crate) events: Vec<Event>,
    /// The saga's new state, if one of them says so.
    pub(crate) state: Option<SagaState>,
}

/// Both services, which in this demo live in one program.
pub(crate) struct OrderProgram<Report> {
    shop: Client,
    kitchen: Client,
    end: End<Report>,
    stop: CancellationToken,
}

impl<Report: FnMut(Told)> OrderProgram<Report> {
    /// Connects to both databases, each as its service's own role. `report` hears of every order before it is placed,
    /// and of every transaction when it has ended.
    pub(crate) async fn connect(
        shop: &str,
        kitchen: &str,
        report: Report,
        stop: CancellationToken,
    ) -> Result<Self, Error> {
        let (shop, kitchen) = (connect(shop).await?, connect(kitchen).await?);
        let end = End { count: 0, report };
        Ok(Self {
            shop,
            kitchen,
            end,
            stop,
        })
    }

    /// Places so many orders quickly, or without a number one after the other until it is stopped; never leaves one half done.
    /// Gives how many it placed.
    pub(crate) async fn run(mut self, orders: Option<u64>) -> Result<u64, Error> {
        let mut pace = interval(orders.map_or(LEISURELY, |_| QUICK));
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut placed = 0;
        while orders != Some(placed) && !self.stop.is_cancelled() {
            let order = Order::number(placed + 1);
            (self.end.report)(order.placing());
            for step in order.steps() {
                // A transaction that was rolled back left nothing behind, no event either: it is simply done again.
                while !self.take(*step, &order).await? {}
                tokio::select! {
                    _ = pace.tick() => {}
                    () = self.stop.cancelled() => {}
                }
            }
            placed += 1;
        }
        Ok(placed)
    }

    async fn take(&mut self, step: Step, order: &Order) -> Result<bool, Error> {
        match step {
            Step::CreateOrder => self.create_order(order).await,
            Step::ReviseOrder => self.revise_order(order).await,
            Step::CreateTicket => {
                self.open_ticket(order, "TicketCreated", "CREATE_PENDING", "done")
                    .await
            }
            Step::RejectTicket => {
                self.open_ticket(order, "TicketRejected", "REJECTED", "failed")
                    .await
            }
            Step::ConfirmTicket => self.confirm_ticket(order).await,
            Step::ApproveOrder => {
                self.end_order(order, "OrderApproved", "APPROVED", "completed")
                    .await
            }
            Step::RejectOrder => {
                self.end_order(order, "OrderRejected", "REJECTED", "rejected")
                    .await
            }
        }
    }

    /// The shop: a new order, which begins the saga `create-order`. The shop is the saga's home: it alone sets its state.
    async fn create_order(&mut self, order: &Order) -> Result<bool, Error> {
        let shop = self.shop.transaction().await?;
        let row = "insert into orders (id, customer, total_cents, state) values ($1, $2, $3, 'APPROVAL_PENDING')";
        shop.execute(row, &[&order.id, &order.customer, &order.total_cents])
            .await?;
        let created = Outbox {
            payload: json!({ "order": order.id, "customer": order.customer, "total_cents": order.total_cents }),
            saga_user: Some(&order.customer),
            saga_state: Some("APPROVAL_PENDING"),
            ..order.shop("OrderCreated")
        };
        let state = created.state();
        let events = vec![created.insert(&shop).await?];
        self.end.transaction(shop, events, state).await
    }

    /// The shop: one transaction that changes an order twice. Who reads the topic sees both, in this order.
    async fn revise_order(&mut self, order: &Order) -> Result<bool, Error> {
        let shop = self.shop.transaction().await?;
        let mut events = Vec::new();
        for (event_type, cents) in [("OrderRevised", 250), ("OrderDiscounted", -100)] {
            // First the row, then the event: whoever holds the row's lock is the only one to say what happened to it.
            let change = "update orders set total_cents = total_cents + $2 where id = $1 returning total_cents";
            let total_cents: i32 = shop.query_one(change, &[&order.id, &cents]).await?.get(0);
            let revised = Outbox {
                payload: json!({ "order": order.id, "total_cents": total_cents }),
                ..order.shop(event_type)
            };
            events.push(revised.insert(&shop).await?);
        }
        self.end.transaction(shop, events, None).await
    }

    /// The kitchen: a ticket for the order, or a refusal. A participant of the saga reports its step, and nothing else.
    async fn open_ticket(
        &mut self,
        order: &Order,
        event_type: &str,
        state: &str,
        status: &str,
    ) -> Result<bool, Error> {
        let kitchen = self.kitchen.transaction().await?;
        let row = "insert into tickets (id, order_id, state) values ($1, $2, $3)";
        kitchen
            .execute(row, &[&order.ticket, &order.id, &state])
            .await?;
        let opened = Outbox {
            saga_step: Some("create-ticket"),
            saga_step_status: Some(status),
            ..order.kitchen(event_type)
        };
        let events = vec![opened.insert(&kitchen).await?];
        self.end.transaction(kitchen, events, None).await
    }

    /// The kitchen: it begins to cook.
    async fn confirm_ticket(&mut self, order: &Order) -> Result<bool, Error> {
        let kitchen = self.kitchen.transaction().await?;
        let change = "update tickets set state = 'ACCEPTED' where id = $1";
        kitchen.execute(change, &[&order.ticket]).await?;
        let confirmed = Outbox {
            saga_step: Some("confirm-ticket"),
            saga_step_status: Some("done"),
            ..order.kitchen("TicketConfirmed")
        };
        let events = vec![confirmed.insert(&kitchen).await?];
        self.end.transaction(kitchen, events, None).await
    }

    /// The shop: the order is decided, and the saga has ended.
    async fn end_order(
        &mut self,
        order: &Order,
        event_type: &str,
        state: &str,
        outcome: &str,
    ) -> Result<bool, Error> {
        let shop = self.shop.transaction().await?;
        let change = "update orders set state = $2 where id = $1";
        shop.execute(change, &[&order.id, &state]).await?;
        let decided = Outbox {
            saga_state: Some(state),
            saga_outcome: Some(outcome),
            ..order.shop(event_type)
        };
        let state = decided.state();
        let events = vec![decided.insert(&shop).await?];
        self.end.transaction(shop, events, state).await
    }
}

/// Ends transactions: most of them well.
struct End<Report> {
    count: u64,
    report: Report,
}

impl<Report: FnMut(Told)> End<Report> {
    /// Commits, or now and then rolls back, as if the service had thought better of it; says which.
    async fn transaction(
        &mut self,
        transaction: Transaction<'_>,
        events: Vec<Event>,
        state: Option<SagaState>,
    ) -> Result<bool, Error> {
        self.count += 1;
        let committed = !ROLLED_BACK.contains(&(self.count % 9));
        if committed {
            transaction.commit().await?;
        } else {
            transaction.rollback().await?;
        }
        (self.report)(Told::Ended(Ended {
            committed,
            events,
            state,
        }));
        Ok(committed)
    }
}

/// What is done for an order, each in a transaction of its own.
#[derive(Clone, Copy)]
enum Step {
    CreateOrder,
    ReviseOrder,
    CreateTicket,
    RejectTicket,
    ConfirmTicket,
    ApproveOrder,
    RejectOrder,
}

struct Order {
    number: u64,
    id: String,
    ticket: String,
    customer: String,
    total_cents: i32,
}

impl Order {
    fn number(number: u64) -> Self {
        Self {
            number,
            id: format!("o-{number}"),
            ticket: format!("t-{number}"),
            customer: customer(number),
            total_cents: 1250,
        }
    }

    /// Every third customer changes something, and every seventh order is more than the kitchen can do.
    fn steps(&self) -> &'static [Step] {
        use Step::{
            ApproveOrder, ConfirmTicket, CreateOrder, CreateTicket, RejectOrder, RejectTicket,
            ReviseOrder,
        };
        match (self.number % 7, self.number % 3) {
            (0, _) => &[CreateOrder, RejectTicket, RejectOrder],
            (_, 0) => &[
                CreateOrder,
                ReviseOrder,
                CreateTicket,
                ConfirmTicket,
                ApproveOrder,
            ],
            _ => &[CreateOrder, CreateTicket, ConfirmTicket, ApproveOrder],
        }
    }

    fn placing(&self) -> Told {
        Told::Placing {
            order: self.id.clone(),
            customer: self.customer.clone(),
        }
    }

    /// An event of the shop's, about this order.
    fn shop<'a>(&'a self, event_type: &'a str) -> Outbox<'a> {
        self.outbox("shop", "orders", &self.id, event_type)
    }

    /// An event of the kitchen's, about this order's ticket.
    fn kitchen<'a>(&'a self, event_type: &'a str) -> Outbox<'a> {
        self.outbox("kitchen", "tickets", &self.ticket, event_type)
    }

    fn outbox<'a>(
        &'a self,
        source: &'a str,
        topic: &'a str,
        key: &'a str,
        event_type: &'a str,
    ) -> Outbox<'a> {
        Outbox {
            source,
            topic,
            key,
            event_type,
            payload: json!({ "order": self.id }),
            saga_id: &self.id,
            saga_user: None,
            saga_state: None,
            saga_outcome: None,
            saga_step: None,
            saga_step_status: None,
        }
    }
}

async fn connect(url: &str) -> Result<Client, Error> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    #[expect(
        clippy::disallowed_methods,
        reason = "a program of its own, without outboxd's tasks"
    )]
    tokio::spawn(async move {
        // Its error comes out of the client's next call, too.
        let _ = connection.await;
    });
    Ok(client)
}
