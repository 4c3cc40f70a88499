//! The whole list of metrics, as a scrape shows it, is `docs/metrics.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use super::*;
use crate::generated::is_fresh;
use crate::logic::event::Timestamp;
use crate::logic::push::partition::{Changed, Standing};
use crate::logic::saga::{AnomalyKind, Outcome, Report, Saga, StepStatus};

/// Labels whose values the code closes; of the others the configuration, the cluster or a bound decides.
const CLOSED: [&str; 6] = ["kind", "phase", "reason", "release", "result", "transport"];

fn tell_of_a_saga(anomaly: AnomalyKind) {
    let report = Report {
        saga_type: "create-order".into(),
        saga_id: "o-42".into(),
        user: None,
        state: Some("APPROVED".into()),
        outcome: Some(Outcome::Completed),
        step: Some("verify".into()),
        status: Some(StepStatus::Done),
        event_type: "E".into(),
        event_id: uuid::Uuid::nil(),
        source: "orders".into(),
        at: Timestamp(0),
    };
    let (saga, mut change) = Saga::begin(report, 1, true, None);
    change.anomaly = Some(anomaly);
    let changed = Changed {
        standing: Standing {
            saga_type: "create-order".into(),
            definition: None,
            state: saga.state,
            is_stuck: false,
        },
        began: true,
        change,
    };
    SagaMetrics::default().changed(&changed, true);
}

/// A scrape of a daemon in which everything has happened.
fn scrape() -> String {
    let metrics = Metrics::install(1.0).unwrap();
    let _source = SourceMetrics::new("orders");
    broker("127.0.0.1:9092/1", true, Some(0.001));
    let push = PushMetrics::new();
    KeyMetrics::new();
    push.closed(4001);
    push.closed(5000);
    PartitionMetrics::new(0);
    for kind in AnomalyKind::ALL {
        tell_of_a_saga(kind);
    }
    metrics.render()
}

#[derive(Default)]
struct Shown {
    kind: String,
    help: String,
    labels: BTreeMap<String, BTreeSet<String>>,
}

fn shown(scrape: &str) -> BTreeMap<&str, Shown> {
    let mut all: BTreeMap<&str, Shown> = BTreeMap::new();
    let mut metric = "";
    for line in scrape.lines().filter(|line| !line.is_empty()) {
        if let Some((name, help)) = line
            .strip_prefix("# HELP ")
            .and_then(|rest| rest.split_once(' '))
        {
            all.entry(name).or_default().help = help.to_owned();
        } else if let Some((name, kind)) = line
            .strip_prefix("# TYPE ")
            .and_then(|rest| rest.split_once(' '))
        {
            metric = name;
            all.entry(name).or_default().kind = kind.to_owned();
        } else {
            assert!(line.starts_with(metric), "{line} is not of {metric}");
            let labels = line
                .split_once('{')
                .and_then(|(_, rest)| rest.split_once('}'));
            for label in labels
                .iter()
                .flat_map(|(labels, _)| labels.split("\",").map(|label| label.trim_matches('"')))
            {
                let (name, value) = label.split_once("=\"").unwrap();
                let values = all.entry(metric).or_default().labels.entry(name.to_owned());
                values.or_default().insert(value.to_owned());
            }
        }
    }
    all
}

fn page(scrape: &str) -> String {
    let mut page = "<!-- Made from the code: `make docs` writes it, a test compares it. -->\n# Metrics\n\n\
        All that `/metrics` on `[admin] listen` shows. [operations.md](operations.md#metrics) says which to watch. Labels come \
        from the configuration, from\nclosed lists or from a bound of their number, never from a key, an id or an error. Times are \
        seconds since 1970, so that one that\nstands still is seen; bytes and seconds are never scaled.\n\n\
        | metric | type | labels | what it says |\n|---|---|---|---|\n"
        .to_owned();
    for (name, metric) in shown(scrape) {
        let labels = metric.labels.iter().filter(|(label, _)| *label != "le");
        let labels: Vec<String> = labels
            .map(|(label, values)| match CLOSED.contains(&label.as_str()) {
                true => {
                    let values: Vec<&str> = values.iter().map(String::as_str).collect();
                    format!("`{label}`: {}", values.join(", "))
                }
                false => format!("`{label}`"),
            })
            .collect();
        let (labels, kind, help) = (labels.join("; "), &metric.kind, &metric.help);
        writeln!(page, "| `{name}` | {kind} | {labels} | {help} |").unwrap();
    }
    page
}

#[test]
fn every_metric_is_described_bucketed_there_from_the_first_scrape_and_documented() {
    let text = scrape();
    is_fresh("docs/metrics.md", &page(&text));
    for (name, kind, _) in METRICS {
        let series = match kind {
            Kind::Counter | Kind::Gauge => format!("\n{name}"),
            Kind::Histogram(_) => format!("\n{name}_bucket"),
        };
        assert!(text.contains(&series), "{name} does not appear:\n{text}");
    }
    let head = |word: &str| text.lines().filter(|line| line.starts_with(word)).count();
    assert_eq!(head("# HELP "), shown(&text).len());
    assert_eq!(head("# TYPE "), shown(&text).len());
    assert!(
        !text.contains("quantile="),
        "a histogram without buckets:\n{text}"
    );
}

#[test]
fn a_source_that_is_gone_is_no_longer_told_of() {
    let scrape = "# TYPE outboxd_source_up gauge\n\
                  outboxd_source_up{source=\"orders\"} 1\n\
                  outboxd_source_up{source=\"orders2\"} 1\n\
                  outboxd_circuit_state{target=\"kafka/orders\"} 0\n\
                  outboxd_phase_seconds_sum{source=\"orders\",phase=\"read\"} 0\n";
    let gone = BTreeSet::from(["orders".to_owned()]);
    assert_eq!(
        without(scrape.to_owned(), &gone),
        "# TYPE outboxd_source_up gauge\noutboxd_source_up{source=\"orders2\"} 1\n"
    );
    assert_eq!(without(scrape.to_owned(), &BTreeSet::new()), scrape);
}
