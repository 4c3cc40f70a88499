//! What a client is told when it does not get what it asked for, after RFC 9457. Never says why a token was refused.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// An answer that is an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Problem {
    status: StatusCode,
    detail: &'static str,
    retry_after_s: Option<u64>,
}

#[derive(Serialize)]
struct Body {
    r#type: &'static str,
    title: &'static str,
    status: u16,
    detail: &'static str,
}

impl Problem {
    const fn new(status: StatusCode, detail: &'static str) -> Self {
        Self {
            status,
            detail,
            retry_after_s: None,
        }
    }

    const fn later(status: StatusCode, detail: &'static str, retry_after_s: u64) -> Self {
        Self {
            status,
            detail,
            retry_after_s: Some(retry_after_s),
        }
    }

    pub(super) const fn bad(detail: &'static str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    pub(super) const fn token() -> Self {
        let detail = "show a valid token as Authorization: Bearer";
        Self::new(StatusCode::UNAUTHORIZED, detail)
    }

    pub(super) const fn unchecked() -> Self {
        let detail = "tokens cannot be checked now: the issuer's keys are not there";
        Self::later(StatusCode::SERVICE_UNAVAILABLE, detail, 5)
    }

    pub(super) const fn forbidden() -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "the token has no grant for this saga type",
        )
    }

    pub(super) const fn origin() -> Self {
        let detail = "pages of this origin may not ask; see [push] allowed_origins";
        Self::new(StatusCode::FORBIDDEN, detail)
    }

    pub(super) const fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "there is nothing here for you")
    }

    pub(super) const fn method() -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "only GET is understood here",
        )
    }

    pub(super) const fn address() -> Self {
        let detail = "there are too many connections from this address";
        Self::later(StatusCode::TOO_MANY_REQUESTS, detail, 10)
    }

    pub(super) const fn user() -> Self {
        let detail = "this user has too many connections";
        Self::later(StatusCode::TOO_MANY_REQUESTS, detail, 10)
    }

    pub(super) const fn full() -> Self {
        let detail = "there are too many connections";
        Self::later(StatusCode::SERVICE_UNAVAILABLE, detail, 5)
    }

    pub(super) const fn busy() -> Self {
        let detail = "as many sagas as may be are being looked up in the log";
        Self::later(StatusCode::SERVICE_UNAVAILABLE, detail, 1)
    }

    pub(super) const fn unread() -> Self {
        let detail = "the log cannot be read now";
        Self::later(StatusCode::SERVICE_UNAVAILABLE, detail, 5)
    }

    pub(super) const fn not_ready() -> Self {
        let detail = "this instance is starting or ending";
        Self::later(StatusCode::SERVICE_UNAVAILABLE, detail, 1)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = Body {
            r#type: "about:blank",
            title: self.status.canonical_reason().unwrap_or_default(),
            status: self.status.as_u16(),
            detail: self.detail,
        };
        // Numbers and constants: this cannot fail.
        let body = serde_json::to_string(&body).unwrap_or_default();
        let json = [(header::CONTENT_TYPE, "application/problem+json")];
        let mut response = (self.status, json, body).into_response();
        let headers = response.headers_mut();
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}
