//! What operators want of a source: that it pauses, or that another daemon leads it. Never touches the source itself.

use tokio::sync::watch;

use crate::logic::status::{Phase, SourceStatus};

/// What is wanted of a source.
#[derive(Debug, Clone, Copy, Default)]
struct Wish {
    paused: bool,
    /// How often its lease was asked for.
    releases: u64,
}

/// An operator's side of a running source.
#[derive(Debug)]
pub struct Handle {
    wish: watch::Sender<Wish>,
    status: watch::Receiver<SourceStatus>,
}

impl Handle {
    /// How the source is doing.
    pub fn status(&self) -> watch::Receiver<SourceStatus> {
        self.status.clone()
    }

    /// Publishes nothing from now on, here; returns when nothing is on its way any more.
    pub async fn pause(&self) {
        self.wish.send_modify(|wish| wish.paused = true);
        self.until(|status| status.paused || status.phase != Phase::Leading)
            .await;
    }

    /// Publishes again.
    pub async fn resume(&self) {
        self.wish.send_modify(|wish| wish.paused = false);
        self.until(|status| !status.paused || status.phase != Phase::Leading)
            .await;
    }

    /// Leaves the lease to another daemon; returns when it is handed back.
    pub async fn release(&self) {
        self.wish.send_modify(|wish| wish.releases += 1);
        self.until(|status| !matches!(status.phase, Phase::Leading | Phase::TakingOver))
            .await;
    }

    async fn until(&self, wanted: impl FnMut(&SourceStatus) -> bool) {
        // A source that has ended does nothing any more, either.
        let _ = self.status.clone().wait_for(wanted).await;
    }
}

/// The source's side.
#[derive(Debug)]
pub(super) struct Wishes {
    wish: watch::Receiver<Wish>,
    releases: u64,
}

impl Wishes {
    /// Without any wish; `status` is what the operator sees of the source.
    pub(super) fn of(status: watch::Receiver<SourceStatus>) -> (Self, Handle) {
        let (sender, wish) = watch::channel(Wish::default());
        let handle = Handle {
            wish: sender,
            status,
        };
        (Self { wish, releases: 0 }, handle)
    }

    /// Whether nothing is to be published.
    pub(super) fn paused(&self) -> bool {
        self.wish.borrow().paused
    }

    /// Whether the lease has been asked for since this was last asked.
    pub(super) fn released(&mut self) -> bool {
        let releases = self.wish.borrow().releases;
        std::mem::replace(&mut self.releases, releases) != releases
    }

    /// Waits for another wish.
    pub(super) async fn changed(&mut self) {
        if self.wish.changed().await.is_err() {
            // Nobody is left to have one.
            std::future::pending::<()>().await;
        }
    }
}
