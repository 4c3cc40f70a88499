//! `outboxd token`: makes tokens for development, and says why one is refused. Never prints a token but the one it made.

use std::io::{self, Read, Write};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::builder::NonEmptyStringValueParser;
use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use super::{Exit, Failure, load, table};
use crate::auth::{self, AuthError, Identity, Refused, TOKEN_BYTES_MAX, Verifier};
use crate::config::{self, push::Auth};
use crate::logic::rights::{self, GRANTS_MAX, Types};

/// Arguments of `token`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  outboxd token create --sub c-7 | outboxd token check -")]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Make a token for development and print it; needs a secret key in [push.auth].
    #[command(
        after_help = "Example:\n  outboxd token create --sub c-7 --grant '{\"saga_type\":\"create-order\"}' --ttl 15m"
    )]
    Create {
        /// The user, for the claim that user_claim names.
        #[arg(long, value_name = "USER", value_parser = NonEmptyStringValueParser::new())]
        sub: String,
        /// A grant such as {"saga_type":"create-order"}, or a JSON list of them; "*" is every type. May be repeated.
        #[arg(long = "grant", value_name = "JSON", value_parser = grants)]
        grants: Vec<Grants>,
        /// For how long it is good: 1s to 365d.
        #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = ttl)]
        ttl: Duration,
    },
    /// Say whose a token is and what it allows, or why it is refused (exit code 77).
    #[command(after_help = "Example:\n  outboxd token check - --json <token.txt")]
    Check {
        /// The token; - reads it from standard input, which is better: arguments show in process lists.
        #[arg(value_name = "TOKEN")]
        token: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

/// What one `--grant` says.
#[derive(Debug, Clone)]
struct Grants(Vec<Value>);

fn grants(text: &str) -> Result<Grants, String> {
    let value: Value =
        serde_json::from_str(text).map_err(|error| format!("this is not JSON: {error}"))?;
    let grants = if let Value::Array(grants) = value {
        grants
    } else {
        vec![value]
    };
    for (number, entry) in (1..).zip(&grants) {
        rights::grant(entry).map_err(|fault| format!("number {number}: {fault}"))?;
    }
    Ok(Grants(grants))
}

fn ttl(text: &str) -> Result<Duration, String> {
    let ttl = config::duration(text).map_err(|fault| fault.to_string())?;
    let (least, most) = (Duration::from_secs(1), Duration::from_secs(365 * 86_400));
    if (least..=most).contains(&ttl) && ttl.subsec_nanos() == 0 {
        return Ok(ttl);
    }
    Err("a token is good for 1s to 365d, in whole seconds".to_owned())
}

pub(super) async fn execute(file: &Path, args: Args) -> Result<(), Failure> {
    let push = load(file)?.push.ok_or_else(|| {
        let message = format!(
            "{} has no [push], so no token is believed; add it with [push.auth]",
            file.display()
        );
        Failure::new(Exit::Config, message)
    })?;
    match args.command {
        Command::Create { sub, grants, ttl } => {
            let grants = grants.into_iter().flat_map(|grants| grants.0).collect();
            create(&push.auth, sub, grants, ttl)
        }
        Command::Check { token, json } => check(&push.auth, token, json).await,
    }
}

fn create(auth: &Auth, sub: String, grants: Vec<Value>, ttl: Duration) -> Result<(), Failure> {
    if grants.len() > GRANTS_MAX {
        let message = format!("a token has at most {GRANTS_MAX} grants; \"*\" is for every type");
        return Err(Failure::new(Exit::Usage, message));
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.unwrap_or_default();
    let mut claims = Map::new();
    if !grants.is_empty() {
        claims.insert(auth.grants_claim.clone(), Value::Array(grants));
    }
    claims.insert(auth.user_claim.clone(), Value::String(sub));
    claims.insert("iss".to_owned(), json!(auth.issuer));
    claims.insert("aud".to_owned(), json!(auth.audience));
    claims.insert("iat".to_owned(), json!(now.as_secs()));
    claims.insert("exp".to_owned(), json!((now + ttl).as_secs()));
    claims.insert("jti".to_owned(), json!(Uuid::new_v4()));
    let token = auth::sign(auth, claims)?;
    if token.len() > TOKEN_BYTES_MAX {
        let message =
            "the token would have more than 8 KiB and be refused; give it fewer grants".to_owned();
        return Err(Failure::new(Exit::Usage, message));
    }
    Ok(writeln!(io::stdout().lock(), "{token}")?)
}

async fn check(auth: &Auth, token: String, json: bool) -> Result<(), Failure> {
    let verifier = Verifier::new(auth)?;
    verifier.fetch().await?;
    let token = if token == "-" { piped()? } else { token };
    let verified = verifier.verify(&token, SystemTime::now());
    let mut out = io::stdout().lock();
    if json {
        let answer = match &verified {
            Ok(identity) => accepted(identity),
            Err(refused) => json!({
                "accepted": false,
                "expired": *refused == Refused::Expired,
                "why": refused.to_string(),
            }),
        };
        writeln!(out, "{answer:#}")?;
    }
    match verified {
        Ok(identity) if !json => write!(out, "{}", render(&identity))?,
        Ok(_) => {}
        Err(refused) => {
            let mut failure = Failure::new(
                Exit::Privilege,
                format_args!("the token is refused: {refused}"),
            );
            if json {
                failure.message.clear();
            }
            return Err(failure);
        }
    }
    Ok(())
}

/// The token on standard input, without what an editor or `echo` puts around it.
fn piped() -> Result<String, Failure> {
    let mut bytes = Vec::new();
    // One that is longer than any good one is cut, and still longer.
    let limit = u64::try_from(TOKEN_BYTES_MAX).unwrap_or(u64::MAX);
    io::stdin()
        .lock()
        .take(limit.saturating_add(64))
        .read_to_end(&mut bytes)
        .map_err(|error| {
            Failure::new(
                Exit::Usage,
                format_args!("cannot read the token from standard input: {error}"),
            )
        })?;
    Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
}

fn accepted(identity: &Identity) -> Value {
    json!({
        "accepted": true,
        "user": identity.rights.user,
        "grants": types(identity),
        "grants_ignored": identity.rights.ignored(),
        "expires_at": expiry(identity),
        "token_id": identity.token_id,
    })
}

fn render(identity: &Identity) -> String {
    let rights = &identity.rights;
    let user = rights.user.as_deref().unwrap_or("none, so grants only");
    let mut grants = match rights.types() {
        Types::All => "every saga type".to_owned(),
        Types::Only(types) if types.is_empty() => "none, so own sagas only".to_owned(),
        Types::Only(_) => types(identity).join(", "),
    };
    if rights.ignored() > 0 {
        grants.push_str(&format!(
            "; {} ignored (malformed, with unknown fields, or beyond {GRANTS_MAX})",
            rights.ignored()
        ));
    }
    let token_id = identity.token_id.as_deref().unwrap_or("-");
    let rows = [
        ["grants", &grants],
        ["expires at", &expiry(identity)],
        ["token id", token_id],
    ];
    let rows = rows.map(|row| row.map(str::to_owned).to_vec());
    table::render(&["user", user], rows.into_iter())
}

fn types(identity: &Identity) -> Vec<&str> {
    match identity.rights.types() {
        Types::All => vec!["*"],
        Types::Only(types) => types.iter().map(String::as_str).collect(),
    }
}

fn expiry(identity: &Identity) -> String {
    // A verified token's time is before the year 10000, which this form can say.
    let moment = OffsetDateTime::from(identity.expires_at).format(&Rfc3339);
    moment.unwrap_or_default()
}

impl From<AuthError> for Failure {
    fn from(error: AuthError) -> Self {
        let exit = match &error {
            AuthError::Fetch { .. } => Exit::Unreachable,
            AuthError::Secret { .. }
            | AuthError::TooShort { .. }
            | AuthError::Unreadable { .. }
            | AuthError::Pem { .. }
            | AuthError::NoSecret => Exit::Config,
        };
        Self::new(exit, error)
    }
}
