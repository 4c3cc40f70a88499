//! The example `create_order`, both styles of it, with everything that may happen to it: how each saga ends in the databases, what
//! was said in Kafka on the way, and what its customer saw. All tests share one deployment, which lives through all of it.
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::string_slice,
    clippy::unwrap_used,
    missing_docs,
    reason = "a test that cannot go on fails, and says where"
)]

mod customer;
mod ending;
#[path = "../support/mod.rs"]
mod support;
mod world;

use ending::Fate;
use serde_json::json;
use world::{STYLES, World};

/// Every way in which an order can end.
const FATES: [Fate; 4] = [
    Fate::Success,
    Fate::ConsumerRefuses,
    Fate::KitchenRefuses,
    Fate::CardRefused,
];

#[test]
fn every_saga_ends_as_it_should_and_nothing_is_undone_twice() {
    let world = World::take();
    let orders = world.place_each(&FATES);
    for order in &orders {
        // Asked again, because the answer was lost: it is the same order, and the same saga.
        let (status, again) = world.ask("POST", "/orders", &order.request);
        assert_eq!((status, &again["sagaId"]), (200, &json!(order.saga_id)));
    }
    world.see_to_the_end(&orders);
}

#[test]
fn a_card_that_its_company_declines_is_a_refusal_too() {
    let world = World::take();
    world.mood(&json!({ "refuses": true }));
    let orders = STYLES.map(|style| world.place_as(style, Fate::CardRefused, "c-1"));
    world.see_to_the_end(&orders);
}

#[test]
fn a_card_company_that_is_silent_is_asked_again_until_it_answers() {
    let world = World::take();
    world.mood(&json!({ "is_silent": true }));
    let (before, log) = (world.asked(), world.log("accounting").len());
    let orders = world.place_each(&[Fate::Success]);
    world.wait("three time-outs, which open the circuit", || {
        world.asked() >= before + 3
            && world.log("accounting")[log..].contains("the circuit to the card company is open")
    });
    world.mood(&json!({}));
    world.see_to_the_end(&orders);
}

#[test]
fn while_the_kitchen_is_away_its_sagas_are_stuck_and_their_orders_locked() {
    let world = World::take();
    world.kill("kitchen");
    let orders = world.place_each(&FATES);
    for order in orders.iter().filter(|order| order.fate == Fate::Success) {
        world.wait("the consumer to be verified", || {
            order.customer.step("verify-consumer").as_deref() == Some("done")
        });
        let (path, change) = (
            format!("/orders/{}", order.id),
            json!({"deliverTo": "elsewhere"}),
        );
        let (status, said) = world.ask("PATCH", &path, &change);
        assert_eq!(status, 409, "{said}");
        // Nobody has to have looked for it: the definition says how long is too long.
        world.wait("the saga to be stuck", || order.customer.is_stuck());
    }
    world.begin("kitchen");
    world.see_to_the_end(&orders);
    for order in orders.iter().filter(|order| order.fate == Fate::Success) {
        let (path, change) = (
            format!("/orders/{}", order.id),
            json!({"deliverTo": "elsewhere"}),
        );
        let (status, said) = world.ask("PATCH", &path, &change);
        assert_eq!((status, &said["deliverTo"]), (200, &json!("elsewhere")));
    }
}

#[test]
fn messages_that_all_come_twice_take_effect_once() {
    let world = World::take();
    world.begin("twice");
    world.wait("the second delivery", || {
        world
            .log("twice")
            .contains("delivers twice what comes from now on")
    });
    let orders = world.place_each(&FATES);
    world.see_to_the_end(&orders);
    world.wait("a copy of each message", || {
        let messages = world.messages();
        orders.iter().all(|order| {
            let (copies, originals): (Vec<_>, Vec<_>) =
                order.of(&messages).partition(|message| message.is_copy);
            copies.len() == originals.len()
        })
    });
    // What the copies did is nothing.
    world.see_to_the_end(&orders);
    world.kill("twice");
}

#[test]
fn a_participant_may_be_heard_before_the_home_service() {
    let world = World::take();
    world.relay_only(&["consumer", "kitchen", "accounting"]);
    let fates = [Fate::Success, Fate::ConsumerRefuses];
    let orders = world.place_each(&fates);
    for order in &orders {
        // What the order service says is not published: whatever happens now happens before it.
        world.play_the_consumer_service(order);
    }
    for order in &orders {
        let path = format!("/v1/sagas/{}/{}", order.saga_type(), order.saga_id);
        world.wait("outboxd to have heard the participant", || {
            let seen = world.saga(&path, "operator");
            seen.is_some_and(|saga| saga["steps"][0]["step"] == json!("verify-consumer"))
        });
        let saga = world.saga(&path, "operator").unwrap();
        assert_eq!(
            (&saga["state"], &saga["outcome"]),
            (&json!(null), &json!(null))
        );
        // Whose saga it is has not been said.
        assert_eq!(world.saga(&path, "c-1"), None);
        assert_eq!(order.customer.changes(), 0);
    }
    let [refused] = &orders
        .iter()
        .filter(|order| order.leaves_a_tombstone())
        .collect::<Vec<_>>()[..]
    else {
        panic!("one order is refused before the kitchen hears of it");
    };
    world.wait("the tombstone", || {
        world.ticket(&refused.id).as_deref() == Some("CANCELLED")
    });
    world.relay_only(&support::deployment::SERVICES);
    world.see_to_the_end(&orders);
}

#[test]
fn a_service_that_dies_between_its_commit_and_its_offset_does_nothing_twice() {
    let world = World::take();
    for (number, service) in support::deployment::SERVICES.into_iter().enumerate() {
        world.kill(service);
        let message = (number % 2 + 1).to_string();
        world.begin_with(service, &["--crash-after", &message]);
    }
    let lives = support::deployment::SERVICES.map(|service| world.lives(service));
    world.wait_for_orders();
    let orders = world.place_each(&FATES);
    world.see_to_the_end(&orders);
    for (service, before) in support::deployment::SERVICES.into_iter().zip(lives) {
        assert!(world.lives(service) > before, "{service} has not died");
        assert!(world.log(service).contains("again"), "{service}");
    }
}

#[cfg(feature = "failpoints")]
#[test]
fn an_outboxd_that_dies_between_its_commit_and_its_settlement_says_nothing_twice() {
    let world = World::take();
    world.daemon.kill();
    let orders = world.place_each(&FATES);
    // Each life publishes something, and does not come to note that.
    for point in [
        "before_settle=1",
        "after_commit=1",
        "before_settle=2",
        "after_commit=3",
    ] {
        world
            .daemon
            .start_again_with(&[("OUTBOXD_FAILPOINTS", point)]);
        assert_eq!(world.daemon.wait(), 128 + 9, "{}", world.daemon.log());
    }
    world.daemon.start_again();
    world.daemon.wait_ready();
    world.see_to_the_end(&orders);
}
