//! The create-order saga as its makers define it, and what follows from that. Never reads a file.

use super::*;

fn state(name: &str, kind: StateKind, next: &[&str]) -> State {
    State {
        name: name.into(),
        kind,
        limit: Some(Duration::from_secs(120)),
        next: next.iter().map(|name| (*name).into()).collect(),
        outcome: None,
    }
}

fn end(name: &str, outcome: Outcome) -> State {
    State {
        limit: None,
        outcome: Some(outcome),
        ..state(name, StateKind::Terminal, &[])
    }
}

fn step(name: &str, service: &str, kind: StepKind, compensation: Option<&str>) -> Step {
    Step {
        name: name.into(),
        service: service.into(),
        kind,
        compensation: compensation.map(Into::into),
    }
}

/// As in `config/sagas/create-order.toml`, in small.
pub(crate) fn create_order() -> Definition {
    use StepKind::{Compensatable, Pivot, ReadOnly, Retriable};
    Definition {
        saga_type: "create-order".into(),
        version: 1,
        since: None,
        states: vec![
            state(
                "APPROVAL_PENDING",
                StateKind::Initial,
                &["APPROVED", "REJECTING", "REJECTED"],
            ),
            state("REJECTING", StateKind::Compensating, &["REJECTED"]),
            end("APPROVED", Outcome::Completed),
            end("REJECTED", Outcome::Rejected),
        ],
        steps: vec![
            step("verify-consumer", "consumers", ReadOnly, None),
            step(
                "create-ticket",
                "kitchen",
                Compensatable,
                Some("CancelTicket"),
            ),
            step("authorize-card", "accounting", Pivot, None),
            step("confirm-ticket", "kitchen", Retriable, None),
        ],
    }
}

fn steps(said: &[(&str, StepStatus)]) -> Vec<StepState> {
    let step = |(name, status): &(&str, StepStatus)| StepState::of(name, *status);
    said.iter().map(step).collect()
}

fn planned(state: &str, outcome: Option<Outcome>, said: &[(&str, StepStatus)]) -> (String, String) {
    let plan = create_order().plan(Some(state), outcome, &steps(said));
    let undo: Vec<_> = plan
        .compensations
        .iter()
        .map(|(step, by)| format!("{step} by {by}"))
        .collect();
    (plan.remaining.join(" "), undo.join(" "))
}

#[test]
fn what_remains_is_what_is_not_done() {
    use StepStatus::{Done, Failed, Pending, Skipped};
    let plan = |said| planned("APPROVAL_PENDING", None, said).0;
    assert_eq!(
        plan(&[]),
        "verify-consumer create-ticket authorize-card confirm-ticket"
    );
    assert_eq!(
        plan(&[
            ("create-ticket", Done),
            ("authorize-card", Pending),
            ("verify-consumer", Skipped)
        ]),
        "authorize-card confirm-ticket"
    );
    assert_eq!(
        plan(&[("confirm-ticket", Failed), ("authorize-card", Done)]),
        "verify-consumer create-ticket confirm-ticket",
        "a retriable step is tried again"
    );
    let late = [
        ("verify-consumer", Done),
        ("create-ticket", Done),
        ("authorize-card", Done),
    ];
    let (remaining, undo) = planned("APPROVED", Some(Outcome::Completed), &late);
    assert_eq!((remaining.as_str(), undo.as_str()), ("confirm-ticket", ""));
}

#[test]
fn on_the_way_back_what_is_done_has_to_be_undone() {
    use StepStatus::{Compensated, Compensating, CompensationFailed, Done, Failed};
    let back = ("".to_owned(), "create-ticket by CancelTicket".to_owned());
    let done = ("create-ticket", Done);
    for (state, outcome, said) in [
        ("REJECTING", None, vec![done]),
        ("REJECTED", Some(Outcome::Rejected), vec![done]),
        (
            "APPROVAL_PENDING",
            None,
            vec![done, ("authorize-card", Failed)],
        ),
        ("REJECTING", None, vec![("create-ticket", Compensating)]),
        (
            "REJECTING",
            None,
            vec![("create-ticket", CompensationFailed)],
        ),
    ] {
        assert_eq!(planned(state, outcome, &said), back, "{state} {said:?}");
    }
    let undone = planned("REJECTING", None, &[("create-ticket", Compensated)]);
    assert_eq!(undone, Default::default());
    let never = planned("REJECTING", None, &[("create-ticket", Failed)]);
    assert_eq!(never, Default::default());
}

#[test]
fn a_move_is_judged_by_where_it_comes_from() {
    let judge = |from, to, outcome| create_order().judge(from, to, outcome);
    let (completed, rejected) = (Some(Outcome::Completed), Some(Outcome::Rejected));
    assert_eq!(judge(None, "APPROVAL_PENDING", None), None);
    assert_eq!(judge(Some("APPROVAL_PENDING"), "APPROVED", completed), None);
    assert_eq!(
        judge(Some("REJECTING"), "REJECTING", None),
        None,
        "said again"
    );
    assert_eq!(
        judge(Some("SHIPPED"), "REJECTED", rejected),
        None,
        "nobody knows"
    );
    let illegal = Some(AnomalyKind::IllegalTransition);
    assert_eq!(judge(None, "REJECTING", None), illegal);
    assert_eq!(judge(Some("REJECTING"), "APPROVED", completed), illegal);
    assert_eq!(
        judge(Some("APPROVAL_PENDING"), "SHIPPED", None),
        Some(AnomalyKind::UnknownState)
    );
    let wrong = Some(AnomalyKind::WrongOutcome);
    assert_eq!(judge(Some("APPROVAL_PENDING"), "APPROVED", rejected), wrong);
    assert_eq!(judge(Some("APPROVAL_PENDING"), "APPROVED", None), wrong);
    assert_eq!(
        judge(Some("APPROVAL_PENDING"), "APPROVAL_PENDING", rejected),
        wrong
    );
}

#[test]
fn a_saga_has_the_version_of_when_it_began() {
    let version = |version, since: Option<i64>| Definition {
        version,
        since: since.map(Timestamp),
        ..create_order()
    };
    let definitions: Definitions = [version(3, Some(30)), version(1, None), version(2, Some(20))]
        .into_iter()
        .collect();
    let of = |began| {
        definitions
            .of("create-order", Timestamp(began))
            .unwrap()
            .version
    };
    assert_eq!(
        [of(0), of(19), of(20), of(29), of(30), of(99)],
        [1, 1, 2, 2, 3, 3]
    );
    assert_eq!(definitions.of("other", Timestamp(0)), None);
    let only: Definitions = [version(2, Some(20))].into_iter().collect();
    assert_eq!(only.of("create-order", Timestamp(19)), None);
    assert_eq!(
        definitions.all().map(|it| it.version).collect::<Vec<_>>(),
        [1, 2, 3]
    );
}
