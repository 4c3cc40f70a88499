//! What the CHECK constraints of `outbox.event` refuse, each by its name, and what they let through.

use tokio_postgres::Client;

use crate::site::{Site, VERSIONS};
use crate::support::{block_on, postgres};

/// A row's columns and their values as SQL.
type Row = &'static [(&'static str, &'static str)];

const BAD: &[(&str, &[Row])] = &[
    (
        "topic_is_not_legal",
        &[
            &[("topic", "''")],
            &[("topic", "'.'")],
            &[("topic", "'..'")],
            &[("topic", "'__x'")],
            &[("topic", "'__consumer_offsets'")],
            &[("topic", "repeat('t', 250)")],
            &[("topic", "'Bestellungen/neu'")],
            &[("topic", "'grüße'")],
            &[("topic", "'with space'")],
            &[("topic", "E'orders\\n'")],
            &[("topic", "E'\\norders'")],
            &[("topic", "'orders,payments'")],
        ],
    ),
    (
        "kind_is_unknown",
        &[
            &[("kind", "''")],
            &[("kind", "'Event'")],
            &[("kind", "'query'")],
        ],
    ),
    (
        "payload_and_payload_bytes_are_both_set",
        &[
            &[("payload", "'{}'"), ("payload_bytes", "'x'")],
            &[("payload", "'{}'"), ("payload_bytes", "''")],
        ],
    ),
    (
        "payload_is_not_json",
        &[
            &[("payload", "''")],
            &[("payload", "'hello'")],
            &[("payload", "'{\"a\": 1'")],
            &[("payload", "'{\"a\": 1} {}'")],
            &[("payload", "'{''a'': 1}'")],
            &[("payload", "'[1,]'")],
            &[("payload", "'NaN'")],
            &[("payload", "E'\"a\\nb\"'")],
            &[
                ("payload", "'{no}'"),
                ("content_type", "'application/json'"),
            ],
            &[
                ("payload", "'{no}'"),
                ("content_type", "'APPLICATION/JSON'"),
            ],
            &[
                ("payload", "'{no}'"),
                ("content_type", "' application/json ; charset=utf-8'"),
            ],
            &[
                ("payload", "'{no}'"),
                (
                    "content_type",
                    "'application/cloudevents+json; charset=utf-8'",
                ),
            ],
            &[
                ("payload", "'{no}'"),
                ("content_type", "'application/vnd.shop.v1+JSON'"),
            ],
            &[("payload", "'{no}'"), ("content_type", "'text/json'")],
            &[("payload", "'{no}'"), ("content_type", "'x-own/json'")],
            &[("payload", "''"), ("content_type", "'application/json'")],
        ],
    ),
    (
        "header_is_not_a_string",
        &[
            &[("headers", "'null'")],
            &[("headers", "'[]'")],
            &[("headers", "'\"a\"'")],
            &[("headers", "'1'")],
            &[("headers", "'{\"a\": 1}'")],
            &[("headers", "'{\"a\": null}'")],
            &[("headers", "'{\"a\": true}'")],
            &[("headers", "'{\"a\": {\"b\": \"c\"}}'")],
            &[("headers", "'{\"a\": []}'")],
            &[("headers", "'{\"a\": [\"b\"]}'")],
            &[("headers", "'{\"a\": \"b\", \"c\": [\"d\", \"e\"]}'")],
            &[("headers", "'[{\"a\": \"b\"}]'")],
        ],
    ),
    (
        "header_name_is_reserved",
        &[
            &[("headers", "'{\"ce_id\": \"x\"}'")],
            &[("headers", "'{\"a\": \"b\", \"traceparent\": \"x\"}'")],
            &[("headers", "'{\"content-type\": \"x\"}'")],
            &[("headers", "'{\"ce_sagastepstatus\": \"x\"}'")],
        ],
    ),
    (
        "reply_outcome_is_unknown",
        &[&[("reply_outcome", "''")], &[("reply_outcome", "'ok'")]],
    ),
    (
        "saga_type_and_saga_id_go_together",
        &[&[("saga_type", "'create-order'")], &[("saga_id", "'o-42'")]],
    ),
    (
        "saga_text_is_too_long",
        &[
            &[("event_type", "repeat('e', 100001)")],
            &[
                ("saga_type", "'t'"),
                ("saga_id", "'s'"),
                ("saga_state", "repeat('s', 100000)"),
            ],
        ],
    ),
    (
        "saga_outcome_is_unknown",
        &[&[("saga_outcome", "''")], &[("saga_outcome", "'done'")]],
    ),
    (
        "saga_step_status_is_unknown",
        &[
            &[("saga_step_status", "''")],
            &[("saga_step_status", "'completed'")],
        ],
    ),
    (
        "created_at_is_out_of_range",
        &[
            &[("created_at", "'infinity'")],
            &[("created_at", "'-infinity'")],
            &[("created_at", "'1969-12-31 23:59:59.999999Z'")],
            &[("created_at", "'10000-01-01 00:00:00Z'")],
        ],
    ),
    (
        "text_is_empty_use_null",
        &[
            &[("key", "''")],
            &[("event_type", "''")],
            &[("content_type", "''")],
            &[("correlation_id", "''")],
            &[("causation_id", "''")],
            &[("reply_to", "''")],
            &[("saga_type", "''"), ("saga_id", "'o-42'")],
            &[("saga_type", "'t'"), ("saga_id", "''")],
            &[("saga_user", "''")],
            &[("saga_state", "''")],
            &[("saga_step", "''")],
            &[("traceparent", "''")],
            &[("tracestate", "''")],
            &[
                ("key", "'k'"),
                ("tracestate", "''"),
                ("traceparent", "null"),
            ],
        ],
    ),
];

