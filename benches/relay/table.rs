//! The one table that is printed, and the same for programs. Never computes a figure.

use std::fmt;

use serde_json::{Value, json};

/// Sections of rows.
#[derive(Default)]
pub(crate) struct Table {
    sections: Vec<(String, Vec<Row>)>,
}

/// One figure, with what its counterparts are in the same run.
#[derive(Default)]
pub(crate) struct Row {
    pub(crate) figure: String,
    pub(crate) decimals: usize,
    /// With outboxd at work.
    pub(crate) outboxd: Option<f64>,
    /// The database without outboxd.
    pub(crate) database: Option<f64>,
    /// Kafka without outboxd.
    pub(crate) kafka: Option<f64>,
    pub(crate) note: String,
}

impl Row {
    pub(crate) fn new(figure: &str, decimals: usize) -> Self {
        Self {
            figure: figure.into(),
            decimals,
            ..Self::default()
        }
    }

    fn cells(&self) -> [String; 3] {
        [self.outboxd, self.database, self.kafka].map(|value| match value {
            Some(value) => grouped(&format!("{value:.*}", self.decimals)),
            None => "-".into(),
        })
    }
}

impl Table {
    pub(crate) fn section(&mut self, title: &str) {
        self.sections.push((title.into(), Vec::new()));
    }

    pub(crate) fn row(&mut self, row: Row) {
        self.sections
            .last_mut()
            .expect("a section is begun first")
            .1
            .push(row);
    }

    pub(crate) fn json(&self, machine: &str) -> Value {
        let row = |row: &Row| {
            json!({
                "figure": row.figure, "outboxd": row.outboxd, "database_alone": row.database,
                "kafka_alone": row.kafka, "note": row.note,
            })
        };
        let section = |(title, rows): &(String, Vec<Row>)| json!({ "title": title, "rows": rows.iter().map(row).collect::<Vec<_>>() });
        let sections: Vec<Value> = self.sections.iter().map(section).collect();
        json!({ "sections": sections, "machine": machine.trim() })
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = || self.sections.iter().flat_map(|(_, rows)| rows);
        let width = rows().map(|row| row.figure.len()).max().unwrap_or_default() + 2;
        for (title, rows) in &self.sections {
            writeln!(f, "\n{title}")?;
            writeln!(
                f,
                "  {:width$}{:>12}{:>16}{:>14}",
                "", "outboxd", "database alone", "Kafka alone"
            )?;
            for row in rows {
                let [outboxd, database, kafka] = row.cells();
                let line = format!(
                    "  {:width$}{outboxd:>12}{database:>16}{kafka:>14}   {}",
                    row.figure, row.note
                );
                writeln!(f, "{}", line.trim_end())?;
            }
        }
        Ok(())
    }
}

/// The one in the middle.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// `12345.6` as `12,345.6`.
fn grouped(number: &str) -> String {
    let whole = number.find('.').unwrap_or(number.len());
    let mut text = String::new();
    for (index, character) in number.char_indices() {
        let left = whole.saturating_sub(index);
        if index > 0 && left > 0 && left % 3 == 0 && !text.ends_with('-') {
            text.push(',');
        }
        text.push(character);
    }
    text
}
