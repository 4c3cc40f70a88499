//! Properties of librdkafka: what breaks a promise, what is a secret.

use super::super::{Property, Secret};
use super::{bad, each_is_refused, good};

fn table(line: &str) -> String {
    format!("[kafka.properties]\n{line}\n")
}

#[test]
fn a_property_that_breaks_a_promise_is_refused_by_name() {
    for name in [
        "bootstrap.servers",
        "metadata.broker.list",
        "enable.idempotence",
        "enable.gapless.guarantee",
        "acks",
        "request.required.acks",
        "max.in.flight",
        "max.in.flight.requests.per.connection",
        "transactional.id",
        "transaction.timeout.ms",
        "partitioner",
        "retry.backoff.ms",
        "retry.backoff.max.ms",
        "retries",
        "message.send.max.retries",
        "message.timeout.ms",
        "delivery.timeout.ms",
        "linger.ms",
        "queue.buffering.max.ms",
        "queue.buffering.max.messages",
        "batch.size",
        "batch.num.messages",
        "message.max.bytes",
        "allow.auto.create.topics",
        "isolation.level",
        "group.id",
        "group.instance.id",
        "enable.auto.commit",
        "auto.commit.interval.ms",
        "enable.auto.offset.store",
        "auto.offset.reset",
        "enable.partition.eof",
        "delivery.report.only.error",
        "plugin.library.paths",
        "queuing.strategy",
        "statistics.interval.ms",
        "api.version.request",
        "dr_msg_cb",
        "sasl.jaas.config",
        "topic.blacklist",
    ] {
        for value in ["\"1\"", "1", "true", "{ env = \"X\" }"] {
            let errors = bad(&table(&format!("\"{name}\" = {value}")));
            assert!(
                errors.contains(&format!("the property `{name}` is not yours to set")),
                "{errors}"
            );
            assert!(errors.contains("1 error in"), "{errors}");
        }
    }
}

#[test]
fn what_an_operator_needs_is_accepted_in_the_order_of_the_file() {
    let config = good(&table(
        "\"ssl.ca.location\" = \"ca.pem\"\n\"security.protocol\" = \"sasl_ssl\"\n\"sasl.mechanism\" = 'PLAIN'\n\
         \"sasl.username\" = \"u\"\n\"sasl.password\" = { credential = \"kafka\" }\n\"client.rack\" = \"a\"\n\
         \"compression.type\" = \"zstd\"\n\"compression.level\" = 0x3\n\"socket.keepalive.enable\" = true\n\
         \"broker.address.family\" = \"v4\"\n\"reconnect.backoff.ms\" = 1_000\n\"some.new.property\" = \"x\"",
    ));
    let shown = |(name, value): &(String, Property)| match value {
        Property::Plain(value) => format!("{name}={value}"),
        Property::Secret(secret) => format!("{name}={secret}"),
    };
    let shown: Vec<_> = config.kafka.properties.iter().map(shown).collect();
    assert_eq!(
        shown,
        [
            "ssl.ca.location=/etc/outboxd/ca.pem",
            "security.protocol=sasl_ssl",
            "sasl.mechanism=PLAIN",
            "sasl.username=u",
            "sasl.password={ credential = \"kafka\" }",
            "client.rack=a",
            "compression.type=zstd",
            "compression.level=3",
            "socket.keepalive.enable=true",
            "broker.address.family=v4",
            "reconnect.backoff.ms=1000",
            "some.new.property=x",
        ]
    );
}

#[test]
fn a_secret_is_never_plain_text() {
    for name in [
        "sasl.password",
        "ssl.key.password",
        "ssl.key.pem",
        "ssl_key",
        "ssl.keystore.password",
        "sasl.oauthbearer.config",
        "sasl.oauthbearer.client.secret",
        "sasl.oauthbearer.client.credentials.client.secret",
        "sasl.oauthbearer.assertion.private.key.pem",
        "sasl.oauthbearer.assertion.private.key.passphrase",
        "some.new.password",
    ] {
        let errors = bad(&table(&format!("\"{name}\" = \"CANARY\"")));
        assert!(
            errors.contains(&format!(
                "`{name}` is a secret and does not belong into this file"
            )),
            "{errors}"
        );
        assert!(
            errors.contains("= \"***\"") && !errors.contains("CANARY"),
            "{errors}"
        );
    }
    // A misspelt name does not make a secret public.
    let errors = bad(&table("\"sasl.pasword\" = \"CANARY\""));
    assert!(
        errors.contains("did you mean `sasl.password`?") && !errors.contains("CANARY"),
        "{errors}"
    );
}

#[test]
fn a_file_of_a_key_and_the_address_of_tokens_are_no_secrets() {
    let config = good(&table(
        "\"ssl.key.location\" = \"/k.pem\"\n\"sasl.oauthbearer.token.endpoint.url\" = \"https://id.example/token\"\n\
         \"ssl.keystore.location\" = \"/k.p12\"",
    ));
    assert!(
        config
            .kafka
            .properties
            .iter()
            .all(|(_, value)| matches!(value, Property::Plain(_)))
    );
}

#[test]
fn a_value_kept_elsewhere_is_read_only_when_it_is_used() {
    let config = good(&table("\"sasl.username\" = { env = \"NOT_SET\" }"));
    let [(_, Property::Secret(Secret::Env(name)))] = config.kafka.properties.as_slice() else {
        panic!()
    };
    assert_eq!(name, "NOT_SET");
}

#[test]
fn what_is_no_property_is_refused() {
    each_is_refused(&[
        (
            &table("security.protocol = \"ssl\""),
            "write \"security.protocol\" = …",
        ),
        (
            &table("sasl.password.file = \"x\""),
            "write \"sasl.password\" = …",
        ),
        (
            &table("\"Security.Protocol\" = \"ssl\""),
            "this is not the name of a librdkafka property",
        ),
        (
            &table("\"\" = \"ssl\""),
            "this is not the name of a librdkafka property",
        ),
        (
            &table("\"client.id\" = [\"a\"]"),
            "must be a text, a whole number, true or false",
        ),
        (
            &table("\"client.id\" = 1.5"),
            "must be a text, a whole number, true or false",
        ),
        (
            &table("\"client.id\" = 99999999999999999999"),
            "the number is too big",
        ),
        (&table("\"client.id\" = \"\\u0000\""), "zero byte"),
        (
            &table("\"client.id\" = { value = \"x\" }"),
            "a secret cannot be kept there",
        ),
        (
            &table("\"sasl.password\" = { file = \"a\", env = \"b\" }"),
            "must say one place",
        ),
        (&table("\"sasl.password\" = {}"), "must say one place"),
        (
            "[kafka]\nproperties = 5",
            "[kafka.properties] must be a table",
        ),
    ]);
}
