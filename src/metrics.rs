//! stub
use metrics::{Counter, Gauge, Histogram};
use crate::logic::refusal::Reason;
use crate::logic::status::Circuit;
use crate::outbox::{Backlog, DeadLetters};
#[derive(Debug)]
pub struct SourceMetrics { pub up: Gauge, pub leader: Gauge, pub lease_lost: Counter, pub phase_read: Histogram, pub phase_send: Histogram, pub phase_commit: Histogram, pub phase_settle: Histogram, pub last_poll_timestamp: Gauge, pub events_read: Counter, pub duplicates_suppressed: Counter, pub batch_aborted: Counter, pub batch_unknown: Counter, pub batch_committed: Counter, pub published_bytes: Counter, pub events_published: Counter, pub batch_events: Histogram, pub insert_to_publish: Histogram, pub ring_slots_used: Gauge }
impl SourceMetrics { pub fn new(_s:&str)->Self { Self { up: Gauge::noop(), leader: Gauge::noop(), lease_lost: Counter::noop(), phase_read: Histogram::noop(), phase_send: Histogram::noop(), phase_commit: Histogram::noop(), phase_settle: Histogram::noop(), last_poll_timestamp: Gauge::noop(), events_read: Counter::noop(), duplicates_suppressed: Counter::noop(), batch_aborted: Counter::noop(), batch_unknown: Counter::noop(), batch_committed: Counter::noop(), published_bytes: Counter::noop(), events_published: Counter::noop(), batch_events: Histogram::noop(), insert_to_publish: Histogram::noop(), ring_slots_used: Gauge::noop() } } pub fn refused(&self,_r:Reason){} pub fn backlog(&self,_b:&Backlog){} pub fn dead_letters(&self,_d:&DeadLetters){} pub fn circuit(&self,_c:Circuit){} }
