//! What a token allows. (Stand-in until the real one is merged.)

/// What a token allows.
#[derive(Debug, Clone, Default)]
pub struct Rights {
    /// The user.
    pub user: Option<String>,
    /// Types, or `*`.
    pub grants: Vec<String>,
}

impl Rights {
    /// For tests.
    pub fn of(user: Option<&str>, grants: &[&str]) -> Self {
        Self { user: user.map(str::to_owned), grants: grants.iter().map(|grant| (*grant).to_owned()).collect() }
    }

    /// Own saga or grant.
    pub fn may_watch(&self, saga_type: &str, user: Option<&str>) -> bool {
        (user.is_some() && user == self.user.as_deref()) || self.may_watch_type(saga_type)
    }

    /// Grant.
    pub fn may_watch_type(&self, saga_type: &str) -> bool {
        self.grants.iter().any(|grant| grant == "*" || grant == saga_type)
    }
}
