//! Sagas as people read them: a list, or one with all that is known of it. Never asks for more than clients are shown.

use serde_json::Value;

use crate::cli::table;
use crate::logic::event::Timestamp;

pub(super) fn parse(snapshot: &str) -> Option<Value> {
    let mut saga: Value = serde_json::from_str(snapshot).ok()?;
    let fields = saga.as_object_mut()?;
    // What only a client can use.
    fields.remove("type");
    fields.remove("epoch");
    Some(saga)
}

fn text(value: &Value, field: &str) -> String {
    let found = value.get(field).and_then(Value::as_str);
    found.unwrap_or("-").to_owned()
}

fn items<'a>(value: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> {
    value
        .get(field)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

pub(super) fn list(sagas: &[Value], now_seconds: f64) -> String {
    let head = [
        "TYPE", "ID", "STATE", "OUTCOME", "STEPS", "CHANGED", "STUCK",
    ];
    let row = |saga: &Value| {
        let steps = items(saga, "steps");
        let (mut done, mut all) = (0_usize, 0_usize);
        for step in steps {
            all += 1;
            done += usize::from(text(step, "status") == "done");
        }
        let age = |field| {
            let at = Timestamp::from_rfc3339(&text(saga, field))?;
            Some(table::age((now_seconds - at.as_seconds()).max(0.0)))
        };
        let dash = || "-".to_owned();
        vec![
            text(saga, "saga_type"),
            text(saga, "saga_id"),
            text(saga, "state"),
            text(saga, "outcome"),
            format!("{done}/{all}"),
            age("at").map_or_else(dash, |age| format!("{age} ago")),
            age("stuck_since").map_or_else(dash, |age| format!("for {age}")),
        ]
    };
    table::render(&head, sagas.iter().map(row))
}

pub(super) fn one(saga: &Value) -> String {
    let facts = ["state", "outcome", "started_at", "at", "stuck_since"].map(|field| {
        let name = if field == "at" { "changed_at" } else { field };
        vec![name.replace('_', " "), text(saga, field)]
    });
    let [saga_type, saga_id] = &["saga_type", "saga_id"].map(|field| text(saga, field));
    let mut shown = table::render(&[saga_type, saga_id], facts.into_iter());
    let remaining: Vec<_> = items(saga, "remaining_steps")
        .filter_map(Value::as_str)
        .collect();
    if !remaining.is_empty() {
        shown.push_str(&format!("\nstill to do: {}\n", remaining.join(", ")));
    }
    for due in items(saga, "due_compensations") {
        let [step, compensation] = ["step", "compensation"].map(|field| text(due, field));
        shown.push_str(&format!("\nto be undone: {step}, by {compensation}\n"));
    }
    let steps: Vec<_> = items(saga, "steps")
        .map(|step| vec![text(step, "step"), text(step, "status"), text(step, "at")])
        .collect();
    if !steps.is_empty() {
        shown.push('\n');
        shown.push_str(&table::render(&["STEP", "STATUS", "AT"], steps.into_iter()));
    }
    let anomalies: Vec<_> = items(saga, "anomalies")
        .map(|one| vec![text(one, "kind"), text(one, "at"), text(one, "event_id")])
        .collect();
    if !anomalies.is_empty() {
        shown.push('\n');
        shown.push_str(&table::render(
            &["ANOMALY", "AT", "EVENT"],
            anomalies.into_iter(),
        ));
    }
    if saga.get("partial").and_then(Value::as_bool) == Some(true) {
        shown.push_str("\nThe log's beginning is gone: what happened before is not known.\n");
    }
    shown
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn saga() -> Value {
        json!({
            "saga_type": "create-order", "saga_id": "o-42", "version": 8130, "state": "APPROVED", "outcome": "completed",
            "started_at": "1970-01-01T00:00:00.000000Z", "at": "1970-01-01T00:01:00.000000Z",
            "steps": [{"step": "create-ticket", "status": "done", "at": "1970-01-01T00:00:30.000000Z"},
                      {"step": "confirm-ticket", "status": "pending", "at": "1970-01-01T00:00:40.000000Z"}],
            "stuck_since": "1970-01-01T00:01:30.000000Z", "partial": false, "remaining_steps": ["confirm-ticket", "deliver"],
            "anomalies": [{"kind": "foreign_state", "at": "1970-01-01T00:00:50.000000Z", "event_id": "e"}],
        })
    }

    #[test]
    fn a_list_has_a_line_for_each() {
        assert_eq!(
            list(&[saga()], 120.0),
            "TYPE          ID    STATE     OUTCOME    STEPS  CHANGED   STUCK\n\
             create-order  o-42  APPROVED  completed  1/2    60 s ago  for 30 s\n"
        );
    }

    #[test]
    fn one_is_shown_with_its_steps_and_what_should_not_be() {
        assert_eq!(
            one(&saga()),
            "create-order  o-42\n\
             state         APPROVED\n\
             outcome       completed\n\
             started at    1970-01-01T00:00:00.000000Z\n\
             changed at    1970-01-01T00:01:00.000000Z\n\
             stuck since   1970-01-01T00:01:30.000000Z\n\
             \n\
             still to do: confirm-ticket, deliver\n\
             \n\
             STEP            STATUS   AT\n\
             create-ticket   done     1970-01-01T00:00:30.000000Z\n\
             confirm-ticket  pending  1970-01-01T00:00:40.000000Z\n\
             \n\
             ANOMALY        AT                           EVENT\n\
             foreign_state  1970-01-01T00:00:50.000000Z  e\n"
        );
    }
}
