//! What a token allows: its user's own sagas, and whole saga types by grant. Never verifies a token.

use std::collections::BTreeSet;

use serde_json::Value;

/// Grants beyond so many in one token are ignored.
pub const GRANTS_MAX: usize = 100;

/// The grant for every saga type.
const EVERY: &str = "*";

/// What a token allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rights {
    /// Whose own sagas may be watched; never empty.
    pub user: Option<String>,
    types: Types,
    ignored: usize,
}

/// Saga types that may be watched whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Types {
    /// Every one.
    All,
    /// These, maybe none.
    Only(BTreeSet<String>),
}

/// Why an entry of the grants claim grants nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GrantFault {
    /// It is no object.
    #[error("a grant is an object such as {{\"saga_type\":\"create-order\"}}")]
    NotAnObject,
    /// It does not say of what.
    #[error("a grant needs \"saga_type\", a text that is not empty; \"*\" stands for every type")]
    NoType,
    /// It says something else as well. A later version may narrow grants that way, and a reader that does not
    /// know the narrowing must not widen it.
    #[error("a grant has no field but \"saga_type\"")]
    UnknownField,
}

impl Rights {
    /// Reads the claim that holds grants. Entries that are malformed or say more than this version understands grant
    /// nothing, and neither does a claim that is no list: grants only add, so what is not understood adds nothing.
    pub fn new(user: Option<String>, grants: Option<&Value>) -> Self {
        let (entries, mut ignored) = match grants {
            None | Some(Value::Null) => (&[][..], 0),
            Some(Value::Array(entries)) => (entries.as_slice(), 0),
            Some(_) => (&[][..], 1),
        };
        ignored += entries.len().saturating_sub(GRANTS_MAX);
        let mut all = false;
        let mut only = BTreeSet::new();
        for entry in entries.iter().take(GRANTS_MAX) {
            match grant(entry) {
                Ok(EVERY) => all = true,
                Ok(saga_type) => {
                    only.insert(saga_type.to_owned());
                }
                Err(_) => ignored += 1,
            }
        }
        Self {
            user: user.filter(|user| !user.is_empty()),
            types: if all { Types::All } else { Types::Only(only) },
            ignored,
        }
    }

    /// Whether a saga of this type and user may be watched. `user` is the saga's, if it is known.
    pub fn may_watch(&self, saga_type: &str, user: Option<&str>) -> bool {
        let own = self.user.is_some() && self.user.as_deref() == user;
        own || self.may_watch_type(saga_type)
    }

    /// Whether all sagas of this type may be watched.
    pub fn may_watch_type(&self, saga_type: &str) -> bool {
        match &self.types {
            Types::All => true,
            Types::Only(types) => types.contains(saga_type),
        }
    }

    /// The types that may be watched whole.
    pub fn types(&self) -> &Types {
        &self.types
    }

    /// How many entries of the claim grant nothing, because they are malformed, not understood or too many.
    pub fn ignored(&self) -> usize {
        self.ignored
    }
}

