//! A real Prometheus that scrapes daemons of a test, and its `promtool`. Never asks for more than a user's Prometheus could.

use std::{
    collections::BTreeMap,
    fs,
    io::{Seek, Write},
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::{Command, Output},
    time::Duration,
};

use serde_json::Value;

use super::{guardian::Guardian, http, installed, process::Port, wait_until};

const PATIENCE: Duration = Duration::from_secs(90);

/// The labels of a series, its name included.
pub(crate) type Labels = BTreeMap<String, String>;

/// A running Prometheus; dropping it ends and removes it.
pub(crate) struct Prometheus {
    // Ends before its port is given away.
    _guardian: Guardian,
    port: Port,
}

impl Prometheus {
    /// Scrapes these daemons every second as the job `outboxd`, and evaluates the rules as often.
    pub(crate) fn start(daemons: &[SocketAddr], rules: &str) -> Self {
        let guardian = Guardian::new("prometheus", None, "KILL");
        let port = Port::claim();
        let targets: Vec<String> = daemons.iter().map(|at| format!("\"{at}\"")).collect();
        let config = format!(
            "global: {{ scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s }}\nrule_files: [rules.yml]\n\
             scrape_configs:\n  - job_name: outboxd\n    static_configs: [{{ targets: [{}] }}]\n",
            targets.join(", ")
        );
        let file = |name: &str| guardian.directory().join(name);
        fs::write(file("rules.yml"), rules).expect("it is writable");
        fs::write(file("prometheus.yml"), config).expect("it is writable");
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port.number()));
        guardian.start(&[
            program("prometheus").display().to_string(),
            format!("--config.file={}", file("prometheus.yml").display()),
            format!("--storage.tsdb.path={}", file("data").display()),
            format!("--web.listen-address={address}"),
            // A failure stops counting after so long; the usual 5 minutes would be remembered across faults.
            "--query.lookback-delta=5s".to_owned(),
        ]);
        guardian.wait_ready(PATIENCE, || {
            http::get(address, "/-/ready").is_ok_and(|(status, _)| status == 200)
        });
        Self {
            _guardian: guardian,
            port,
        }
    }

    /// What an expression gives now: the labels and the value of each series.
    pub(crate) fn query(&self, expression: &str) -> Vec<(Labels, f64)> {
        let query: String = form_urlencoded::byte_serialize(expression.as_bytes()).collect();
        let address = (Ipv4Addr::LOCALHOST, self.port.number()).into();
        let answer = http::get(address, &format!("/api/v1/query?query={query}"));
        let (status, body) = answer.expect("Prometheus answers");
        assert!(status == 200, "{expression}: {body}");
        let answer: Value = serde_json::from_str(body.trim()).expect("JSON");
        let series = answer["data"]["result"].as_array().expect("a vector");
        let one = |series: &Value| {
            let labels = serde_json::from_value(series["metric"].clone()).expect("labels");
            let value = series["value"][1].as_str().and_then(|it| it.parse().ok());
            (labels, value.expect("a number"))
        };
        series.iter().map(one).collect()
    }

    /// The alerts that fire now.
    pub(crate) fn firing(&self) -> Vec<Labels> {
        let firing = self.query("ALERTS{alertstate=\"firing\"}");
        firing.into_iter().map(|(labels, _)| labels).collect()
    }

    /// Whether an alert fires with these labels among its own.
    pub(crate) fn fires(&self, alert: &str, labels: &[(&str, &str)]) -> bool {
        let has = |alert: &Labels, (name, value): &(&str, &str)| {
            alert.get(*name).is_some_and(|it| it == value)
        };
        self.firing()
            .iter()
            .any(|it| has(it, &("alertname", alert)) && labels.iter().all(|label| has(it, label)))
    }

    /// Waits until no alert of these fires.
    pub(crate) fn wait_quiet(&self, alerts: &[&str]) {
        let mut firing = Vec::new();
        wait_until(&format!("the end of {alerts:?}"), PATIENCE, || {
            firing = self.firing();
            !firing
                .iter()
                .any(|it| alerts.contains(&it["alertname"].as_str()))
        });
    }
}

/// One of the two programs.
fn program(name: &str) -> PathBuf {
    let program = installed::folder("prometheus").join(name);
    assert!(
        program.exists(),
        "there is no {name}: `make services` says why"
    );
    program
}

/// Runs `promtool` with an input.
pub(crate) fn promtool(arguments: &[&str], input: &str) -> Output {
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(input.as_bytes()).expect("it is writable");
    file.rewind().expect("it is a file");
    let mut command = Command::new(program("promtool"));
    let output = command.args(arguments).stdin(file).output();
    output.expect("promtool runs")
}
