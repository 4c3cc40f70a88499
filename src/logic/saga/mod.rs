//! What the saga topic says, and the state of each saga that follows from it. Never orders a service to do anything.

pub mod definition;
pub mod fold;
pub mod labels;
pub mod overdue;
pub mod record;
pub mod trail;

pub use definition::{Definition, Definitions};
pub use fold::{Anomaly, AnomalyKind, Change, Saga, SagaKey, StepState};
pub use record::{Outcome, Record, Report, StepStatus, Unreadable};
pub use trail::Trail;
