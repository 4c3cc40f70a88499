//! Real PostgreSQL, real Kafka and the real daemon for tests, demo and benchmark, each in a directory of its own that goes with
//! it. Nothing here outlives the process that started it, and nothing waits without a condition and an end.
//!
//! Everything blocks, and may be called from async code as well.
#![allow(dead_code, reason = "each user needs a part")]
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a helper that cannot do its work fails the test, and says why"
)]

pub(crate) mod acl;
pub(crate) mod authority;
pub(crate) mod consumer;
pub(crate) mod cutter;
pub(crate) mod daemon;
pub(crate) mod deployment;
pub(crate) mod guardian;
pub(crate) mod history;
pub(crate) mod http;
pub(crate) mod installed;
pub(crate) mod issuer;
pub(crate) mod kafka;
pub(crate) mod light;
pub(crate) mod metrics;
pub(crate) mod npm;
pub(crate) mod pooler;
pub(crate) mod postgres;
pub(crate) mod process;
pub(crate) mod prometheus;
pub(crate) mod proxy;
pub(crate) mod socket;
pub(crate) mod topics;

use std::{
    collections::HashMap,
    panic,
    sync::{
        LazyLock, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use kafka::Kafka;
use postgres::Postgres;

/// The broker that all tests of this process share; each makes its own topics.
pub(crate) fn kafka() -> &'static Kafka {
    static SHARED: LazyLock<Kafka> = LazyLock::new(Kafka::start);
    &SHARED
}

/// The cluster of a version (14 to 18) that all tests of this process share; each makes its own databases.
pub(crate) fn postgres(version: u16) -> &'static Postgres {
    static SHARED: Mutex<Option<HashMap<u16, &'static OnceLock<Postgres>>>> = Mutex::new(None);
    let cell = {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        let clusters = shared.get_or_insert_default();
        *clusters
            .entry(version)
            .or_insert_with(|| Box::leak(Box::default()))
    };
    cell.get_or_init(|| Postgres::start(version))
}

/// A name that nothing else of this process has, fit for topics, databases and roles.
pub(crate) fn unique(name: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(1);
    format!("{name}_{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Waits until a condition holds; fails, saying what it waited for, when it still does not after `patience`.
pub(crate) fn wait_until(what: &str, patience: Duration, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + patience;
    while !holds() {
        assert!(
            Instant::now() < deadline,
            "waited {patience:?} in vain for {what}"
        );
        thread::sleep(process::POLL);
    }
}

/// Runs a future to its end on a thread of its own, so that the caller may be async itself.
pub(crate) fn block_on<F: Future<Output: Send> + Send>(future: F) -> F::Output {
    let run = || {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime
            .enable_all()
            .build()
            .expect("a runtime")
            .block_on(future)
    };
    thread::scope(|scope| {
        scope
            .spawn(run)
            .join()
            .unwrap_or_else(|cause| panic::resume_unwind(cause))
    })
}
