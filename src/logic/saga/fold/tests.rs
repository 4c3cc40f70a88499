//! Holds the two tracks to the contract. Never looks inside a saga but through what clients see.

use proptest::prelude::*;

use super::*;

fn report(source: &str, event: u128) -> Report {
    Report {
        saga_type: "create-order".into(),
        saga_id: "o-42".into(),
        user: None,
        state: None,
        outcome: None,
        step: None,
        status: None,
        event_type: "E".into(),
        event_id: Uuid::from_u128(event),
        source: source.into(),
        at: Timestamp(i64::try_from(event).unwrap()),
    }
}

fn state(source: &str, event: u128, state: &str) -> Report {
    Report {
        state: Some(state.into()),
        ..report(source, event)
    }
}

fn step(source: &str, event: u128, step: &str, status: StepStatus) -> Report {
    Report {
        step: Some(step.into()),
        status: Some(status),
        ..report(source, event)
    }
}

fn end(source: &str, event: u128, name: &str, outcome: Outcome) -> Report {
    Report {
        outcome: Some(outcome),
        ..state(source, event, name)
    }
}

fn fold(reports: impl IntoIterator<Item = Report>) -> (Saga, Vec<Change>) {
    fold_with(reports, None)
}

fn fold_with(
    reports: impl IntoIterator<Item = Report>,
    definition: Option<&Arc<Definition>>,
) -> (Saga, Vec<Change>) {
    let mut reports = reports.into_iter().zip(100..);
    let (first, offset) = reports.next().unwrap();
    let (mut saga, change) = Saga::begin(first, offset, true, definition);
    let mut changes = vec![change];
    changes.extend(reports.filter_map(|(report, offset)| saga.apply(report, offset)));
    (saga, changes)
}

/// What a client sees, apart from the version, which tells the place in the log.
fn seen(saga: &Saga) -> String {
    format!(
        "{:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?}",
        saga.user,
        saga.state,
        saga.outcome,
        saga.started_at,
        saga.at,
        saga.steps,
        saga.anomalies,
        saga.partial
    )
}

/// A correct create-order run, each service's events in its own order.
fn services() -> Vec<Vec<Report>> {
    use StepStatus::{Done, Pending};
    let first = Report {
        user: Some("c-7".into()),
        ..state("orders", 1, "APPROVAL_PENDING")
    };
    vec![
        vec![first, end("orders", 8, "APPROVED", Outcome::Completed)],
        vec![step("consumers", 3, "verify-consumer", Done)],
        vec![
            step("kitchen", 2, "create-ticket", Pending),
            step("kitchen", 4, "create-ticket", Done),
            step("kitchen", 9, "confirm-ticket", Done),
        ],
        vec![
            step("accounting", 5, "authorize-card", Pending),
            step("accounting", 6, "authorize-card", Done),
        ],
    ]
}

/// Every interleaving of `rest` that keeps the order within each list.
fn interleavings(rest: &[Vec<Report>], so_far: &mut Vec<Report>, found: &mut dyn FnMut(&[Report])) {
    if rest.iter().all(Vec::is_empty) {
        found(so_far);
    }
    for at in 0..rest.len() {
        if let Some(next) = rest[at].first() {
            let mut shorter = rest.to_vec();
            shorter[at].remove(0);
            so_far.push(next.clone());
            interleavings(&shorter, so_far, found);
            so_far.pop();
        }
    }
}

#[test]
fn every_interleaving_of_a_correct_run_ends_alike_and_without_an_anomaly() {
    let (expected, _) = fold(services().into_iter().flatten());
    assert_eq!(expected.state.as_deref(), Some("APPROVED"));
    assert_eq!(expected.steps.len(), 4);
    let mut count = 0;
    interleavings(&services(), &mut Vec::new(), &mut |run| {
        let (saga, changes) = fold(run.to_vec());
        assert_eq!(seen(&saga), seen(&expected), "{run:?}");
        assert_eq!(saga.anomalies.len(), 0);
        assert_eq!(changes.len(), run.len());
        count += 1;
    });
    // 8! / (2! · 1! · 3! · 2!)
    assert_eq!(count, 1680);
}

