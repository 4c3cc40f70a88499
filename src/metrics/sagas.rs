//! The metrics of sagas, as this daemon's reading of the log shows them. Never gives a service's words more labels than a bound.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{counter, gauge, histogram};
use crate::logic::push::partition::{Changed, Standing};
use crate::logic::saga::Definitions;
use crate::logic::saga::labels::Labels;

/// Counts sagas; shared by all partitions.
#[derive(Debug, Clone, Default)]
pub struct SagaMetrics {
    labels: Arc<Mutex<Labels>>,
}

impl SagaMetrics {
    /// Makes the series of every state that is defined appear, at zero.
    pub fn define(&self, definitions: &Definitions) {
        for definition in definitions.all() {
            for state in &definition.states {
                let standing = Standing {
                    saga_type: (*definition.saga_type).into(),
                    definition: Some(Arc::clone(definition)),
                    state: Some(state.name.clone()),
                    is_stuck: false,
                };
                self.count(&standing, 0.0);
            }
        }
    }

    /// A saga has changed. What happened before this daemon began is no news: only gauges tell of it.
    pub fn changed(&self, changed: &Changed, is_news: bool) {
        let (now, change) = (&changed.standing, &changed.change);
        let before = Standing {
            state: match &change.state {
                Some((_, before)) => before.clone(),
                None => now.state.clone(),
            },
            is_stuck: match change.stuck_since {
                Some(since) => since.is_none(),
                None => now.is_stuck,
            },
            saga_type: Arc::clone(&now.saga_type),
            definition: now.definition.clone(),
        };
        if changed.began {
            self.count(now, 1.0);
        } else if before != *now {
            self.count(&before, -1.0);
            self.count(now, 1.0);
        }
        if !is_news {
            return;
        }
        let (mut labels, definition) = (self.labels(), now.definition.as_deref());
        let of_type = labels.saga_type(&now.saga_type, definition).to_owned();
        if let (Some(duration), Some(outcome)) = (change.duration, change.outcome) {
            let labels = [
                ("saga_type", of_type.clone()),
                ("outcome", outcome.as_str().to_owned()),
            ];
            counter!("outboxd_sagas_finished_total", &labels).increment(1);
            histogram!("outboxd_saga_duration_seconds", &labels).record(duration.as_secs_f64());
        }
        if let (Some(took), Some((step, _))) = (change.step_took, &change.step) {
            let (saga_type, step) = labels.step(&now.saga_type, definition, step);
            let labels = [
                ("saga_type", saga_type.to_owned()),
                ("step", step.to_owned()),
            ];
            histogram!("outboxd_saga_step_seconds", &labels).record(took.as_secs_f64());
        }
        if let Some(kind) = change.anomaly {
            counter!("outboxd_saga_anomalies_total", "saga_type" => of_type, "kind" => kind.as_str())
                .increment(1);
        }
    }

    /// A saga is known from before.
    pub fn known(&self, standing: &Standing) {
        self.count(standing, 1.0);
    }

    /// A saga is not looked at any more.
    pub fn forgotten(&self, standing: &Standing) {
        self.count(standing, -1.0);
    }

    /// So many more sagas stand like this.
    fn count(&self, standing: &Standing, more: f64) {
        let Standing {
            saga_type,
            definition,
            state,
            is_stuck,
        } = standing;
        let mut labels = self.labels();
        let (saga_type, state) = labels.state(saga_type, definition.as_deref(), state.as_deref());
        let labels = [
            ("saga_type", saga_type.to_owned()),
            ("state", state.to_owned()),
        ];
        gauge!("outboxd_sagas", &labels).increment(more);
        let stuck = if *is_stuck { more } else { 0.0 };
        gauge!("outboxd_sagas_stuck", &labels).increment(stuck);
    }

    fn labels(&self) -> MutexGuard<'_, Labels> {
        self.labels.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
