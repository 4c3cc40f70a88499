//! What is known of librdkafka's properties by their names: which are outboxd's own, which hold secrets, which hold none.

use super::words::nearest;

/// Why a property cannot be set. A name that ends in `*` stands for all that begin so.
const REFUSED: [(&[&str], &str); 18] = [
    (
        &["bootstrap.servers", "metadata.broker.list"],
        "it has a key of its own; set bootstrap_servers in [kafka]",
    ),
    (
        &[
            "enable.idempotence",
            "enable.gapless.guarantee",
            "max.in.flight",
            "max.in.flight.requests.per.connection",
        ],
        "outboxd sets it so that no event is doubled or overtaken",
    ),
    (
        &["acks", "request.required.acks"],
        "outboxd waits for all replicas, or a broker's crash could lose events",
    ),
    (
        &["transactional.id", "transaction.timeout.ms"],
        "outboxd names and times its transactions itself: fencing depends on it; see prefix in [kafka]",
    ),
    (
        &[
            "partitioner",
            "partitioner_cb",
            "msg_order_cmp",
            "queuing.strategy",
        ],
        "the partition of a key and the order in it are promised to consumers",
    ),
    (
        &["retry.backoff.ms", "retry.backoff.max.ms"],
        "whether a commit was retried is told by its duration, which this would change",
    ),
    (
        &[
            "retries",
            "message.send.max.retries",
            "message.timeout.ms",
            "delivery.timeout.ms",
        ],
        "an event that is given up silently would be lost; outboxd decides when to try again",
    ),
    (
        &["linger.ms", "queue.buffering.max.ms", "batch.num.messages"],
        "batches are outboxd's; set batch = { linger, events, bytes } of the source",
    ),
    (
        &["batch.size", "message.max.bytes"],
        "outboxd takes it from the topics' limits, to tell which event is too large",
    ),
    (
        &[
            "queue.buffering.max.messages",
            "queue.buffering.max.kbytes",
            "queue.buffering.backpressure.threshold",
        ],
        "outboxd bounds its queue by the batch; set batch = { events, bytes } of the source",
    ),
    (
        &["allow.auto.create.topics"],
        "a mistyped topic would appear instead of an error; set create_topics in [kafka]",
    ),
    (
        &["isolation.level"],
        "outboxd reads the committed and the uncommitted end of its log, each where it must",
    ),
    (
        &[
            "group.*",
            "enable.auto.commit",
            "auto.commit.*",
            "enable.auto.offset.store",
            "auto.offset.reset",
            "offset.store.*",
            "partition.assignment.strategy",
            "session.timeout.ms",
            "heartbeat.interval.ms",
            "max.poll.interval.ms",
            "coordinator.query.interval.ms",
            "consume.callback.max.messages",
        ],
        "outboxd joins no consumer group and keeps its place itself",
    ),
    (
        &[
            "enable.partition.eof",
            "delivery.report.only.error",
            "produce.offset.report",
            "statistics.interval.ms",
        ],
        "outboxd needs these reports as they are",
    ),
    (
        &[
            "api.version.request*",
            "api.version.fallback.ms",
            "broker.version.fallback",
        ],
        "transactions need what the broker says of itself",
    ),
    (
        &["topic.blacklist"],
        "an event for such a topic would never be sent; leave the row out instead",
    ),
    (
        &[
            "plugin.library.paths",
            "interceptors",
            "*_cb",
            "opaque",
            "default_topic_conf",
            "enabled_events",
            "log.queue",
            "internal.termination.signal",
            "builtin.features",
            "ssl_engine_callback_data",
        ],
        "only a program can set it, or it brings foreign code into the daemon",
    ),
    (
        &["sasl.jaas.config"],
        "it belongs to Java clients; set \"sasl.username\" and \"sasl.password\" instead",
    ),
];