#[test]
fn a_record_whose_event_was_seen_makes_no_version() {
    let (saga, changes) = fold([
        state("orders", 1, "A"),
        state("orders", 2, "B"),
        state("orders", 1, "A"),
    ]);
    assert_eq!(changes.len(), 2);
    assert_eq!(saga.version, 101);
    assert_eq!(saga.state.as_deref(), Some("B"));
}

#[test]
fn versions_are_offsets_and_each_names_the_one_before() {
    let (_, changes) = fold([
        report("a", 1),
        report("b", 2),
        report("b", 2),
        report("a", 3),
    ]);
    let versions: Vec<_> = changes.iter().map(|c| (c.previous, c.version)).collect();
    assert_eq!(versions, [(None, 100), (Some(100), 101), (Some(101), 103)]);
}

#[test]
fn a_state_from_a_participant_is_ignored_and_noted_but_its_step_counts() {
    let mut foreign = step("kitchen", 2, "create-ticket", StepStatus::Done);
    foreign.state = Some("TAKEN_OVER".into());
    foreign.outcome = Some(Outcome::Failed);
    let (saga, changes) = fold([state("orders", 1, "A"), foreign]);
    assert_eq!(saga.state.as_deref(), Some("A"));
    assert_eq!(saga.outcome, None);
    assert_eq!(saga.steps[0].status, StepStatus::Done);
    assert_eq!(saga.anomalies[0].kind, AnomalyKind::ForeignState);
    assert_eq!(changes[1].anomaly, Some(AnomalyKind::ForeignState));
    assert_eq!((&changes[1].state, changes[1].outcome), (&None, None));
}

#[test]
fn an_outcome_before_any_state_is_nobodys() {
    let lone = Report {
        outcome: Some(Outcome::Failed),
        ..report("orders", 1)
    };
    let (saga, _) = fold([lone, state("kitchen", 2, "A")]);
    assert_eq!(saga.outcome, None);
    assert_eq!(saga.anomalies[0].kind, AnomalyKind::ForeignState);
    assert_eq!(
        saga.state.as_deref(),
        Some("A"),
        "the home is who set a state first"
    );
}

#[test]
fn what_comes_after_the_end_counts_and_is_marked() {
    let (saga, changes) = fold([
        state("orders", 1, "A"),
        end("orders", 2, "B", Outcome::Completed),
        step("kitchen", 3, "s", StepStatus::Done),
        end("orders", 4, "C", Outcome::Cancelled),
    ]);
    let marks: Vec<_> = changes.iter().map(|change| change.after_end).collect();
    assert_eq!(marks, [false, false, true, true]);
    assert_eq!(saga.state.as_deref(), Some("C"));
    assert_eq!(saga.outcome, Some(Outcome::Cancelled));
    let anomalies: Vec<_> = saga.anomalies().map(|a| (a.kind, a.event_id)).collect();
    let late = (AnomalyKind::AfterEnd, Uuid::from_u128(4));
    assert_eq!(anomalies, [late], "a participant may be slow");
    let ends: Vec<_> = changes
        .iter()
        .filter_map(|change| change.duration)
        .collect();
    assert_eq!(ends, [Duration::from_micros(1)], "a saga ends once");
}

#[test]
fn the_first_user_counts() {
    let user = |name: &str, event| Report {
        user: Some(name.into()),
        ..report("orders", event)
    };
    let (saga, _) = fold([report("x", 1), user("c-7", 2), user("mallory", 3)]);
    assert_eq!(saga.user.as_deref(), Some("c-7"));
}

#[test]
fn a_saga_is_partial_until_a_user_is_seen_where_the_log_has_lost_its_beginning() {
    let (mut saga, _) = Saga::begin(report("a", 1), 7, false, None);
    assert!(saga.partial);
    let named = Report {
        user: Some("c-7".into()),
        ..report("a", 2)
    };
    saga.apply(named.clone(), 8);
    assert!(!saga.partial);
    assert!(!Saga::begin(report("a", 1), 7, true, None).0.partial);
    assert!(!Saga::begin(named, 7, false, None).0.partial);
}

