//! `outboxd sql`: the outbox schema in a service's database.

use std::path::Path;

use super::Failure;

/// Arguments of `sql`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  outboxd sql install --url postgres://owner@127.0.0.1:5432/orders"
)]
pub struct Args {}

#[expect(clippy::unused_async, reason = "a database is waited for")]
pub(super) async fn execute(_file: &Path, _args: Args) -> Result<(), Failure> {
    Err(Failure::bug("sql is not built yet"))
}
