//! What clients are served by: settings, keys and certificate. A reload replaces them as a whole; connections keep the limits
//! that they began with.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use super::hub::Hub;
use super::tls::Tls;
use super::{PushError, hub};
use crate::auth::Verifier;
use crate::config;
use crate::config::push::Keys;
use crate::tasks::attached_blocking;

#[derive(Debug)]
pub(super) struct Terms {
    pub(super) config: config::Push,
    pub(super) verifier: Verifier,
    pub(super) tls: Option<Arc<Tls>>,
}

impl Terms {
    /// Reads keys and certificate. Blocks for as long as local files take.
    pub(super) fn read(config: config::Push) -> Result<Self, PushError> {
        let tls = config.tls.as_ref().map(Tls::read).transpose()?;
        let verifier = Verifier::new(&config.auth)?;
        Ok(Self {
            config,
            verifier,
            tls: tls.map(Arc::new),
        })
    }

    /// Keeps certificate and keys fresh.
    async fn keep(&self) -> Infallible {
        let renewed = async {
            match &self.tls {
                Some(tls) => tls.follow().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            never = renewed => never,
            never = self.verifier.keep() => never,
        }
    }
}

/// Keeps what is in force fresh, whatever that is.
pub(super) async fn keep(hub: &Hub) -> Infallible {
    let mut terms = hub.follow_terms();
    loop {
        let now = Arc::clone(&terms.borrow_and_update());
        tokio::select! {
            never = now.keep() => match never {},
            () = hub::changed(&mut terms) => {}
        }
    }
}

/// An operator's side of the client-facing half.
#[derive(Debug, Clone)]
pub struct Control {
    pub(super) hub: Arc<Hub>,
}

/// Terms that have been tried and not been applied yet.
#[derive(Debug)]
pub struct Renewal(Terms);

impl Control {
    /// Reads what another configuration names, and fetches keys from an issuer that is another one.
    ///
    /// # Errors
    /// When it could not be served by; nothing has changed then.
    pub async fn prepare(&self, config: config::Push) -> Result<Renewal, PushError> {
        let auth = config.auth.clone();
        // It does not panic, and nobody aborts it.
        let read = attached_blocking(move || Terms::read(config)).await;
        let mut terms = read.map_err(|_| PushError::Interrupted)??;
        let now = self.hub.terms();
        if now.config.auth == auth && matches!(auth.keys, Keys::Jwks(_)) {
            // It has the issuer's keys already.
            terms.verifier = now.verifier.clone();
        } else {
            terms.verifier.fetch().await?;
        }
        Ok(Renewal(terms))
    }

    /// How long a daemon that ends says goodbye to clients.
    pub fn drain(&self) -> Duration {
        self.hub.terms().config.drain
    }

    /// Serves new connections by them from now on.
    pub fn apply(&self, renewal: Renewal) {
        self.hub.replace_terms(renewal.0);
    }
}
