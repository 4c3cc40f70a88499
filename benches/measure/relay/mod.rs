//! What the relay takes, beside what the database or Kafka alone do. Never looks at clients.

mod bare;
mod drain;
mod idle;
mod latency;

use crate::Bench;
use crate::options::Options;
use crate::table::Table;

/// What the figures stand beside.
const HEADS: [&str; 3] = ["outboxd", "database alone", "Kafka alone"];

pub(crate) fn measure(bench: &Bench, options: &Options, table: &mut Table) {
    if options.wants("relay-drain") {
        drain::measure(bench, options, table);
    }
    if options.wants("relay-latency") {
        latency::measure(bench, options, table);
    }
    if options.wants("relay-idle") {
        idle::measure(bench, options, table);
    }
}
