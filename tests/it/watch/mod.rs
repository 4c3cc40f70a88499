//! What operators watch: metrics, alerts and the dashboard, with a real Prometheus.

mod alerts;
mod files;
mod scrape;
