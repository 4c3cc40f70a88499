//! TLS to PostgreSQL as libpq does it, on rustls. Never trusts more than `sslmode` allows.
//!
//! One difference: a name that stands only in the certificate's subject (no subjectAltName) is not accepted.

use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{WebPkiSupportedAlgorithms, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore,
};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::error::OutboxError;
use crate::authorities;
use crate::config::{Tls, TlsMode};

/// What a session is encrypted with. The files are read anew for each connection, so that certificates can be renewed
/// without a restart.
pub(super) async fn connector(tls: &Tls) -> Result<MakeRustlsConnect, OutboxError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = Verifier {
        trust: trust(tls).await?,
        name: tls.mode == TlsMode::VerifyFull,
        algorithms: provider.signature_verification_algorithms,
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| configuration(format!("TLS cannot be set up: {error}")))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match &tls.client {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = certificates(certificate).await?;
            builder
                .with_client_auth_cert(chain, private_key(key).await?)
                .map_err(|error| {
                    configuration(format!("{} cannot be used: {error}", certificate.display()))
                })?
        }
    };
    // PostgreSQL 17 demands it when TLS is negotiated without its own preamble; older ones ignore it.
    config.alpn_protocols = vec![b"postgresql".to_vec()];
    Ok(MakeRustlsConnect::new(config))
}

/// What an operator can do about a handshake that failed, if `error` is one.
pub(super) fn advice(error: &tokio_postgres::Error, tls: &Tls) -> Option<String> {
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if let Some(rustls::Error::InvalidCertificate(error)) = error.downcast_ref() {
            return Some(certificate_advice(error, tls));
        }
        if let Some(rustls::Error::AlertReceived(alert)) = error.downcast_ref()
            && let Some((certificate, _)) = &tls.client
        {
            return Some(alert_advice(*alert, certificate));
        }
        if let Some(error) = error.downcast_ref::<rustls::Error>() {
            return Some(error.to_string());
        }
        // An I/O error hides what it wraps from `source`.
        cause = match error
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::get_ref)
        {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    let is_handshake = error.to_string().contains("TLS handshake");
    is_handshake.then(|| {
        format!(
            "{}; set `ssl = on` on the server, or sslmode=disable where the network is trusted",
            super::error::causes(error).join(": ")
        )
    })
}

fn certificate_advice(error: &CertificateError, tls: &Tls) -> String {
    let authorities = match &tls.root {
        Some(file) => file.display().to_string(),
        None => "the system's authorities".to_owned(),
    };
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "rustls words the others well"
    )]
    match error {
        // Another authority of the same name shows only in the signature.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => format!(
            "the server's certificate is not signed by any of {authorities}; name the right file in sslrootcert"
        ),
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!(
                "the server's certificate does not carry the name that the URL uses ({error}); connect by a name in \
                 its subjectAltName, or use sslmode=verify-ca"
            )
        }
        other => format!("the server's certificate is not valid: {other}"),
    }
}

/// What a server has against our certificate.
fn alert_advice(alert: AlertDescription, certificate: &Path) -> String {
    let certificate = certificate.display();
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the others are not about certificates"
    )]
    let why = match alert {
        AlertDescription::CertificateExpired => "its time is over; renew it".to_owned(),
        AlertDescription::UnknownCA => {
            "it is not signed by an authority of the server's ssl_ca_file".to_owned()
        }
        other => format!("it says {other:?}"),
    };
    format!("the server does not accept {certificate}: {why}")
}

/// Who may vouch for the server.
#[derive(Debug)]
enum Trust {
    /// Nobody needs to.
    Anyone,
    /// These authorities. A certificate that is in the file itself needs nobody else.
    These {
        authorities: Arc<RootCertStore>,
        pinned: Vec<CertificateDer<'static>>,
    },
}

async fn trust(tls: &Tls) -> Result<Trust, OutboxError> {
    let file = match (tls.mode, &tls.root) {
        // As libpq: a root certificate turns `require` into `verify-ca`.
        (TlsMode::Disable | TlsMode::Prefer, _) | (TlsMode::Require, None) => {
            return Ok(Trust::Anyone);
        }
        (TlsMode::Require | TlsMode::VerifyCa | TlsMode::VerifyFull, Some(file)) => file,
        (TlsMode::VerifyCa | TlsMode::VerifyFull, None) => {
            return Ok(Trust::These {
                authorities: system_authorities()?,
                pinned: Vec::new(),
            });
        }
    };
    let pinned = certificates(file).await?;
    let mut authorities = RootCertStore::empty();
    for certificate in &pinned {
        authorities.add(certificate.clone()).map_err(|error| {
            configuration(format!("{} cannot be used: {error}", file.display()))
        })?;
    }
    Ok(Trust::These {
        authorities: Arc::new(authorities),
        pinned,
    })
}

fn system_authorities() -> Result<Arc<RootCertStore>, OutboxError> {
    authorities::system().ok_or_else(|| {
        configuration(
            "this system has no certificate authorities: install ca-certificates or name a file in sslrootcert"
                .to_owned(),
        )
    })
}

#[derive(Debug)]
struct Verifier {
    trust: Trust,
    name: bool,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Trust::These {
            authorities,
            pinned,
        } = &self.trust
        else {
            return Ok(ServerCertVerified::assertion());
        };
        let parsed = ParsedCertificate::try_from(certificate)?;
        // A self-signed server certificate is its own authority, which the chain check does not know.
        if !pinned.iter().any(|known| known == certificate) {
            let algorithms = self.algorithms.all;
            verify_server_cert_signed_by_trust_anchor(
                &parsed,
                authorities,
                intermediates,
                now,
                algorithms,
            )?;
        }
        if self.name {
            verify_server_name(&parsed, server_name)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    // The signatures prove that the server owns the certificate. They are checked in every mode, since channel
    // binding rests on them.
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

async fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, OutboxError> {
    let pem = read(file).await?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err(configuration(format!(
            "{} holds no certificate in PEM form",
            file.display()
        ))),
        Err(error) => Err(configuration(format!(
            "{} is no PEM file: {error}",
            file.display()
        ))),
    }
}

async fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, OutboxError> {
    PrivateKeyDer::from_pem_slice(&read(file).await?).map_err(|_| {
        let file = file.display();
        configuration(format!(
            "{file} holds no private key in PEM form without a passphrase"
        ))
    })
}

async fn read(file: &Path) -> Result<Vec<u8>, OutboxError> {
    let content = tokio::fs::read(file).await;
    content.map_err(|error| configuration(format!("{} cannot be read: {error}", file.display())))
}

fn configuration(reason: String) -> OutboxError {
    OutboxError::Configuration { reason }
}
