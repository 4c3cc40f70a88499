//! Two configurations → what a running daemon has to change, and what only another start can. Changes nothing itself.

use super::{Config, Push, Source};

/// What is to be done about sources.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct SourceChanges {
    /// Run only with the old configuration.
    pub removed: Vec<String>,
    /// Run with both, in different ways.
    pub changed: Vec<Source>,
    /// Run only with the new one.
    pub added: Vec<Source>,
}

impl Config {
    /// The keys in which `new` differs and which a running daemon cannot change: places where it listens, names by which
    /// others know it, and what its memory of the saga topic was made by.
    pub fn fixed_differences(&self, new: &Self) -> Vec<&'static str> {
        let (kafka, relay, admin) = (&self.kafka, &self.relay, &self.admin);
        let mut differences = vec![
            (
                "kafka.bootstrap_servers",
                kafka.bootstrap_servers != new.kafka.bootstrap_servers,
            ),
            ("kafka.prefix", kafka.prefix != new.kafka.prefix),
            (
                "kafka.create_topics",
                kafka.create_topics != new.kafka.create_topics,
            ),
            ("kafka.properties", kafka.properties != new.kafka.properties),
            ("relay.instance", relay.instance != new.relay.instance),
            ("relay.lease", relay.lease != new.relay.lease),
            ("admin.listen", admin.listen != new.admin.listen),
            ("admin.socket", admin.socket != new.admin.socket),
        ];
        match (&self.push, &new.push) {
            (Some(old), Some(new)) => differences.extend(old.fixed_differences(new)),
            (None, None) => {}
            (Some(_), None) | (None, Some(_)) => differences.push(("push", true)),
        }
        let differ = differences.into_iter().filter(|(_, differ)| *differ);
        differ.map(|(key, _)| key).collect()
    }

    /// What `new` has to say about sources.
    pub fn source_changes(&self, new: &Self) -> SourceChanges {
        let mut changes = SourceChanges::default();
        for source in &new.sources {
            match self.sources.iter().find(|old| old.name == source.name) {
                None => changes.added.push(source.clone()),
                Some(old) if old != source => changes.changed.push(source.clone()),
                Some(_) => {}
            }
        }
        let kept = |old: &&Source| new.sources.iter().any(|source| source.name == old.name);
        let removed = self.sources.iter().filter(|old| !kept(old));
        changes.removed = removed.map(|old| old.name.clone()).collect();
        changes
    }
}

impl Push {
    fn fixed_differences(&self, new: &Self) -> [(&'static str, bool); 5] {
        [
            ("push.listen", self.listen != new.listen),
            ("push.history", self.history != new.history),
            (
                "push.keep_finished",
                self.keep_finished != new.keep_finished,
            ),
            ("push.epoch", self.epoch != new.epoch),
            (
                "push.state_directory",
                self.state_directory != new.state_directory,
            ),
        ]
    }
}
