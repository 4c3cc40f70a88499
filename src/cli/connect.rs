//! `outboxd check --connect`: visits databases and Kafka as a doctor does, and changes nothing there.

use super::Failure;
use crate::config::Config;

#[expect(clippy::unused_async, reason = "visiting waits")]
pub(super) async fn execute(_config: Config) -> Result<(), Failure> {
    Err(Failure::bug("check --connect is not built yet"))
}
