//! stub
use metrics::{Counter, Gauge, Histogram};
use crate::logic::refusal::Reason;
use crate::logic::status::Circuit;
use crate::outbox::{Backlog, DeadLetters};
#[derive(Debug)]
pub struct SourceMetrics { pub up: Gauge, pub leader: Gauge, pub lease_lost: Counter, pub phase_read: Histogram, pub phase_send: Histogram, pub phase_commit: Histogram, pub phase_settle: Histogram, pub last_poll_timestamp: Gauge, pub events_read: Counter, pub duplicates_suppressed: Counter, pub batch_aborted: Counter, pub batch_unknown: Counter, pub batch_committed: Counter, pub published_bytes: Counter, pub events_published: Counter, pub batch_events: Histogram, pub insert_to_publish: Histogram, pub ring_slots_used: Gauge }
impl SourceMetrics { pub fn new(_s:&str)->Self { todo!() } pub fn refused(&self,_r:Reason){} pub fn counted(&self,_b:&Backlog,_d:&DeadLetters){} pub fn circuit(&self,_c:Circuit){} }
