//! Fetches a document from the address of an issuer. Never follows a redirect, never waits or reads without an end.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use hyper::body::{Body, Incoming};
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, HOST, USER_AGENT};
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::jwks::{SET_BYTES_MAX, SetFault};
use crate::authorities;

/// What an answer's head may have.
const HEAD_BYTES: usize = 32 << 10;

/// Why an issuer's keys could not be had, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The URL passed the configuration's checks and is none all the same.
    #[error("this is not a URL; mend it")]
    Url,
    /// Nobody could vouch for the issuer.
    #[error("this system has no certificate authorities: install ca-certificates")]
    Authorities,
    /// Nobody there.
    #[error("cannot connect: {0}; is the host right, and may this one reach it?")]
    Connect(io::Error),
    /// Nobody who is trusted, most likely.
    #[error("TLS failed: {0}; is the issuer's certificate signed by an authority of this system?")]
    Tls(io::Error),
    /// Something else than HTTP, or cut off.
    #[error("the answer cannot be read: {0}; is it the right address?")]
    Http(#[from] hyper::Error),
    /// Found elsewhere, which is not followed: who can redirect could give keys of his own.
    #[error(
        "the answer is {0}, and redirects are not followed; write the address that it leads to"
    )]
    Redirect(StatusCode),
    /// Not found, or not now.
    #[error("the answer is {0}; is it the right address?")]
    Status(StatusCode),
    /// No set has so many bytes.
    #[error("the answer has more than 256 KiB; is it the right address?")]
    TooLarge,
    /// Not in time.
    #[error("the answer took too long; is the issuer well?")]
    TooSlow,
    /// Something else.
    #[error(transparent)]
    Set(#[from] SetFault),
}

/// The body of the answer to GET, within `patience`.
pub(super) async fn get(url: &str, patience: Duration) -> Result<Vec<u8>, FetchError> {
    let fetched = tokio::time::timeout(patience, Box::pin(visit(url))).await;
    fetched.unwrap_or(Err(FetchError::TooSlow))
}

async fn visit(url: &str) -> Result<Vec<u8>, FetchError> {
    let url: Uri = url.parse().map_err(|_| FetchError::Url)?;
    let authority = url.authority().ok_or(FetchError::Url)?.as_str().to_owned();
    let host = url.host().ok_or(FetchError::Url)?;
    // As a URL writes an IPv6 address.
    let host = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .to_owned();
    let secure = url.scheme_str() == Some("https");
    let port = url.port_u16().unwrap_or(if secure { 443 } else { 80 });
    let target = url.path_and_query().map_or("/", |target| target.as_str());
    let request = Request::get(target)
        .header(HOST, authority)
        .header(ACCEPT, "application/jwk-set+json, application/json")
        .header(USER_AGENT, concat!("outboxd/", env!("CARGO_PKG_VERSION")))
        .body(String::new())
        .map_err(|_| FetchError::Url)?;
    let stream = TcpStream::connect((host.as_str(), port)).await;
    let stream = stream.map_err(FetchError::Connect)?;
    if !secure {
        return ask(stream, request).await;
    }
    let name = ServerName::try_from(host).map_err(|_| FetchError::Url)?;
    let stream = connector()?.connect(name, stream).await;
    ask(stream.map_err(FetchError::Tls)?, request).await
}

fn connector() -> Result<TlsConnector, FetchError> {
    let authorities = authorities::system().ok_or(FetchError::Authorities)?;
    let config = ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into())
        .with_safe_default_protocol_versions()
        .map_err(|error| FetchError::Tls(io::Error::other(error)))?
        .with_root_certificates(authorities)
        .with_no_client_auth();
    Ok(Arc::new(config).into())
}

async fn ask<S>(stream: S, request: Request<String>) -> Result<Vec<u8>, FetchError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut client = http1::Builder::new();
    client.max_buf_size(HEAD_BYTES);
    let (mut sender, connection) = client.handshake(TokioIo::new(stream)).await?;
    let answer = async move {
        let response = sender.send_request(request).await?;
        match response.status() {
            StatusCode::OK => body(response.into_body()).await,
            status if status.is_redirection() => Err(FetchError::Redirect(status)),
            status => Err(FetchError::Status(status)),
        }
    };
    let mut answer = pin!(answer);
    tokio::select! {
        biased;
        answer = &mut answer => answer,
        // It has read everything; what it has read is still to be taken.
        _ = connection => answer.await,
    }
}

async fn body(mut body: Incoming) -> Result<Vec<u8>, FetchError> {
    let mut bytes = Vec::new();
    while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        if let Ok(data) = frame?.into_data() {
            if bytes.len() + data.len() > SET_BYTES_MAX {
                return Err(FetchError::TooLarge);
            }
            bytes.extend_from_slice(&data);
        }
    }
    Ok(bytes)
}
