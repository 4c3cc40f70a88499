//! Why Kafka does not take an event, and who can change that. Never carries a key or a payload.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An event that goes to the dead letters.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Refusal {
    /// Why.
    pub reason: Reason,
    /// Who can change that.
    pub release: Release,
    /// What Kafka or outboxd said, for people; at most 200 characters.
    pub error: String,
}

impl Refusal {
    /// A refusal for a reason, which also says who can change it.
    pub fn new(reason: Reason, error: &str) -> Self {
        Self {
            reason,
            release: reason.release(),
            error: error.chars().take(200).collect(),
        }
    }
}

/// Why an event was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Larger than its topic takes.
    TooLarge,
    /// The broker calls the record invalid, or it cannot be made one.
    Invalid,
    /// The topic is outboxd's own or Kafka's.
    Reserved,
    /// A header is no text by name.
    BadHeader,
    /// The topic does not exist.
    TopicMissing,
    /// The cluster does not let us write to the topic.
    TopicDenied,
    /// An earlier event of the same key waits.
    Behind,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 7] = [
        Self::TooLarge,
        Self::Invalid,
        Self::Reserved,
        Self::BadHeader,
        Self::TopicMissing,
        Self::TopicDenied,
        Self::Behind,
    ];

    /// The word used in tables, labels and output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TooLarge => "too_large",
            Self::Invalid => "invalid",
            Self::Reserved => "reserved",
            Self::BadHeader => "bad_header",
            Self::TopicMissing => "topic_missing",
            Self::TopicDenied => "topic_denied",
            Self::Behind => "behind",
        }
    }

    /// Who can change it.
    pub fn release(self) -> Release {
        match self {
            Self::TopicMissing | Self::TopicDenied => Release::Auto,
            Self::TooLarge | Self::Invalid | Self::Reserved | Self::BadHeader | Self::Behind => {
                Release::Manual
            }
        }
    }
}

impl FromStr for Reason {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|reason| reason.as_str() == text);
        known.ok_or_else(|| format!("unknown reason {text:?}"))
    }
}

/// Who lets a refused event go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Release {
    /// outboxd, when the topic is back.
    Auto,
    /// An operator.
    Manual,
}

impl Release {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Auto, Self::Manual];

    /// The word used in tables, labels and output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Manual => "manual",
        }
    }
}

impl FromStr for Release {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL
            .into_iter()
            .find(|release| release.as_str() == text);
        known.ok_or_else(|| format!("unknown release {text:?}"))
    }
}
