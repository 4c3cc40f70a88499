//! The files of alerts and of the dashboard: valid, tested, documented, and about metrics that there are.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

use crate::support::prometheus::promtool;

pub(super) const RULES: &str = include_str!("../../../config/prometheus/rules.yml");
const TESTS: &str = include_str!("../../../config/prometheus/rules_test.yml");
const DASHBOARD: &str = include_str!("../../../config/grafana/outboxd.json");
const METRICS: &str = include_str!("../../../docs/metrics.md");
const OPERATIONS: &str = include_str!("../../../docs/operations.md");

fn file(name: &str) -> String {
    format!("{}/config/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// The names of all alerts.
pub(super) fn alerts() -> Vec<&'static str> {
    let names = RULES
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "));
    names.collect()
}

/// The metrics that a text names.
pub(super) fn metrics_in(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let ours = words.filter(|word| word.starts_with("outboxd_") || word.starts_with("process_"));
    ours.map(|word| word.strip_suffix("_bucket").unwrap_or(word))
        .collect()
}

/// The expressions of the dashboard, each with the title of its panel.
pub(super) fn expressions() -> Vec<(String, String)> {
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| {
        let title = panel["title"].as_str().unwrap();
        let targets = panel["targets"].as_array().map(Vec::as_slice);
        targets.unwrap_or_default().iter().map(|target| {
            (
                title.to_owned(),
                target["expr"].as_str().unwrap().to_owned(),
            )
        })
    });
    targets.collect()
}

#[test]
fn the_alerts_are_sound_and_say_what_their_tests_expect() {
    let rules = file("prometheus/rules.yml");
    let checked = promtool(
        &["check", "rules", "--lint=all", "--lint-fatal", &rules],
        "",
    );
    assert!(checked.status.success(), "{checked:?}");
    let tests = file("prometheus/rules_test.yml");
    let tested = promtool(&["test", "rules", &tests], "");
    assert!(tested.status.success(), "{tested:?}");

    // The tests notice a rule that was changed.
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    fs::write(path("rules_test.yml"), TESTS).unwrap();
    for (from, to) in [
        ("> 60", "> 600"),
        ("for: 1m", "for: 4m"),
        ("== 0", "== 1"),
        (" offset 15m", " offset 50m"),
        ("max by (source)", "min by (source)"),
        (
            "unless on (job, instance, source)",
            "and on (job, instance, source)",
        ),
        ("{reason!=\"refused\"}", ""),
    ] {
        let wrong = RULES.replace(from, to);
        assert_ne!(wrong, RULES, "{from}");
        fs::write(path("rules.yml"), wrong).unwrap();
        let tested = promtool(&["test", "rules", &path("rules_test.yml")], "");
        assert!(!tested.status.success(), "{from} may as well be {to}");
    }
}

#[test]
fn every_alert_has_a_test_that_makes_it_fire_and_a_section_that_says_what_to_do() {
    assert!(alerts().len() >= 20, "{:?}", alerts());
    for alert in alerts() {
        let fires = format!("ALERTS{{alertname=\"{alert}\", alertstate=\"firing\"");
        assert!(TESTS.contains(&fires), "{alert} never fires in its tests");
        let section = OPERATIONS.split_once(&format!("\n### {alert}\n"));
        let (_, section) = section.unwrap_or_else(|| panic!("docs/operations.md has no {alert}"));
        let section = section.split("\n##").next().unwrap();
        for word in ["**Means:**", "**Look at:**", "**Do:**"] {
            assert!(section.contains(word), "{alert} does not say {word}");
        }
        let runbook = format!("runbook: docs/operations.md#{}\n", alert.to_lowercase());
        assert!(
            RULES.contains(&runbook),
            "{alert} does not name its section"
        );
    }
    let sections = OPERATIONS
        .lines()
        .filter_map(|line| line.strip_prefix("### Outboxd"));
    let sections: Vec<_> = sections.map(|name| format!("Outboxd{name}")).collect();
    assert_eq!(
        sections,
        alerts(),
        "in the order of the rules, and no other"
    );
}

#[test]
fn alerts_and_dashboard_name_metrics_that_there_are() {
    let known = metrics_in(METRICS);
    for (text, what) in [(RULES, "the rules"), (DASHBOARD, "the dashboard")] {
        let unknown: Vec<_> = metrics_in(text).difference(&known).copied().collect();
        assert_eq!(unknown, Vec::<&str>::new(), "{what}");
    }
    let shown = metrics_in(DASHBOARD);
    let hidden: Vec<_> = known.difference(&shown).copied().collect();
    assert_eq!(
        hidden,
        ["process_threads", "process_virtual_memory_bytes"],
        "of little use to people"
    );
}

#[test]
fn the_dashboard_can_be_imported() {
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    assert_eq!(dashboard["uid"], "outboxd");
    // One with a number of somebody else's database would overwrite another there.
    assert!(dashboard.get("id").is_none());
    let (mut ids, mut ends) = (BTreeSet::new(), 0);
    for panel in dashboard["panels"].as_array().unwrap() {
        let title = panel["title"].as_str().unwrap();
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}");
        let place = &panel["gridPos"];
        let number = |name: &str| place[name].as_u64().unwrap();
        assert!(
            number("x") + number("w") <= 24,
            "{title} is beyond the edge"
        );
        if number("x") == 0 {
            assert!(number("y") >= ends, "{title} overlaps");
        }
        ends = ends.max(number("y") + number("h"));
        for target in panel["targets"].as_array().into_iter().flatten() {
            assert_eq!(target["datasource"]["uid"], "${datasource}", "{title}");
        }
    }
    let rows = dashboard["panels"].as_array().unwrap().iter();
    let rows = rows.filter(|panel| panel["type"] == "row");
    let rows: Vec<_> = rows.map(|row| row["title"].as_str().unwrap()).collect();
    assert_eq!(
        rows,
        ["Are we behind?", "Why?", "Clients", "Sagas", "Daemons"]
    );
}