#[test]
fn a_step_takes_from_its_first_report_or_else_from_the_sagas_start() {
    let (_, changes) = fold([
        state("orders", 10, "A"),
        step("k", 12, "a", StepStatus::Pending),
        step("k", 15, "a", StepStatus::Done),
        step("k", 17, "b", StepStatus::Failed),
        step("k", 19, "b", StepStatus::Failed),
    ]);
    let took: Vec<_> = changes
        .iter()
        .map(|change| change.step_took.map(|took| took.as_micros()))
        .collect();
    assert_eq!(took, [None, None, Some(3), Some(7), None]);
}

#[test]
fn a_saga_remembers_twenty_anomalies_and_a_bounded_number_of_steps_and_ids() {
    let mut saga = Saga::begin(state("orders", 1, "A"), 0, true, None).0;
    let mut refused = 0;
    for event in 2..1000_u128 {
        let name = format!("s{event}");
        let change = saga.apply(
            step("k", event, &name, StepStatus::Done),
            i64::try_from(event).unwrap(),
        );
        refused += usize::from(change.unwrap().anomaly == Some(AnomalyKind::TooManySteps));
    }
    assert_eq!(saga.steps.len(), STEPS);
    assert_eq!(refused, 998 - STEPS);
    assert_eq!(saga.anomalies.len(), 20);
    assert_eq!(saga.anomalies[19].event_id, Uuid::from_u128(999));
    assert_eq!(saga.seen.len(), SEEN);
}

fn defined(reports: impl IntoIterator<Item = Report>) -> (Saga, Vec<Change>) {
    let definition = Arc::new(crate::logic::saga::definition::tests::create_order());
    fold_with(reports, Some(&definition))
}

fn kinds(saga: &Saga) -> Vec<&'static str> {
    saga.anomalies()
        .map(|anomaly| anomaly.kind.as_str())
        .collect()
}

#[test]
fn every_interleaving_of_a_correct_run_keeps_to_its_definition() {
    let (expected, _) = defined(services().into_iter().flatten());
    interleavings(&services(), &mut Vec::new(), &mut |run| {
        let (saga, _) = defined(run.to_vec());
        assert_eq!(kinds(&saga), [""; 0], "{run:?}");
        assert_eq!(saga.plan(), expected.plan());
    });
    assert_eq!(expected.plan().unwrap().remaining.len(), 0);
}

#[test]
fn what_is_not_in_the_definition_counts_and_is_noted() {
    use AnomalyKind::{IllegalTransition, UnknownState, UnknownStep, WrongOutcome};
    let (saga, changes) = defined([
        state("orders", 1, "REJECTING"),
        state("orders", 2, "SHIPPED"),
        step("courier", 3, "deliver", StepStatus::Done),
        state("orders", 4, "REJECTING"),
        state("orders", 5, "APPROVAL_PENDING"),
        end("orders", 6, "APPROVED", Outcome::Failed),
        state("orders", 7, "SHIPPED"),
    ]);
    let noted: Vec<_> = changes.iter().map(|change| change.anomaly).collect();
    let expected = [IllegalTransition, UnknownState, UnknownStep]
        .map(Some)
        .into_iter();
    let expected = expected.chain([
        None,
        Some(IllegalTransition),
        Some(WrongOutcome),
        Some(AnomalyKind::AfterEnd),
    ]);
    assert_eq!(noted, expected.collect::<Vec<_>>());
    assert_eq!(saga.state.as_deref(), Some("SHIPPED"), "advisory");
    assert_eq!(saga.steps[0].status, StepStatus::Done);
}

#[test]
fn an_end_without_an_outcome_is_noted() {
    let (saga, _) = defined([
        state("orders", 1, "APPROVAL_PENDING"),
        state("orders", 2, "REJECTED"),
    ]);
    assert_eq!(kinds(&saga), ["wrong_outcome"]);
    let lone = Report {
        outcome: Some(Outcome::Rejected),
        ..report("orders", 3)
    };
    let mut saga = saga;
    assert_eq!(saga.apply(lone, 200).unwrap().anomaly, None, "it came late");
}

