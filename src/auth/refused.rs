//! Why a token is not believed. For logs at debug level and `outboxd token check`; never shown to a client.

use crate::config::push::Algorithm;

/// A token that is not believed. Clients learn which of the three it is and no more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It was right until its time, and the leeway after it, was over. A new one will do.
    #[error("it has expired")]
    Expired,
    /// Nobody can say: the issuer's keys are not there, or not yet the one that it names. It may do a little later.
    #[error("it cannot be checked now: the key that it needs has not been fetched from the issuer")]
    Unchecked,
    /// Anything else. The same token will never do.
    #[error("{0}")]
    Wrong(Why),
}

/// What is wrong. Never holds the token; claims stand in it only when their signature was right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// More than [`super::TOKEN_BYTES_MAX`].
    #[error("it has more than 8 KiB")]
    TooLong,
    /// Not three parts of base64url, or an empty signature.
    #[error("it is not a signed JSON web token: three parts of base64url, with a dot between them")]
    Form,
    /// The header is no JSON object, or has no `alg`.
    #[error("its header is not a JSON object with `alg`")]
    Header,
    /// Another kind of token.
    #[error("its `typ` is neither JWT nor at+jwt, so it was made for something else")]
    Type,
    /// The issuer demands an extension.
    #[error("its header has `crit`: it demands an extension that outboxd does not have")]
    Critical,
    /// `alg` is `none`.
    #[error("it is not signed: its `alg` is none")]
    Unsigned,
    /// Not one of the twelve.
    #[error("its `alg` is none that outboxd knows")]
    UnknownAlgorithm,
    /// Known, but not allowed.
    #[error("it is signed with {}, which push.auth.algorithms does not list", .0.name())]
    Algorithm(Algorithm),
    /// Allowed, but no key is of its type.
    #[error("it is signed with {}, and push.auth.keys has no key of that type", .0.name())]
    NoKey(Algorithm),
    /// The issuer has no key of this name, or not yet.
    #[error("its `kid` names no key of push.auth.keys")]
    UnknownKey,
    /// Another key, or a changed token.
    #[error("its signature fits no key of push.auth.keys")]
    Signature,
    /// The payload is no JSON object.
    #[error("its payload is not a JSON object")]
    Claims,
    /// From somebody else.
    #[error("its `iss` is {found}, not push.auth.issuer")]
    Issuer {
        /// As JSON, or that it is missing.
        found: String,
    },
    /// For somebody else.
    #[error("its `aud` is {found}, not push.auth.audience, nor a list that holds it")]
    Audience {
        /// As JSON, or that it is missing.
        found: String,
    },
    /// The claim that names the user is neither text nor whole number.
    #[error("the claim that push.auth.user_claim names is neither a text nor a whole number")]
    User,
    /// Without `exp` a token would be good for ever.
    #[error("its `exp` is {found}, not a time in seconds since 1970")]
    Expiry {
        /// As JSON, or that it is missing.
        found: String,
    },
    /// `nbf` is no time.
    #[error("its `nbf` is {found}, not a time in seconds since 1970")]
    NotBefore {
        /// As JSON.
        found: String,
    },
    /// Good later.
    #[error("it is not valid yet: its `nbf` is in the future; are the clocks right?")]
    NotYet,
}

impl From<Why> for Refused {
    fn from(why: Why) -> Self {
        Self::Wrong(why)
    }
}
