//! Holds deadlines to the rule: late only when every source says so, and outages count for nobody.

use super::*;
use crate::logic::saga::definition::tests::create_order;

const S: i64 = 1_000_000;
const LIMIT: Duration = Duration::from_secs(120);
const WEEK_MS: i64 = 7 * 24 * 3_600_000;

/// One partition of a log that is written as time goes by, in seconds.
#[derive(Default)]
struct Log {
    overdue: Overdue,
    number: u64,
}

impl Log {
    fn reported(&mut self, source: &str, at: i64) {
        self.overdue.reported(
            "create-order",
            Some(&Arc::new(create_order())),
            source,
            at * 1_000,
        );
    }

    fn begins(&mut self, id: &str, at: i64) -> Deadline {
        self.reported("orders", at);
        self.number += 1;
        let key = SagaKey::new("create-order", id);
        let deadline = self.overdue.enter(&key, self.number, LIMIT, at * 1_000);
        deadline.unwrap()
    }

    /// A relay says at this time that its source is published until then. Which sagas are late, and since when?
    fn until(&mut self, source: &str, at: i64, until: i64) -> Vec<(String, i64)> {
        let late = self
            .overdue
            .published_until(source, Timestamp(until * S), at * 1_000, WEEK_MS);
        late.into_iter()
            .map(|late| (late.key.saga_id.to_string(), late.since.0 / S))
            .collect()
    }

    /// Every relay says every 10 s that all is published, over this time.
    fn goes_well(&mut self, from: i64, to: i64, sources: &[&str]) -> Vec<(String, i64)> {
        let mut late = Vec::new();
        for at in (from..=to).step_by(10) {
            for source in sources {
                late.extend(self.until(source, at, at));
            }
        }
        late
    }
}

fn late(id: &str, since: i64) -> Vec<(String, i64)> {
    vec![(id.to_owned(), since)]
}

#[test]
fn a_saga_is_late_once_when_every_source_is_published_beyond_its_deadline() {
    let mut log = Log::default();
    log.goes_well(0, 0, &["orders", "kitchen"]);
    log.begins("a", 5);
    log.reported("kitchen", 6);
    assert_eq!(log.goes_well(10, 120, &["orders", "kitchen"]), []);
    assert_eq!(
        log.until("orders", 130, 130),
        [],
        "the kitchen has not said so"
    );
    assert_eq!(
        log.until("kitchen", 130, 125),
        [],
        "not older than its deadline"
    );
    assert_eq!(log.until("kitchen", 131, 126), late("a", 125));
    assert_eq!(log.goes_well(140, 400, &["orders", "kitchen"]), [], "once");
}

#[test]
fn whoever_moved_on_in_time_is_not_late() {
    let mut log = Log::default();
    log.goes_well(0, 0, &["orders"]);
    let deadline = log.begins("a", 0);
    log.begins("b", 0);
    log.overdue.leave("create-order", deadline);
    assert_eq!(log.goes_well(10, 200, &["orders"]), late("b", 120));
}

#[test]
fn a_relay_that_is_away_holds_up_all_and_its_time_does_not_count() {
    let both = ["orders", "kitchen"];
    let mut log = Log::default();
    log.goes_well(0, 0, &both);
    log.begins("a", 0);
    log.reported("kitchen", 0);
    log.goes_well(10, 100, &both);
    assert_eq!(log.goes_well(110, 2000, &["orders"]), []);
    // It comes back, and everybody gets the 20 s that were left.
    assert_eq!(log.goes_well(2010, 2030, &both), []);
    assert_eq!(log.goes_well(2040, 2040, &both), late("a", 2030));
}

#[test]
fn while_kafka_is_away_time_stands_still() {
    let both = ["orders", "kitchen"];
    let mut log = Log::default();
    log.goes_well(0, 0, &both);
    log.begins("a", 0);
    log.reported("kitchen", 0);
    log.goes_well(10, 100, &both);
    // More than the hour after which a single source would not count any more.
    assert_eq!(log.until("orders", 8000, 8000), []);
    assert_eq!(log.until("kitchen", 8001, 8001), []);
    log.begins("b", 8002);
    assert_eq!(log.goes_well(8010, 8020, &both), []);
    assert_eq!(log.goes_well(8030, 8030, &both), late("a", 8020));
    assert_eq!(log.goes_well(8040, 8200, &both), late("b", 8122));
}

#[test]
fn a_relay_that_catches_up_slowly_holds_up_all() {
    let mut log = Log::default();
    log.goes_well(0, 0, &["orders", "kitchen"]);
    log.begins("a", 0);
    log.reported("kitchen", 0);
    for at in (10..2000).step_by(10) {
        assert_eq!(log.until("orders", at, at), []);
        assert_eq!(log.until("kitchen", at, at / 20), [], "{at}");
    }
}

#[test]
fn a_source_that_was_not_heard_of_for_an_hour_does_not_count() {
    let mut log = Log::default();
    log.goes_well(0, 0, &["orders", "gone"]);
    log.begins("a", 0);
    log.reported("gone", 0);
    assert_eq!(log.goes_well(10, 3600, &["orders"]), [], "time stood still");
    assert_eq!(log.goes_well(3610, 3710, &["orders"]), []);
    assert_eq!(log.goes_well(3720, 3740, &["orders"]), late("a", 3730));
    // And counts again when it is back.
    log.until("gone", 3750, 3750);
    log.begins("b", 3750);
    assert_eq!(log.goes_well(3760, 4000, &["orders"]), []);
}

#[test]
fn a_source_that_never_says_how_far_it_is_counts_for_an_hour() {
    let mut log = Log::default();
    log.goes_well(0, 0, &["orders"]);
    log.begins("a", 0);
    log.reported("silent", 0);
    assert_eq!(log.goes_well(10, 3600, &["orders"]), []);
    let since_then = log.goes_well(3610, 3740, &["orders"]);
    assert_eq!(since_then.len(), 1);
    log.begins("b", 3740);
    log.reported("silent", 3741);
    assert_eq!(
        log.goes_well(3750, 3870, &["orders"]),
        late("b", 3860),
        "once for ever"
    );
}

#[test]
fn a_service_of_the_definition_counts_before_its_first_report() {
    let mut log = Log::default();
    log.goes_well(0, 0, &["orders", "accounting"]);
    log.begins("a", 0);
    assert_eq!(log.goes_well(10, 300, &["orders"]), []);
}

#[test]
fn who_has_no_part_in_a_type_does_not_count() {
    let mut log = Log::default();
    log.goes_well(0, 0, &["orders", "warehouse"]);
    log.begins("a", 0);
    assert_eq!(log.goes_well(10, 130, &["orders"]), late("a", 120));
}

#[test]
fn made_up_sources_are_bounded() {
    let mut log = Log::default();
    log.begins("a", 0);
    for number in 0..3 * SOURCES {
        log.reported(&format!("s{number}"), 0);
        log.until(&format!("u{number}"), 0, 0);
    }
    assert_eq!(log.overdue.heard.sources.len(), SOURCES);
    assert_eq!(
        log.overdue.heard.types["create-order"].sources.len(),
        SOURCES
    );
}
