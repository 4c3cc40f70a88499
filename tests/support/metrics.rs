//! Reads the text that `/metrics` answers with. Never judges it: what it cannot read fails.

use std::collections::BTreeMap;

/// The samples of one scrape.
#[derive(Clone, Debug, Default)]
pub(crate) struct Metrics {
    samples: Vec<Sample>,
}

#[derive(Clone, Debug)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

impl Metrics {
    /// Reads the Prometheus text format.
    pub(crate) fn parse(text: &str) -> Self {
        let lines = text
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'));
        let samples = lines.map(|line| sample(line).unwrap_or_else(|| panic!("no sample: {line}")));
        Self {
            samples: samples.collect(),
        }
    }

    /// The value of the one sample that has these labels among its own; `None` without one, a failure with several.
    pub(crate) fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let mut values = self.matching(name, labels);
        let value = values.next();
        assert!(
            values.next().is_none(),
            "several samples are {name} {labels:?}"
        );
        value
    }

    /// The sum over all samples of this name, 0 without one.
    pub(crate) fn sum(&self, name: &str) -> f64 {
        self.matching(name, &[]).sum()
    }

    fn matching(&self, name: &str, labels: &[(&str, &str)]) -> impl Iterator<Item = f64> {
        let matches = move |sample: &&Sample| {
            let has = |(label, value): &(&str, &str)| {
                sample.labels.get(*label).is_some_and(|it| it == value)
            };
            sample.name == name && labels.iter().all(has)
        };
        self.samples
            .iter()
            .filter(matches)
            .map(|sample| sample.value)
    }
}

/// Reads `name{label="value",…} value [timestamp]`.
fn sample(line: &str) -> Option<Sample> {
    let end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(end);
    let mut labels = BTreeMap::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        while !rest.starts_with('}') {
            let (label, quoted) = rest.split_once("=\"")?;
            let (value, after) = label_value(quoted)?;
            labels.insert(label.trim_start_matches(',').trim().to_owned(), value);
            rest = after;
        }
        rest = rest.strip_prefix('}')?;
    }
    let value = rest.split_whitespace().next()?.parse().ok()?;
    Some(Sample {
        name: name.into(),
        labels,
        value,
    })
}

/// Reads a value up to its closing quote; gives what follows, too.
fn label_value(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.chars();
    loop {
        match characters.next()? {
            '"' => return Some((value, characters.as_str())),
            '\\' => value.push(match characters.next()? {
                'n' => '\n',
                other => other,
            }),
            other => value.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Metrics;

    #[test]
    fn a_scrape_is_read_with_labels_escapes_and_special_values() {
        let text = "# HELP outboxd_events_published_total x\n\
                    # TYPE outboxd_events_published_total counter\n\
                    outboxd_events_published_total{source=\"orders\"} 12\n\
                    outboxd_events_published_total{source=\"a, \\\"b}\\\" \\\\ \\n\"} 3e2\n\n\
                    outboxd_insert_to_publish_seconds_bucket{source=\"orders\",le=\"+Inf\"} 7 1700000000000\n\
                    process_cpu_seconds_total 0.25\n\
                    strange NaN\n";
        let metrics = Metrics::parse(text);
        let name = "outboxd_events_published_total";
        assert_eq!(metrics.value(name, &[("source", "orders")]), Some(12.0));
        assert_eq!(
            metrics.value(name, &[("source", "a, \"b}\" \\ \n")]),
            Some(300.0)
        );
        assert_eq!(metrics.value(name, &[("source", "billing")]), None);
        assert_eq!(metrics.sum(name), 312.0);
        assert_eq!(metrics.sum("absent"), 0.0);
        let bucket = "outboxd_insert_to_publish_seconds_bucket";
        assert_eq!(metrics.value(bucket, &[("le", "+Inf")]), Some(7.0));
        assert_eq!(metrics.value("process_cpu_seconds_total", &[]), Some(0.25));
        assert!(metrics.value("strange", &[]).is_some_and(f64::is_nan));
    }
}
