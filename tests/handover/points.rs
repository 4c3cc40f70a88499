//! The daemon kills itself at each step of the hand-over, and at each two of them in a row.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use outboxd::failpoint::Point;

use crate::lane::{Lane, PATIENCE, StopAtEnd, start};
use crate::support::history::Outcome;
use crate::support::postgres::Postgres;
use crate::support::{block_on, kafka, postgres, wait_until};
use crate::writers::bystander;

const LANES: usize = 4;
const WRITERS: u64 = 3;

/// The steps of every hand-over; those of dead letters are in `letters`.
fn points() -> Vec<Point> {
    let of_letters = |point: &Point| matches!(point, Point::LettersDue | Point::LettersKept);
    let points = Point::ALL.iter().copied();
    points.filter(|point| !of_letters(point)).collect()
}

/// Every point follows every other one and itself once: a de Bruijn sequence of pairs.
fn sequence() -> Vec<Point> {
    let points = points();
    let mut sequence = Vec::new();
    for (index, first) in points.iter().enumerate() {
        sequence.push(*first);
        for second in &points[index + 1..] {
            sequence.extend([*first, *second]);
        }
    }
    sequence.push(points[0]);
    sequence
}

#[test]
fn every_two_points_are_in_a_row_somewhere() {
    let sequence = sequence();
    let pairs: std::collections::HashSet<_> = sequence
        .windows(2)
        .map(|pair| (pair[0].name(), pair[1].name()))
        .collect();
    assert_eq!(pairs.len(), points().len() * points().len());
    assert_eq!(sequence.len(), pairs.len() + 1, "none of them twice");
}

/// How many passes of a point a life is sure to see; which of them kills is another one each time.
fn passes(point: Point) -> u64 {
    match point {
        Point::Init | Point::LeaseTake | Point::Ahead | Point::ReadBack | Point::Rotate => 1,
        Point::Replace | Point::LettersDue | Point::LettersKept => 1,
        Point::LeaseRenew => 2,
        Point::Send => 30,
        Point::Read | Point::Acknowledge | Point::AfterCommit | Point::BeforeCommit => 6,
        Point::Sagas | Point::BeforeSettle | Point::AfterSettle => 3,
    }
}

/// Whether a point is come to only where the life before left something unsettled.
fn needs_unsettled(point: Point) -> bool {
    matches!(point, Point::Ahead | Point::ReadBack)
}

#[test]
fn a_kill_at_every_point_and_at_every_two_in_a_row_changes_nothing() {
    let preparing = Postgres::builder(17)
        .settings(&[("max_prepared_transactions", "50")])
        .start();
    let sequence = sequence();
    let reached = Mutex::new(BTreeMap::<&str, usize>::new());
    // Each lane takes a piece of the sequence that begins where another one ends.
    let length = sequence.len().div_ceil(LANES);
    let pieces: Vec<&[Point]> = (0..LANES)
        .map(|lane| &sequence[lane * length..sequence.len().min((lane + 1) * length + 1)])
        .collect();
    std::thread::scope(|scope| {
        for (number, piece) in pieces.iter().enumerate() {
            let (reached, preparing) = (&reached, &preparing);
            scope.spawn(move || {
                let prepares = number % 2 == 0;
                let postgres = if prepares { preparing } else { postgres(16) };
                let lane = Lane::new(
                    kafka(),
                    postgres,
                    &format!("points{number}"),
                    "",
                    "batch = { events = 40 }",
                );
                let alone: Vec<Point> = points().into_iter().skip(number).step_by(LANES).collect();
                run(&lane, &alone, piece, prepares, reached);
            });
        }
    });
    // Once alone, and then as the first and as the second of each two.
    let reached = reached.into_inner().unwrap();
    eprintln!("kills by point: {reached:?}");
    for point in points() {
        let times = reached.get(point.name()).copied().unwrap_or(0);
        assert!(
            times > points().len(),
            "{} was come to {times} times",
            point.name()
        );
    }
}

fn run(
    lane: &Lane<'_>,
    alone: &[Point],
    in_a_row: &[Point],
    prepares: bool,
    reached: &Mutex<BTreeMap<&'static str, usize>>,
) {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for seed in 0..WRITERS {
            let (writer, stop) = (lane.writer(prepares), &stop);
            scope.spawn(move || block_on(writer.run(seed, stop)));
        }
        scope.spawn(|| block_on(bystander(&lane.service, &stop)));
        let _stop = StopAtEnd(&stop);
        let mut before = Point::Init;
        let mut round = 0;
        let mut kill = |point: Point| {
            round += 1;
            // Killed here, a life is sure to leave a published batch that the database does not know.
            if needs_unsettled(point) && !matches!(before, Point::AfterCommit | Point::Ahead) {
                lane.kill_at(Point::AfterCommit, 1 + round % 6, None);
            }
            lane.kill_at(point, 1 + round % passes(point), None);
            *reached.lock().unwrap().entry(point.name()).or_default() += 1;
            before = point;
        };
        for point in alone {
            kill(*point);
            publish(lane);
            assert_eq!(lane.daemon.terminate(), 0, "{}", lane.daemon.log());
        }
        in_a_row.iter().for_each(|point| kill(*point));
        publish(lane);
    });
    lane.settled();
    assert_eq!(lane.daemon.terminate(), 0, "{}", lane.daemon.log());
    let verdict = lane.verdict();
    assert!(verdict.is_clean(), "{}: {verdict}", lane.service.name);
    for outcome in [Outcome::Committed, Outcome::RolledBack, Outcome::Unknown] {
        let count = lane.log.count(outcome);
        eprintln!("{}: {count} transactions {outcome:?}", lane.service.name);
        assert!(count > 50, "{count} transactions {outcome:?} prove little");
    }
    wait_until("nothing to be ahead", PATIENCE, || {
        lane.service.number(
            "select count(*) from outbox.ahead, outbox.relay
            where not pg_visible_in_snapshot(ahead.txid, relay.seen)",
        ) == 0
    });
}

/// A life without a fault.
fn publish(lane: &Lane<'_>) {
    start(&lane.daemon, "", None);
    lane.daemon
        .wait_metrics("the daemon to publish", |metrics| {
            metrics.sum("outboxd_batches_total") > 10.0
        });
}
