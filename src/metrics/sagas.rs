//! The metrics of sagas, as this daemon's reading of the log shows them. Never gives a service's words more labels than a bound.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{counter, gauge, histogram};
use crate::logic::saga::Change;
use crate::logic::saga::labels::Labels;

/// A saga that no home service has set a state of yet.
const NO_STATE: &str = "none";

/// Counts sagas; shared by all partitions.
#[derive(Debug, Clone, Default)]
pub struct SagaMetrics {
    labels: Arc<Mutex<Labels>>,
}

impl SagaMetrics {
    /// A saga has changed. What happened before this daemon began is no news: only gauges tell of it.
    pub fn changed(&self, saga_type: &str, began: bool, change: &Change, is_news: bool) {
        let mut labels = self.labels();
        match &change.state {
            Some((state, before)) => {
                if !began {
                    let before = before.as_deref().unwrap_or(NO_STATE);
                    add(&mut labels, saga_type, before, -1.0);
                }
                add(&mut labels, saga_type, state, 1.0);
            }
            None if began => add(&mut labels, saga_type, NO_STATE, 1.0),
            None => {}
        }
        if !is_news {
            return;
        }
        let of_type = labels.saga_type(saga_type).to_owned();
        if let (Some(duration), Some(outcome)) = (change.duration, change.outcome) {
            let labels = [
                ("saga_type", of_type.clone()),
                ("outcome", outcome.as_str().to_owned()),
            ];
            counter!("outboxd_sagas_finished_total", &labels).increment(1);
            histogram!("outboxd_saga_duration_seconds", &labels).record(duration.as_secs_f64());
        }
        if let (Some(took), Some((step, _))) = (change.step_took, &change.step) {
            let (saga_type, step) = labels.step(saga_type, step);
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
    pub fn known(&self, saga_type: &str, state: Option<&str>) {
        add(
            &mut self.labels(),
            saga_type,
            state.unwrap_or(NO_STATE),
            1.0,
        );
    }

    /// A saga is not looked at any more.
    pub fn forgotten(&self, saga_type: &str, state: Option<&str>) {
        add(
            &mut self.labels(),
            saga_type,
            state.unwrap_or(NO_STATE),
            -1.0,
        );
    }

    fn labels(&self) -> MutexGuard<'_, Labels> {
        self.labels.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn add(labels: &mut Labels, saga_type: &str, state: &str, count: f64) {
    let (saga_type, state) = labels.state(saga_type, state);
    let labels = [
        ("saga_type", saga_type.to_owned()),
        ("state", state.to_owned()),
    ];
    gauge!("outboxd_sagas", &labels).increment(count);
    // Without definitions there are no time limits to be beyond.
    gauge!("outboxd_sagas_stuck", &labels).set(0.0);
}
