//! Several daemons on one configuration: whoever is killed, frozen or stopped is succeeded, and a zombie does no harm.

use crate::lane::{Lane, PATIENCE, start, stopped};
use crate::support::daemon::Daemon;
use crate::support::{kafka, postgres, unique, wait_until};
use crate::world::{OUTBOXD, Service, kafka_block};

/// Longer than anything here is waited for: whoever leads sooner did not wait for the end of a lease.
const NEVER: &str = "lease = \"600s\"";
const SHORT: &str = "lease = \"2s\"";

fn lane(name: &str, relay: &str) -> Lane<'static> {
    Lane::new(
        kafka(),
        postgres(16),
        name,
        relay,
        "batch = { events = 40 }",
    )
}

fn leads(daemon: &Daemon) -> f64 {
    daemon.metrics().sum("outboxd_source_leader")
}

/// Waits until it leads; it may have been fenced a moment ago, but it goes on.
fn comes_to_lead(daemon: &Daemon) {
    wait_until("the daemon to lead", PATIENCE, || leads(daemon) > 0.0);
}

/// Waits until a daemon has found out that it leads no more.
fn fenced(daemon: &Daemon) {
    daemon.wait_metrics("the zombie to stand by", |metrics| {
        metrics.sum("outboxd_lease_lost_total") >= 1.0
            && metrics.sum("outboxd_source_leader") == 0.0
    });
}

#[test]
fn the_same_instance_is_back_at_once_and_another_one_after_the_lease() {
    let lane = lane("killed", NEVER);
    lane.while_writing(&[&lane.daemon], || {
        start(&lane.daemon, "", None);
        lane.led_with(1);
        lane.daemon.kill();
        // Its lease has ten minutes left, and its process is gone from this host.
        start(&lane.daemon, "", None);
        lane.led_with(2);
    });
    let lane = self::lane("killed", SHORT);
    let twin = lane.twin();
    lane.while_writing(&[&lane.daemon, &twin], || {
        start(&lane.daemon, "", None);
        lane.led_with(1);
        start(&twin, "", None);
        twin.wait_ready();
        lane.daemon.kill();
        lane.led_with(2);
        comes_to_lead(&twin);
        // A daemon that was not the last leader takes nothing back.
        start(&lane.daemon, "", None);
        lane.daemon.wait_ready();
        lane.led_with(2);
        assert_eq!(lane.epoch(), 2, "whoever joins disturbs nobody");
    });
}

#[test]
fn a_clean_stop_hands_over_at_once() {
    let lane = lane("stopped", NEVER);
    let twin = lane.twin();
    lane.while_writing(&[&lane.daemon, &twin], || {
        start(&lane.daemon, "", None);
        lane.led_with(1);
        start(&twin, "", None);
        twin.wait_ready();
        for (epoch, (old, new)) in (2..).zip([(&lane.daemon, &twin), (&twin, &lane.daemon)]) {
            assert_eq!(old.terminate(), 0, "{}", old.log());
            lane.led_with(epoch);
            comes_to_lead(new);
            start(old, "", None);
            old.wait_ready();
        }
    });
}

/// Frozen anywhere in a transaction, with or without a successor that fences it: nothing that a zombie does is seen.
#[test]
fn a_frozen_leader_publishes_and_settles_nothing_when_it_goes_on() {
    let steps = [
        "send=30",
        "sagas=3",
        "before_commit=9",
        "after_commit=9",
        "before_settle=3",
        "init=1",
        "after_commit=9:slow,replace=1",
        "after_commit=9:slow,init=2",
    ];
    let lane = lane("frozen", SHORT);
    let (zombie, successor) = (&lane.daemon, lane.twin());
    lane.while_writing(&[zombie, &successor], || {
        start(&successor, "", None);
        lane.led_with(1);
        for step in steps {
            start(zombie, &format!("{step}:stop"), None);
            zombie.wait_ready();
            // It leads when the one that leads is gone.
            assert_eq!(successor.terminate(), 0, "{}", successor.log());
            stopped(zombie);
            let epoch = lane.epoch();
            start(&successor, "", None);
            lane.led_with(epoch + 1);
            zombie.signal("CONT");
            fenced(zombie);
            lane.led_with(epoch + 1);
            comes_to_lead(&successor);
            zombie.kill();
        }
    });
}

/// A step of the database's clock ends leases that their holders believe in, or makes them last for hours.
#[test]
fn a_step_of_the_database_clock_costs_a_take_over_and_no_event() {
    let lane = lane("clock", "lease = \"3s\"");
    let twin = lane.twin();
    lane.while_writing(&[&lane.daemon, &twin], || {
        start(&lane.daemon, "", None);
        lane.led_with(1);
        start(&twin, "", None);
        twin.wait_ready();
        for _ in 0..3 {
            // Forward: the one that looks first takes it while the other one is at work.
            let epoch = lane.epoch();
            lane.service.execute(
                "update outbox.relay set epoch = epoch, lease_until = clock_timestamp() - interval '1 hour'",
            );
            lane.led_with(epoch);
        }
        // Backward, and the leader dies before it renews: the lease that it leaves lasts for an hour.
        let (leader, other) = if leads(&lane.daemon) > 0.0 {
            (&lane.daemon, &twin)
        } else {
            (&twin, &lane.daemon)
        };
        leader.signal("STOP");
        wait_until("it to stop", PATIENCE, || leader.is_stopped());
        lane.service
            .execute("update outbox.relay set lease_until = clock_timestamp() + interval '1 hour'");
        leader.kill();
        let epoch = lane.epoch();
        lane.led_with(epoch + 1);
        comes_to_lead(other);
    });
}

#[test]
fn free_sources_are_spread_over_the_daemons() {
    let services: Vec<_> = (0..6)
        .map(|_| Service::install(postgres(16), "spread"))
        .collect();
    let blocks: String = services.iter().map(|service| service.block("")).collect();
    let config = kafka_block(kafka(), &unique("spread")) + "[relay]\n" + SHORT + "\n" + &blocks;
    let daemons: Vec<Daemon> = (0..3).map(|_| Daemon::start(OUTBOXD, &config)).collect();
    let counts = |daemons: &[&Daemon]| {
        let mut counts: Vec<f64> = daemons.iter().map(|daemon| leads(daemon)).collect();
        counts.sort_unstable_by(f64::total_cmp);
        counts
    };
    let led = |daemons: &[&Daemon]| {
        daemons.iter().for_each(|daemon| daemon.wait_ready());
        wait_until("all sources to be led", PATIENCE, || {
            counts(daemons).iter().sum::<f64>() >= 6.0
        });
        counts(daemons)
    };
    let all: Vec<&Daemon> = daemons.iter().collect();
    let counts = led(&all);
    assert!(counts[0] >= 1.0, "nobody is left out: {counts:?}");
    // What the busiest one leaves goes to both others.
    let busiest = all
        .iter()
        .position(|daemon| leads(daemon) >= counts[2])
        .unwrap();
    let mut rest = all.clone();
    rest.swap_remove(busiest).kill();
    let counts = led(&rest);
    assert!(counts[0] >= 2.0, "spread: {counts:?}");
}
