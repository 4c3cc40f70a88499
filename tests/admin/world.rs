//! A daemon's operators' side without a daemon: sources whose state a test sets.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use outboxd::admin::{Order, View};
use outboxd::logic::health::{Beat, Health};
use outboxd::logic::status::{Phase, SourceStatus};
use outboxd::metrics::{Metrics, SourceMetrics};
use tokio::sync::{Mutex, mpsc, watch};
use tokio_util::sync::CancellationToken;

/// What a test turns.
pub struct World {
    pub view: View,
    pub sources: Vec<watch::Sender<SourceStatus>>,
    pub orders: mpsc::Sender<Order>,
    /// What was asked of the daemon.
    pub ordered: Mutex<mpsc::Receiver<Order>>,
    pub draining: CancellationToken,
    pub stop: CancellationToken,
    pub health: Health,
}

/// There is one collector in a process.
fn metrics() -> Metrics {
    static METRICS: OnceLock<Metrics> = OnceLock::new();
    let installed = METRICS.get_or_init(|| {
        let metrics = Metrics::install(1.0).unwrap();
        SourceMetrics::new("orders");
        metrics
    });
    installed.clone()
}

impl World {
    pub fn with(sources: &[(&str, Phase)]) -> Self {
        let (sources, seen) = sources
            .iter()
            .map(|(name, phase)| {
                let mut status = SourceStatus::unknown(name);
                status.phase = *phase;
                watch::channel(status)
            })
            .unzip();
        let (orders, ordered) = mpsc::channel(1);
        let (draining, health) = (CancellationToken::new(), Health::default());
        Self {
            view: View::new(
                "here:9464",
                watch::channel(seen).1,
                None,
                draining.clone(),
                metrics(),
                health.clone(),
            ),
            sources,
            orders,
            ordered: Mutex::new(ordered),
            draining,
            stop: CancellationToken::new(),
            health,
        }
    }

    pub fn phase(&self, source: usize, phase: Phase) {
        self.sources[source].send_modify(|status| status.phase = phase);
    }

    /// A loop that has been silent for longer than it may be.
    pub fn hung(&self, name: &str) -> Beat {
        let long_ago = Instant::now().checked_sub(Duration::from_secs(61)).unwrap();
        self.health.watch(name, Duration::from_secs(60), long_ago)
    }
}
