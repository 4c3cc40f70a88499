//! The rights and settings that the schema's two roles need, as SQL text. Never runs it.

use std::fmt::Write;

/// The columns that a service sets.
const SERVICE_COLUMNS: &str = "topic, key, event_type, kind, payload, payload_bytes, content_type, headers, event_id,
  correlation_id, causation_id, reply_to, reply_outcome, saga_type, saga_id, saga_user, saga_state, saga_outcome,
  saga_step, saga_step_status, traceparent, tracestate, created_at";

/// Takes away from `role` whatever it has in the schema, and from everybody what default privileges may have given.
fn clean(role: &str) -> String {
    format!(
        "revoke all on schema outbox from public, {role};
revoke all on all tables in schema outbox from public, {role};
revoke all on all sequences in schema outbox from public, {role};
revoke all on all functions in schema outbox from public, {role};
"
    )
}

/// What a service's role needs: it inserts, and may ask for the event id that it was given.
pub(super) fn service(role: &str) -> String {
    let role = quoted(role);
    format!(
        "-- The service inserts, and may ask for the event id that it was given. The function is called by a CHECK.
{}grant usage on schema outbox to {role};
grant insert ({SERVICE_COLUMNS}),
  select (event_id) on outbox.event to {role};
grant execute on function outbox.is_json(text) to {role};
",
        clean(&role)
    )
}

/// What outboxd's role needs: it reads, empties published slots, and keeps its own books.
pub(super) fn relay(role: &str) -> String {
    let role = quoted(role);
    format!(
        "-- outboxd reads, empties published slots, and keeps its own books.
{}grant usage on schema outbox to {role};
grant select on outbox.event, outbox.relay, outbox.ahead, outbox.dead_letter, outbox.migration to {role};
grant select, truncate on outbox.event_0, outbox.event_1, outbox.event_2, outbox.event_3 to {role};
grant update on outbox.relay to {role};
grant insert, delete on outbox.ahead to {role};
grant insert, update, delete on outbox.dead_letter to {role};
",
        clean(&role)
    )
}

/// Pins the plans of outboxd's role in this database, if whoever runs it may: a pooler could hand the settings that
/// the daemon makes to another session.
pub(super) fn pin(role: &str) -> String {
    let mut text = String::from("do $$\nbegin\n");
    for (name, value) in PINNED {
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "  execute format('alter role %I in database %I set {name} = {value}', {}, current_database());",
            literal(role)
        );
    }
    text.push_str(
        "exception when insufficient_privilege then
  raise notice 'the settings of this role were left alone: outboxd makes them in each of its sessions';
end
$$;
",
    );
    text
}

/// The settings of outboxd's role. A plan made while the table was empty would read all of a backlog for each batch.
pub(super) const PINNED: [(&str, &str); 4] = [
    ("enable_seqscan", "off"),
    ("plan_cache_mode", "force_generic_plan"),
    ("jit", "off"),
    ("max_parallel_workers_per_gather", "0"),
];

/// A name as SQL takes it, whatever is in it.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text in SQL and in a dollar-quoted block. The escape form means the same whatever standard_conforming_strings is.
fn literal(text: &str) -> String {
    let escaped = text
        .replace('\\', "\\\\")
        .replace('\'', "''")
        .replace('$', "\\x24");
    format!("e'{escaped}'")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_is_quoted_whatever_its_name() {
        assert!(service("a\"b").contains("to \"a\"\"b\";"));
        assert!(relay("Über role").contains("on outbox.relay to \"Über role\";"));
        assert!(pin("it's $$ \\").contains(r"e'it''s \x24\x24 \\'"));
    }
}
