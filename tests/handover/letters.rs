//! Events that Kafka refuses, while the daemon is killed at each step of their way and operators change their minds: each is
//! published once and in its order in the end, and its saga hears of it once, when its turn comes first.

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use outboxd::failpoint::Point;

use crate::lane::{Lane, PATIENCE, start, stopped};
use crate::support::daemon::Daemon;
use crate::support::topics::{configure_topic, create_topic};
use crate::support::{block_on, consumer, kafka, postgres, unique, wait_until};
use crate::world::{OUTBOXD, topic};
use crate::writers::Writer;

/// What the daemon does with letters, and where it is killed meanwhile.
const STEPS: [Point; 8] = [
    Point::LettersDue,
    Point::LettersKept,
    Point::Acknowledge,
    Point::BeforeCommit,
    Point::AfterCommit,
    Point::BeforeSettle,
    Point::Ahead,
    Point::ReadBack,
];

const TOO_LARGE: &str = "select count(*) from outbox.dead_letter where reason = 'too_large'";

fn letters(lane: &Lane<'_>) -> i64 {
    lane.service
        .number("select count(*) from outbox.dead_letter")
}

fn wish(daemon: &Daemon, lane: &Lane<'_>, wish: &str, which: &[&str]) {
    let config = daemon.config();
    let output = Command::new(OUTBOXD)
        .args(["--config", config.to_str().unwrap(), "dead-letters", wish])
        .args(["--source", &lane.service.name])
        .args(which)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn a_kill_at_every_step_of_dead_letters_changes_nothing() {
    let (kafka, name) = (kafka(), "letters");
    let small = topic(kafka, name, 1, &[("max.message.bytes", "20000")]);
    // One for each step comes into being while the daemon looks for it.
    let missing: Vec<String> = STEPS.iter().map(|_| unique("letters_missing")).collect();
    let topics = [topic(kafka, name, 3, &[]), small.clone()];
    let topics = topics.into_iter().chain(missing.iter().cloned()).collect();
    let source = "batch = { events = 40 }";
    let lane = Lane::with_topics(kafka, postgres(16), name, "", source, topics);
    let daemon = &lane.daemon;
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for seed in 0..3 {
            let writer = Writer {
                large: 50_000,
                ..lane.writer(false)
            };
            let stop = &stop;
            scope.spawn(move || block_on(writer.run(seed, stop)));
        }
        let _stop = crate::lane::StopAtEnd(&stop);
        start(daemon, "", None);
        for (point, missing) in STEPS.into_iter().zip(&missing) {
            let of_topic = format!(
                "select count(*) from outbox.dead_letter where topic = '{missing}' and release = 'auto'"
            );
            wait_until("letters that wait for the topic", PATIENCE, || {
                lane.service.number(&of_topic) > 20
            });
            wait_until("a letter that is too large", PATIENCE, || {
                lane.service.number(TOO_LARGE) > 0
            });
            // An operator who is in too much of a hurry: what is too large is refused again.
            wish(daemon, &lane, "retry", &["--all"]);
            daemon.kill();
            create_topic(&kafka.bootstrap(), missing, 1, &[]);
            if matches!(point, Point::Ahead | Point::ReadBack) {
                // Only what was not settled is found again.
                lane.kill_at(Point::AfterCommit, 1, None);
            }
            lane.kill_at(point, 1, None);
            start(daemon, "", None);
        }
        stop.store(true, Ordering::Relaxed);
    });
    wait_until("a letter that is too large", PATIENCE, || {
        lane.service.number(TOO_LARGE) > 0
    });
    let refused = lane.service.number(TOO_LARGE);
    configure_topic(&kafka.bootstrap(), &small, "max.message.bytes", "1000000");
    wait_until("all letters to be gone", PATIENCE * 2, || {
        wish(daemon, &lane, "retry", &["--all"]);
        std::thread::sleep(Duration::from_millis(300));
        letters(&lane) == 0
    });
    lane.settled();
    assert_eq!(daemon.terminate(), 0, "{}", daemon.log());
    assert!(
        !daemon.log().contains("has lost events"),
        "a letter is no loss"
    );
    let verdict = lane.verdict();
    assert!(verdict.is_clean(), "{refused} too large: {verdict}");
}

/// A wish to drop that comes while the letter is tried again is carried out after all.
#[test]
fn a_drop_during_a_retry_is_not_forgotten() {
    let (kafka, name) = (kafka(), "drop");
    let small = topic(kafka, name, 1, &[("max.message.bytes", "2000")]);
    let lane = Lane::with_topics(kafka, postgres(16), name, "", "", vec![small.clone()]);
    let daemon = &lane.daemon;
    let insert = |payload: &str| {
        lane.service.execute(&format!(
            "insert into outbox.event (topic, key, event_type, payload) values ('{small}', 'k', 'E', '{payload}')"
        ));
    };
    start(daemon, "", None);
    insert(&format!("\"{}\"", "x".repeat(5000)));
    insert("2");
    wait_until("two letters", PATIENCE, || letters(&lane) == 2);
    assert_eq!(daemon.terminate(), 0, "{}", daemon.log());
    wish(daemon, &lane, "retry", &["--all"]);
    // At the second look Kafka has refused the first one again, and that is written down next: not over the second wish.
    start(daemon, "letters_due=2:stop", None);
    stopped(daemon);
    wish(daemon, &lane, "drop", &["--all"]);
    daemon.signal("CONT");
    wait_until("both to be dropped", PATIENCE, || letters(&lane) == 0);
    insert("3");
    let seen = || consumer::read_all(&kafka.bootstrap(), &[&small]);
    wait_until("the event after them", PATIENCE, || seen().len() == 1);
    assert_eq!(seen()[0].value.as_deref(), Some(&b"3"[..]));
    assert_eq!(daemon.terminate(), 0, "{}", daemon.log());
}
