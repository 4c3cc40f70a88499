//! The one table that is printed, and the same for programs. Never computes a figure.

use std::{collections::BTreeMap, fmt};

use serde_json::{Value, json};

/// Sections of rows.
#[derive(Default)]
pub(crate) struct Table {
    sections: Vec<Section>,
}

struct Section {
    title: String,
    /// What the cells of its rows are: outboxd's own figure first, then its counterparts' in the same run.
    heads: [&'static str; 3],
    rows: Vec<Row>,
}

/// One figure, with what its counterparts are.
pub(crate) struct Row {
    figure: String,
    decimals: usize,
    cells: [Option<f64>; 3],
    note: String,
}

impl Row {
    pub(crate) fn new(figure: &str, decimals: usize, cells: [Option<f64>; 3]) -> Self {
        Self {
            figure: figure.into(),
            decimals,
            cells,
            note: String::new(),
        }
    }

    pub(crate) fn note(self, note: String) -> Self {
        Self { note, ..self }
    }
}

impl Table {
    pub(crate) fn section(&mut self, title: &str, heads: [&'static str; 3]) {
        self.sections.push(Section {
            title: title.into(),
            heads,
            rows: Vec::new(),
        });
    }

    pub(crate) fn row(&mut self, row: Row) {
        let section = self.sections.last_mut();
        section.expect("a section is begun first").rows.push(row);
    }

    pub(crate) fn json(&self, machine: &str) -> Value {
        let sections: Vec<Value> = self.sections.iter().map(Section::json).collect();
        json!({ "sections": sections, "machine": machine.trim() })
    }
}

impl Section {
    fn json(&self) -> Value {
        let row = |row: &Row| {
            let cells = self.heads.iter().zip(row.cells);
            let cells = cells.filter(|(head, _)| !head.is_empty());
            let cells = cells.map(|(head, cell)| (head.to_lowercase().replace(' ', "_"), cell));
            let cells: BTreeMap<String, Option<f64>> = cells.collect();
            json!({ "figure": row.figure, "cells": cells, "note": row.note })
        };
        let rows: Vec<Value> = self.rows.iter().map(row).collect();
        json!({ "title": self.title, "rows": rows })
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = self.sections.iter().flat_map(|section| &section.rows);
        let width = rows.map(|row| row.figure.len()).max().unwrap_or_default() + 2;
        for section in &self.sections {
            writeln!(f, "\n{}", section.title)?;
            let heads = section.heads.map(|head| format!("{head:>16}")).concat();
            writeln!(f, "  {:width$}{}", "", heads.trim_end())?;
            for row in &section.rows {
                let cells = section.heads.iter().zip(row.cells);
                let cells = cells.map(|(head, value)| match value {
                    Some(value) => grouped(&format!("{value:.*}", row.decimals)),
                    None if head.is_empty() => String::new(),
                    None => "-".into(),
                });
                let cells: String = cells.map(|cell| format!("{cell:>16}")).collect();
                let line = format!("  {:width$}{cells}   {}", row.figure, row.note);
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