#[test]
fn where_the_beginning_is_gone_any_state_may_be_the_first() {
    let definition = Arc::new(crate::logic::saga::definition::tests::create_order());
    let begin = |whole| {
        Saga::begin(state("orders", 1, "REJECTING"), 0, whole, Some(&definition))
            .1
            .anomaly
    };
    assert_eq!(begin(false), None);
    assert_eq!(begin(true), Some(AnomalyKind::IllegalTransition));
}

#[test]
fn a_change_tells_what_is_still_to_come_when_that_is_another_thing() {
    let (saga, changes) = defined([
        state("orders", 1, "APPROVAL_PENDING"),
        step("kitchen", 2, "create-ticket", StepStatus::Pending),
        step("kitchen", 3, "create-ticket", StepStatus::Done),
        step("accounting", 4, "authorize-card", StepStatus::Failed),
        step("kitchen", 5, "create-ticket", StepStatus::Compensated),
        end("orders", 6, "REJECTED", Outcome::Rejected),
    ]);
    let told: Vec<_> = changes
        .iter()
        .map(|change| {
            change
                .plan
                .as_ref()
                .map(|plan| (plan.remaining.len(), plan.compensations.len()))
        })
        .collect();
    assert_eq!(
        told,
        [
            Some((4, 0)),
            None,
            Some((3, 0)),
            Some((0, 1)),
            Some((0, 0)),
            None
        ]
    );
    assert_eq!(saga.plan(), changes[4].plan);
    assert_eq!(
        fold(services().into_iter().flatten()).0.plan(),
        None,
        "without a definition nobody knows"
    );
}

#[test]
fn a_stuck_saga_is_so_until_the_next_change() {
    let (mut saga, _) = defined([state("orders", 1, "APPROVAL_PENDING")]);
    assert_eq!(saga.limit(), Some(Duration::from_secs(120)));
    let stuck = saga.stick(Timestamp(7), Timestamp(9), 150);
    assert_eq!(
        (stuck.previous, stuck.version, stuck.at),
        (Some(100), 150, Timestamp(9))
    );
    assert_eq!(
        (stuck.stuck_since, stuck.event),
        (Some(Some(Timestamp(7))), None)
    );
    assert_eq!(
        (saga.stuck_since, saga.at),
        (Some(Timestamp(7)), Timestamp(1))
    );
    let next = saga
        .apply(step("kitchen", 2, "create-ticket", StepStatus::Done), 160)
        .unwrap();
    assert_eq!((next.previous, next.stuck_since), (Some(150), Some(None)));
    assert_eq!(saga.stuck_since, None);
    let next = saga
        .apply(end("orders", 3, "APPROVED", Outcome::Completed), 170)
        .unwrap();
    assert_eq!((next.stuck_since, saga.limit()), (None, None));
}

proptest! {
    /// Whatever comes, changes chain without a hole and tell what the state became.
    #[test]
    fn changes_chain_and_add_up(choices in prop::collection::vec((0..3_usize, 0..4_usize, 0..12_u128), 1..60)) {
        let sources = ["orders", "kitchen", "cards"];
        let run = choices.into_iter().map(|(source, what, event)| match what {
            0 => state(sources[source], event, "S"),
            1 => end(sources[source], event, "E", Outcome::Failed),
            2 => step(sources[source], event, "s", StepStatus::Done),
            _ => report(sources[source], event),
        });
        let (saga, changes) = fold(run);
        for pair in changes.windows(2) {
            prop_assert_eq!(pair[1].previous, Some(pair[0].version));
        }
        prop_assert_eq!(changes.last().map(|change| change.version), Some(saga.version));
        let told = changes.iter().filter_map(|change| change.state.as_ref()).next_back();
        prop_assert_eq!(told.map(|(state, _)| &**state), saga.state.as_deref());
        let ended = changes.iter().filter_map(|change| change.outcome).next_back();
        prop_assert_eq!(ended, saga.outcome);
    }
}
