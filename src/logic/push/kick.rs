//! Whose connections an operator wants ended. Never ends one.

use serde::{Deserialize, Serialize};

use crate::logic::rights::Rights;

/// Whom an operator sends away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kick {
    /// Whoever showed a token of this user last.
    User(String),
    /// Whoever showed the token of this id (`jti`) last.
    TokenId(String),
}

impl Kick {
    /// Whether it means the connection that has these rights from a token of this id.
    pub fn means(&self, rights: &Rights, token_id: Option<&str>) -> bool {
        match self {
            Self::User(user) => rights.user.as_deref() == Some(user),
            Self::TokenId(id) => token_id == Some(id),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_means_the_named_and_never_the_nameless() {
        let rights = |user: &str| Rights::new(Some(user.to_owned()), None);
        let (named, nameless) = (rights("c-7"), rights(""));
        let user = |user: &str| Kick::User(user.to_owned());
        assert!(user("c-7").means(&named, None));
        assert!(!user("c-8").means(&named, Some("c-8")));
        assert!(!user("").means(&nameless, Some("")));
        let token = Kick::TokenId("t-1".to_owned());
        assert!(token.means(&nameless, Some("t-1")));
        assert!(!token.means(&named, Some("t-2")));
        assert!(!token.means(&rights("t-1"), None));
    }
}
