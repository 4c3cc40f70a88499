//! Whether a daemon is fit for work. Each half has to be ready once; after that any working source will do.

use super::status::{PushStatus, SourceStatus};

/// Remembers which half was ready once.
#[derive(Debug, Clone, Copy, Default)]
pub struct Readiness {
    relay_was_ready: bool,
    push_was_ready: bool,
}

impl Readiness {
    /// What is away; nothing, if the daemon is ready. A half that does not run has nothing to be ready for.
    ///
    /// The first time every source has to be led or stood by for: a daemon that never reached one
    /// of its databases is misconfigured. Later one working source is enough: taking a daemon away
    /// from its healthy sources would mend nothing. Without sources it is the clients' half that counts.
    pub fn away<'a>(
        &mut self,
        sources: impl Iterator<Item = &'a SourceStatus> + Clone,
        push: Option<&PushStatus>,
    ) -> Vec<String> {
        let mut away = sources
            .clone()
            .filter(|source| !source.is_ready())
            .peekable();
        let all_ready = away.peek().is_none();
        let push_is_ready = push.is_none_or(|push| push.is_ready);
        self.relay_was_ready |= all_ready;
        self.push_was_ready |= push_is_ready;
        let works = match sources.clone().next() {
            Some(_) => sources.clone().any(SourceStatus::is_ready),
            None => push_is_ready,
        };
        if self.relay_was_ready && self.push_was_ready && works {
            return Vec::new();
        }
        let push = push.filter(|push| !push.is_ready).map(describe_push);
        away.map(describe).chain(push).collect()
    }
}

fn describe_push(push: &PushStatus) -> String {
    match &push.last_error {
        Some(error) => format!("push: {error}"),
        None => "push: reading sagas".to_owned(),
    }
}

fn describe(source: &SourceStatus) -> String {
    let phase = serde_json::to_value(source.phase).ok();
    let phase = phase
        .as_ref()
        .and_then(|phase| phase.as_str())
        .unwrap_or_default()
        .replace('_', " ");
    match &source.last_error {
        Some((_, error)) => format!("source {}: {phase}: {error}", source.source),
        None => format!("source {}: {phase}", source.source),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logic::status::Phase;

    fn source(name: &str, phase: Phase) -> SourceStatus {
        SourceStatus {
            phase,
            ..SourceStatus::unknown(name)
        }
    }

    fn away(readiness: &mut Readiness, phases: &[Phase]) -> usize {
        let sources: Vec<_> = phases.iter().map(|phase| source("s", *phase)).collect();
        readiness.away(sources.iter(), None).len()
    }

    #[test]
    fn every_source_has_to_be_ready_once_and_then_any_will_do() {
        let mut readiness = Readiness::default();
        assert_eq!(
            away(&mut readiness, &[Phase::Connecting, Phase::Leading]),
            1
        );
        assert_eq!(away(&mut readiness, &[Phase::Standby, Phase::Leading]), 0);
        assert_eq!(away(&mut readiness, &[Phase::Stopped, Phase::Leading]), 0);
        assert_eq!(away(&mut readiness, &[Phase::Stopped, Phase::Retrying]), 2);
    }

    #[test]
    fn without_sources_nothing_is_away() {
        assert_eq!(away(&mut Readiness::default(), &[]), 0);
    }

    #[test]
    fn what_is_away_is_named_with_its_error() {
        let mut stopped = source("orders", Phase::Stopped);
        stopped.last_error = Some((0.0, "no such table".into()));
        let text = Readiness::default().away([stopped].iter(), None).concat();
        assert_eq!(text, "source orders: stopped: no such table");
    }

    fn push(is_ready: bool, error: Option<&str>) -> PushStatus {
        PushStatus {
            is_ready,
            last_error: error.map(str::to_owned),
        }
    }

    #[test]
    fn both_halves_have_to_be_ready_once() {
        let mut readiness = Readiness::default();
        let sources = [source("s", Phase::Leading)];
        let reading = readiness.away(sources.iter(), Some(&push(false, None)));
        assert_eq!(reading, ["push: reading sagas"]);
        assert_eq!(
            readiness
                .away(sources.iter(), Some(&push(true, None)))
                .len(),
            0
        );
        let away = readiness.away(sources.iter(), Some(&push(false, Some("gone"))));
        assert_eq!(away.len(), 0, "a source works");
    }

    #[test]
    fn without_sources_the_clients_half_counts() {
        let mut readiness = Readiness::default();
        assert_eq!(readiness.away([].iter(), Some(&push(true, None))).len(), 0);
        let away = readiness.away([].iter(), Some(&push(false, Some("Kafka is away"))));
        assert_eq!(away, ["push: Kafka is away"]);
    }
}