/// Properties whose values anybody may see.
const PUBLIC: [&str; 96] = [
    "client.id",
    "message.copy.max.bytes",
    "receive.message.max.bytes",
    "metadata.recovery.strategy",
    "metadata.recovery.rebootstrap.trigger.ms",
    "topic.metadata.refresh.interval.ms",
    "metadata.max.age.ms",
    "topic.metadata.refresh.fast.interval.ms",
    "topic.metadata.refresh.fast.cnt",
    "topic.metadata.refresh.sparse",
    "topic.metadata.propagation.max.ms",
    "debug",
    "socket.timeout.ms",
    "socket.blocking.max.ms",
    "socket.send.buffer.bytes",
    "socket.receive.buffer.bytes",
    "socket.keepalive.enable",
    "socket.nagle.disable",
    "socket.max.fails",
    "broker.address.ttl",
    "broker.address.family",
    "socket.connection.setup.timeout.ms",
    "connections.max.idle.ms",
    "reconnect.backoff.jitter.ms",
    "reconnect.backoff.ms",
    "reconnect.backoff.max.ms",
    "log_level",
    "log.thread.name",
    "enable.random.seed",
    "log.connection.close",
    "security.protocol",
    "ssl.cipher.suites",
    "ssl.curves.list",
    "ssl.sigalgs.list",
    "ssl.key.location",
    "ssl.certificate.location",
    "ssl.certificate.pem",
    "ssl_certificate",
    "ssl.ca.location",
    "https.ca.location",
    "https.ca.pem",
    "ssl.ca.pem",
    "ssl_ca",
    "ssl.ca.certificate.stores",
    "ssl.crl.location",
    "ssl.keystore.location",
    "ssl.providers",
    "ssl.engine.location",
    "ssl.engine.id",
    "enable.ssl.certificate.verification",
    "ssl.endpoint.identification.algorithm",
    "sasl.mechanisms",
    "sasl.mechanism",
    "sasl.kerberos.service.name",
    "sasl.kerberos.principal",
    "sasl.kerberos.kinit.cmd",
    "sasl.kerberos.keytab",
    "sasl.kerberos.min.time.before.relogin",
    "sasl.username",
    "enable.sasl.oauthbearer.unsecure.jwt",
    "sasl.oauthbearer.method",
    "sasl.oauthbearer.client.id",
    "sasl.oauthbearer.client.credentials.client.id",
    "sasl.oauthbearer.scope",
    "sasl.oauthbearer.extensions",
    "sasl.oauthbearer.token.endpoint.url",
    "sasl.oauthbearer.grant.type",
    "sasl.oauthbearer.assertion.algorithm",
    "sasl.oauthbearer.assertion.private.key.file",
    "sasl.oauthbearer.assertion.file",
    "sasl.oauthbearer.assertion.claim.aud",
    "sasl.oauthbearer.assertion.claim.exp.seconds",
    "sasl.oauthbearer.assertion.claim.iss",
    "sasl.oauthbearer.assertion.claim.jti.include",
    "sasl.oauthbearer.assertion.claim.nbf.seconds",
    "sasl.oauthbearer.assertion.claim.sub",
    "sasl.oauthbearer.assertion.jwt.template.file",
    "sasl.oauthbearer.metadata.authentication.type",
    "queued.min.messages",
    "queued.max.messages.kbytes",
    "fetch.wait.max.ms",
    "fetch.queue.backoff.ms",
    "fetch.message.max.bytes",
    "max.partition.fetch.bytes",
    "fetch.max.bytes",
    "fetch.min.bytes",
    "fetch.error.backoff.ms",
    "check.crcs",
    "client.rack",
    "compression.codec",
    "compression.type",
    "sticky.partitioning.linger.ms",
    "client.dns.lookup",
    "enable.metrics.push",
    "request.timeout.ms",
    "compression.level",
];

/// Properties whose values nobody may see.
pub(super) const SECRETS: [&str; 10] = [
    "ssl.key.password",
    "ssl.key.pem",
    "ssl_key",
    "ssl.keystore.password",
    "sasl.password",
    "sasl.oauthbearer.config",
    "sasl.oauthbearer.client.credentials.client.secret",
    "sasl.oauthbearer.client.secret",
    "sasl.oauthbearer.assertion.private.key.passphrase",
    "sasl.oauthbearer.assertion.private.key.pem",
];

/// Words in the name of a property, or of any key, whose value is kept elsewhere.
const SECRET: [&str; 10] = [
    "jaas",
    "key.pem",
    "oauthbearer.config",
    "passphrase",
    "passwd",
    "password",
    "private.key",
    "secret",
    "ssl_key",
    "token",
];

/// Why an operator cannot set a property, if so.
pub(super) fn refusal(name: &str) -> Option<&'static str> {
    let is = |pattern: &&str| match (pattern.strip_suffix('*'), pattern.strip_prefix('*')) {
        (Some(head), _) => name.starts_with(head),
        (_, Some(tail)) => name.ends_with(tail),
        (None, None) => name == *pattern,
    };
    REFUSED
        .iter()
        .find(|(names, _)| names.iter().any(is))
        .map(|(_, why)| *why)
}

/// Whether a name says that its value is a secret.
pub(super) fn looks_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    // A place is no secret: the file of a key, the address that gives out tokens.
    let place = [".file", ".location", ".url"]
        .iter()
        .any(|end| name.ends_with(end));
    !place && SECRET.iter().any(|word| name.contains(word))
}

/// Whether the value of a property may be shown when its line is: not that of a name that nobody knows, which could be
/// a misspelt password.
pub(super) fn is_public(name: &str) -> bool {
    (refusal(name).is_some() || PUBLIC.contains(&name)) && !looks_secret(name)
}

/// The secret property that an unknown name was meant to be.
pub(super) fn misspelt_secret(name: &str) -> Option<&'static str> {
    if is_public(name) {
        None
    } else {
        nearest(name, &SECRETS)
    }
}
