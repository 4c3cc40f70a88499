//! The configuration → TOML that reads back to the same. Secrets stay references: there is nothing else to show.

use super::push::Keys;
use super::value::{show_duration, show_size};
use super::words::quoted;
use super::{Config, OnRefused, Property, Push};

/// A file in the making.
#[derive(Default)]
struct Out(String);

impl Out {
    fn table(&mut self, name: &str) {
        let gap = if self.0.is_empty() { "" } else { "\n" };
        self.0.push_str(&format!("{gap}[{name}]\n"));
    }

    /// A key and its value as TOML.
    fn put(&mut self, key: &str, value: impl std::fmt::Display) {
        self.0.push_str(&format!("{key} = {value}\n"));
    }

    fn text(&mut self, key: &str, value: impl std::fmt::Display) {
        self.put(key, quoted(&value.to_string()));
    }

    fn texts<T: std::fmt::Display>(&mut self, key: &str, values: &[T]) {
        let values: Vec<_> = values
            .iter()
            .map(|value| quoted(&value.to_string()))
            .collect();
        self.put(key, format!("[{}]", values.join(", ")));
    }
}

pub(super) fn config(config: &Config) -> String {
    let mut out = Out::default();
    out.table("kafka");
    out.text("bootstrap_servers", &config.kafka.bootstrap_servers);
    out.text("prefix", &config.kafka.prefix);
    out.put("create_topics", config.kafka.create_topics);
    if !config.kafka.properties.is_empty() {
        out.table("kafka.properties");
    }
    for (name, value) in &config.kafka.properties {
        match value {
            Property::Plain(value) => out.text(&quoted(name), value),
            Property::Secret(secret) => out.put(&quoted(name), secret),
        }
    }
    out.table("relay");
    out.text("instance", &config.relay.instance);
    out.text("lease", show_duration(&config.relay.lease));
    sources(&mut out, config);
    if let Some(settings) = &config.push {
        push(&mut out, settings);
    }
    if let Some(definitions) = &config.saga_definitions {
        out.table("sagas");
        out.text("definitions", definitions);
    }
    out.table("admin");
    out.text("listen", config.admin.listen);
    out.text("socket", config.admin.socket.display());
    out.0
}

fn sources(out: &mut Out, config: &Config) {
    for source in &config.sources {
        // A name may have a dot, which would divide it.
        let name = if source.name.contains('.') {
            quoted(&source.name)
        } else {
            source.name.clone()
        };
        out.table(&format!("sources.{name}"));
        out.text("url", &source.database.url);
        if let Some(password) = &source.database.password {
            out.put("password", password);
        }
        let (linger, bytes) = (
            show_duration(&source.batch.linger),
            show_size(&source.batch.bytes),
        );
        let events = source.batch.events;
        out.put(
            "batch",
            format!("{{ linger = \"{linger}\", events = {events}, bytes = \"{bytes}\" }}"),
        );
        out.text(
            "on_refused",
            match source.on_refused {
                OnRefused::BlockKey => "block-key",
                OnRefused::Skip => "skip",
            },
        );
        out.put("dead_letter_limit", source.dead_letter_limit);
    }
}

fn push(out: &mut Out, push: &Push) {
    out.table("push");
    out.text("listen", push.listen);
    out.texts("allowed_origins", &push.allowed_origins);
    out.texts("trusted_proxies", &push.trusted_proxies);
    out.text("history", show_duration(&push.history));
    out.text("keep_finished", show_duration(&push.keep_finished));
    out.text("heartbeat", show_duration(&push.heartbeat));
    out.text("drain", show_duration(&push.drain));
    out.put("epoch", push.epoch);
    if let Some(directory) = &push.state_directory {
        out.text("state_directory", directory.display());
    }
    if let Some(tls) = &push.tls {
        out.table("push.tls");
        out.text("certificate", tls.certificate.display());
        out.put("key", &tls.key);
    }
    let auth = &push.auth;
    out.table("push.auth");
    out.text("issuer", &auth.issuer);
    out.text("audience", &auth.audience);
    out.texts(
        "algorithms",
        &auth
            .algorithms
            .iter()
            .map(|algorithm| algorithm.name())
            .collect::<Vec<_>>(),
    );
    let keys = match &auth.keys {
        Keys::Jwks(url) => format!("jwks_url = {}", quoted(url)),
        Keys::Pem(path) => format!("pem = {}", quoted(&path.display().to_string())),
        Keys::Secret(secret) => format!("secret = {secret}"),
    };
    out.put("keys", format!("{{ {keys} }}"));
    out.text("leeway", show_duration(&auth.leeway));
    out.text("user_claim", &auth.user_claim);
    out.text("grants_claim", &auth.grants_claim);
    let limits = &push.limits;
    out.table("push.limits");
    out.put("connections", limits.connections);
    out.put("connections_per_user", limits.connections_per_user);
    out.put("connections_per_address", limits.connections_per_address);
    out.put("unauthenticated", limits.unauthenticated);
    out.put("subscriptions", limits.subscriptions);
    out.text("frame", show_size(&limits.frame));
    out.put("frames_per_second", limits.frames_per_second);
    out.text("queue", show_size(&limits.queue));
    out.text("handshake", show_duration(&limits.handshake));
    out.text("auth", show_duration(&limits.auth));
    out.text("pong", show_duration(&limits.pong));
}