/// The saga type that an entry of the claim grants, `*` for every one.
///
/// # Errors
/// Why it grants nothing.
pub fn grant(entry: &Value) -> Result<&str, GrantFault> {
    let fields = entry.as_object().ok_or(GrantFault::NotAnObject)?;
    let saga_type = fields.get("saga_type").and_then(Value::as_str);
    let saga_type = saga_type.filter(|saga_type| !saga_type.is_empty());
    let saga_type = saga_type.ok_or(GrantFault::NoType)?;
    if fields.len() > 1 {
        return Err(GrantFault::UnknownField);
    }
    Ok(saga_type)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn rights(user: Option<&str>, grants: Value) -> Rights {
        Rights::new(user.map(str::to_owned), Some(&grants))
    }

    #[test]
    fn a_user_may_watch_the_own_sagas_of_every_type_and_no_others() {
        let rights = rights(Some("c-7"), Value::Null);
        assert!(rights.may_watch("create-order", Some("c-7")));
        assert!(rights.may_watch("refund", Some("c-7")));
        assert!(!rights.may_watch("create-order", Some("c-8")));
        assert!(!rights.may_watch("create-order", None));
        assert!(!rights.may_watch_type("create-order"));
        assert_eq!(rights.types(), &Types::Only(BTreeSet::new()));
    }

    #[test]
    fn nobody_is_not_the_user_of_a_saga_without_one() {
        for user in [None, Some("")] {
            let rights = rights(user, Value::Null);
            assert_eq!(rights.user, None);
            assert!(!rights.may_watch("create-order", None));
            assert!(!rights.may_watch("create-order", Some("")));
        }
    }

    #[test]
    fn a_grant_opens_its_type_whoever_the_user_is() {
        let rights = rights(None, json!([{"saga_type": "create-order"}]));
        for user in [None, Some("c-7")] {
            assert!(rights.may_watch("create-order", user));
            assert!(!rights.may_watch("refund", user));
        }
        assert!(rights.may_watch_type("create-order"));
        assert!(!rights.may_watch_type("*"));
        assert_eq!(
            rights.types(),
            &Types::Only(BTreeSet::from(["create-order".to_owned()]))
        );
    }

    #[test]
    fn a_star_opens_every_type() {
        let rights = rights(None, json!([{"saga_type": "refund"}, {"saga_type": "*"}]));
        assert!(rights.may_watch("create-order", None));
        assert!(rights.may_watch_type("anything"));
        assert_eq!(rights.types(), &Types::All);
    }

    #[test]
    fn what_is_malformed_or_not_understood_grants_nothing_and_spoils_nothing() {
        for entry in [
            json!({"saga_type": "*", "states": ["APPROVED"]}),
            json!({"saga_type": "*", "states": null}),
            json!({"saga_type": ["*"]}),
            json!({"saga_type": ""}),
            json!({"saga_type": null}),
            json!({"type": "*"}),
            json!({}),
            json!("*"),
            json!(["*"]),
            json!(null),
        ] {
            let rights = rights(None, json!([entry, {"saga_type": "refund"}]));
            assert!(!rights.may_watch_type("create-order"), "{entry}");
            assert!(rights.may_watch_type("refund"), "{entry}");
            assert_eq!(rights.ignored(), 1, "{entry}");
        }
    }

    #[test]
    fn a_claim_that_is_no_list_grants_nothing() {
        for claim in [json!("*"), json!({"saga_type": "*"}), json!(true), json!(1)] {
            let rights = rights(Some("c-7"), claim.clone());
            assert!(!rights.may_watch_type("create-order"), "{claim}");
            assert!(rights.may_watch("create-order", Some("c-7")), "{claim}");
            assert_eq!(rights.ignored(), 1, "{claim}");
        }
    }

    #[test]
    fn grants_at_the_limit_count_and_those_beyond_it_do_not() {
        let entries: Vec<_> = (0..=GRANTS_MAX)
            .map(|number| json!({"saga_type": format!("t{number}")}))
            .collect();
        let rights = rights(None, Value::Array(entries));
        assert!(rights.may_watch_type(&format!("t{}", GRANTS_MAX - 1)));
        assert!(!rights.may_watch_type(&format!("t{GRANTS_MAX}")));
        assert_eq!(rights.ignored(), 1);
    }

    proptest! {
        /// Grants only add: with more of them nothing is closed that was open.
        #[test]
        fn another_grant_closes_nothing(
            types in prop::collection::vec("[ab*]{1,2}", 0..4),
            more in "[ab*]{1,2}",
            asked in "[ab]{1,2}",
            user in prop::option::of("[xy]"),
        ) {
            let mut entries: Vec<_> = types.iter().map(|it| json!({"saga_type": it})).collect();
            let before = rights(Some("x"), Value::Array(entries.clone()));
            entries.push(json!({"saga_type": more}));
            let after = rights(Some("x"), Value::Array(entries));
            let user = user.as_deref();
            prop_assert!(!before.may_watch(&asked, user) || after.may_watch(&asked, user));
            prop_assert!(!before.may_watch_type(&asked) || before.may_watch(&asked, user));
        }
    }
}
