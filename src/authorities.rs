//! The certificate authorities that this system trusts. Never adds one.

use std::sync::{Arc, OnceLock};

use rustls::RootCertStore;

/// The system's store, read once: it is large, and changes with the system's packages only. None if it is empty.
pub fn system() -> Option<Arc<RootCertStore>> {
    static STORE: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    let store = STORE.get_or_init(|| {
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        Arc::new(store)
    });
    (!store.is_empty()).then(|| Arc::clone(store))
}