const GOOD: &[Row] = &[
    &[],
    &[("topic", "'a'")],
    &[("topic", "'_x'")],
    &[("topic", "'a__b'")],
    &[("topic", "'...'")],
    &[("topic", "'Orders.v1_new-2'")],
    &[("topic", "repeat('t', 249)")],
    &[("kind", "null")],
    &[("kind", "'command'")],
    &[("kind", "'reply'"), ("reply_outcome", "'failure'")],
    &[("kind", "'document'")],
    &[("payload", "'null'")],
    &[("payload", "'1'")],
    &[("payload", "'-1.5e300'")],
    &[("payload", "'true'")],
    &[("payload", "'\"text\"'")],
    &[("payload", "'\"\\u0000\"'")],
    &[("payload", "'[]'")],
    &[("payload", "' {\"a\": 1, \"a\": 2} '")],
    &[("payload", "'{\"größe\": \"☃ 𝄞\"}'")],
    &[
        ("payload", "'{}'"),
        (
            "content_type",
            "'application/cloudevents+json; charset=utf-8'",
        ),
    ],
    &[("payload", "''"), ("content_type", "'text/plain'")],
    &[
        ("payload", "'hello'"),
        ("content_type", "'text/plain; charset=utf-8'"),
    ],
    &[
        ("payload", "'{no}'"),
        ("content_type", "'application/jsonl'"),
    ],
    &[
        ("payload", "'{no}'"),
        ("content_type", "'application/json-seq'"),
    ],
    &[
        ("payload", "'{no}'"),
        ("content_type", "'application/x-ndjson'"),
    ],
    &[("payload", "'<a/>'"), ("content_type", "'application/xml'")],
    &[
        ("payload", "'{no}'"),
        ("content_type", "'text/plain; like=application/json'"),
    ],
    &[("payload", "null"), ("payload_bytes", "null")],
    &[("payload_bytes", "''")],
    &[
        ("payload_bytes", "'\\x00ff'"),
        ("content_type", "'application/json'"),
    ],
    &[("headers", "null")],
    &[("headers", "'{}'")],
    &[(
        "headers",
        "'{\"a\": \"\", \"B\": \"größe\", \"ce_own\": \"x\", \"Content-Type\": \"y\"}'",
    )],
    &[("reply_outcome", "'success'"), ("reply_to", "'replies'")],
    &[
        ("saga_type", "'t'"),
        ("saga_id", "'i'"),
        ("saga_user", "'u'"),
        ("saga_state", "'S'"),
    ],
    &[
        ("saga_type", "'t'"),
        ("saga_id", "'i'"),
        ("saga_outcome", "'timed_out'"),
    ],
    &[
        ("saga_type", "'t'"),
        ("saga_id", "'i'"),
        ("saga_step", "'s'"),
        ("saga_step_status", "'compensation_failed'"),
    ],
    &[("created_at", "'1970-01-01 00:00:00Z'")],
    &[("created_at", "'9999-12-31 23:59:59.999999Z'")],
    &[("key", "' '"), ("event_type", "'Größe'")],
];

