//! Whether a daemon is fit for work. A half counts once it has been ready; after that any working source will do.

use super::status::SourceStatus;

/// Remembers that the relay half was ready once.
#[derive(Debug, Clone, Copy, Default)]
pub struct Readiness {
    relay_was_ready: bool,
}

impl Readiness {
    /// What is away; nothing, if the daemon is ready.
    ///
    /// The first time every source has to be led or stood by for: a daemon that never reached one
    /// of its databases is misconfigured. Later one working source is enough: taking a daemon away
    /// from its healthy sources would mend nothing.
    pub fn away<'a>(
        &mut self,
        sources: impl Iterator<Item = &'a SourceStatus> + Clone,
    ) -> Vec<String> {
        let mut away = sources
            .clone()
            .filter(|source| !source.is_ready())
            .peekable();
        let all_ready = away.peek().is_none();
        self.relay_was_ready |= all_ready;
        let any_ready = all_ready || sources.clone().any(SourceStatus::is_ready);
        if self.relay_was_ready && any_ready {
            return Vec::new();
        }
        away.map(describe).collect()
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
        readiness.away(sources.iter()).len()
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
        let text = Readiness::default().away([stopped].iter()).concat();
        assert_eq!(text, "source orders: stopped: no such table");
    }
}
