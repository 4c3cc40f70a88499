//! The life of the process: arguments, log, command, exit code.

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use clap::Parser;
use outboxd::cli::{Cli, Exit, Failure};
use outboxd::logging;
use tikv_jemallocator::Jemalloc;

/// After a burst of clients it gives back what they took; the C library's allocator keeps nearly all of it.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        // Help and version come this way, too, and are no errors.
        Err(error) => {
            let exit = if error.use_stderr() {
                Exit::Usage
            } else {
                Exit::Ok
            };
            // Nobody is left to tell when this cannot be printed.
            let _ = error.print();
            return exit.into();
        }
    };
    // A panic has been printed by its hook; what is left is to say so by the exit code.
    let result = catch_unwind(AssertUnwindSafe(|| live(cli)));
    match result {
        Ok(Ok(())) => Exit::Ok.into(),
        Ok(Err(failure)) => {
            if !failure.message.is_empty() {
                let _ = writeln!(std::io::stderr().lock(), "{}", failure.message.trim_end());
            }
            failure.exit.into()
        }
        Err(_) => Exit::Bug.into(),
    }
}

fn live(cli: Cli) -> Result<(), Failure> {
    logging::start(std::env::var("OUTBOXD_LOG").ok().as_deref())?;
    let mut runtime = if cli.is_daemon() {
        tokio::runtime::Builder::new_multi_thread()
    } else {
        tokio::runtime::Builder::new_current_thread()
    };
    let runtime = runtime.enable_all().build().map_err(Failure::bug)?;
    let result = runtime.block_on(cli.execute());
    // A look-up in Kafka that still waits on the blocking pool must not keep the process.
    runtime.shutdown_background();
    result
}