#[test]
fn each_constraint_refuses_by_its_name_and_lets_the_rest_through() {
    for version in VERSIONS {
        let site = Site::installed(postgres(version), "checks");
        block_on(async {
            let app = site.connect("app").await;
            for (constraint, rows) in BAD {
                for row in *rows {
                    let refused = insert(&app, row).await;
                    let error = refused.expect_err(&format!("{version}: {constraint}: {row:?}"));
                    let answer = error.as_db_error().unwrap();
                    assert_eq!(
                        (answer.code().code(), answer.constraint()),
                        ("23514", Some(*constraint)),
                        "{version}: {row:?}: {answer}"
                    );
                }
            }
            for row in GOOD {
                let inserted = insert(&app, row).await;
                assert!(inserted.is_ok(), "{version}: {row:?}: {inserted:?}");
            }
        });
        let names = site.text(
            "select string_agg(conname, ' ' order by conname) from pg_constraint
             where conrelid = 'outbox.event'::regclass and contype = 'c'",
        );
        let mut tested: Vec<&str> = BAD.iter().map(|(name, _)| *name).collect();
        tested.sort_unstable();
        assert_eq!(names, tested.join(" "), "a constraint without a test");
    }
}

#[test]
fn what_must_be_there_is_missed_by_its_name() {
    let site = Site::installed(postgres(16), "missing");
    block_on(async {
        let app = site.connect("app").await;
        for column in ["topic", "event_type", "event_id", "created_at"] {
            let row: Row = match column {
                "topic" => &[("topic", "null")],
                "event_type" => &[("event_type", "null")],
                "event_id" => &[("event_id", "null")],
                _ => &[("created_at", "null")],
            };
            let error = insert(&app, row).await.unwrap_err();
            let answer = error.as_db_error().unwrap();
            assert_eq!(
                (answer.code().code(), answer.column()),
                ("23502", Some(column))
            );
        }
    });
}

/// Every header that outboxd writes itself is reserved, and no other.
#[test]
fn the_reserved_headers_are_those_of_the_contract() {
    let site = Site::installed(postgres(16), "reserved");
    let names = "ce_specversion ce_id ce_source ce_type ce_time content-type ce_kind ce_correlationid ce_causationid \
        ce_replyto ce_replyoutcome ce_sagatype ce_sagaid ce_sagastate ce_sagaoutcome ce_sagastep ce_sagastepstatus \
        traceparent tracestate";
    let query = format!(
        "select coalesce(string_agg(name, ' '), '') from unnest(string_to_array('{names}', ' ')) as name
         where position(quote_literal(name) in (select pg_get_constraintdef(oid) from pg_constraint
           where conname = 'header_name_is_reserved' and conrelid = 'outbox.event'::regclass)) = 0"
    );
    assert_eq!(site.text(&query), "");
    let count = "select regexp_count::text from (select count(*) as regexp_count from regexp_matches(
        (select pg_get_constraintdef(oid) from pg_constraint
         where conname = 'header_name_is_reserved' and conrelid = 'outbox.event'::regclass), '''::text', 'g')) as n";
    assert_eq!(site.text(count), names.split(' ').count().to_string());
}

async fn insert(app: &Client, row: Row) -> Result<(), tokio_postgres::Error> {
    let mut columns = vec![("topic", "'orders'"), ("event_type", "'OrderCreated'")];
    for (name, value) in row {
        columns.retain(|(known, _)| known != name);
        columns.push((name, value));
    }
    let (names, values): (Vec<&str>, Vec<&str>) = columns.into_iter().unzip();
    let (names, values) = (names.join(", "), values.join(", "));
    app.batch_execute(&format!(
        "insert into outbox.event ({names}) values ({values})"
    ))
    .await
}
