//! Tokens that are believed, and every way not to be.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::LazyLock;
use std::time::Duration;
use std::time::UNIX_EPOCH;

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
    KeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384,
    RSA_PSS_SHA512, RsaEncoding, RsaKeyPair,
};
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::config::push::Keys;
use crate::config::{Secret, SecretString};
use crate::logic::rights::Types;

mod fetched;
#[path = "../../../tests/support/issuer.rs"]
mod issuer;
mod jwks;
mod keys;

const NOW: u64 = 1_800_000_000;
const SECRET: &str = "a secret of 64 bytes, which is long enough for HS256, HS384, HS5";
const ALL: [Algorithm; 12] = [
    Algorithm::EdDSA,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::HS256,
    Algorithm::HS384,
    Algorithm::HS512,
];

/// An issuer's keys, one of each type.
struct Pairs {
    ed: Ed25519KeyPair,
    p256: EcdsaKeyPair,
    p384: EcdsaKeyPair,
    rsa: RsaKeyPair,
}

impl Pairs {
    fn new() -> Self {
        Self {
            ed: Ed25519KeyPair::generate().unwrap(),
            p256: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(),
            p384: EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap(),
            rsa: RsaKeyPair::generate(KeySize::Rsa2048).unwrap(),
        }
    }

    fn rsa(&self, encoding: &'static dyn RsaEncoding, message: &[u8]) -> Vec<u8> {
        let mut signature = vec![0; self.rsa.public_modulus_len()];
        self.rsa
            .sign(encoding, &SystemRandom::new(), message, &mut signature)
            .unwrap();
        signature
    }

    fn sign(&self, algorithm: Algorithm, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match algorithm {
            Algorithm::EdDSA => self.ed.sign(message).as_ref().to_vec(),
            Algorithm::ES256 => self.p256.sign(&random, message).unwrap().as_ref().to_vec(),
            Algorithm::ES384 => self.p384.sign(&random, message).unwrap().as_ref().to_vec(),
            Algorithm::RS256 => self.rsa(&RSA_PKCS1_SHA256, message),
            Algorithm::RS384 => self.rsa(&RSA_PKCS1_SHA384, message),
            Algorithm::RS512 => self.rsa(&RSA_PKCS1_SHA512, message),
            Algorithm::PS256 => self.rsa(&RSA_PSS_SHA256, message),
            Algorithm::PS384 => self.rsa(&RSA_PSS_SHA384, message),
            Algorithm::PS512 => self.rsa(&RSA_PSS_SHA512, message),
            Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512 => {
                hmac(algorithm, SECRET, message)
            }
        }
    }

    #[allow(clippy::wildcard_enum_match_arm, reason = "six algorithms share a key")]
    fn pem(&self, algorithm: Algorithm) -> String {
        let der: PublicKeyX509Der<'_> = match algorithm {
            Algorithm::EdDSA => self.ed.public_key().as_der().unwrap(),
            Algorithm::ES256 => self.p256.public_key().as_der().unwrap(),
            Algorithm::ES384 => self.p384.public_key().as_der().unwrap(),
            other => {
                assert!(other.name().starts_with(['R', 'P']));
                self.rsa.public_key().as_der().unwrap()
            }
        };
        pem("PUBLIC KEY", der.as_ref())
    }

    fn token(&self, algorithm: Algorithm, claims: &Value) -> String {
        let header = json!({"alg": algorithm.name(), "typ": "JWT", "kid": "k1"});
        token(&header, claims, |message| self.sign(algorithm, message))
    }
}

/// Made once: an RSA key takes a while.
static OURS: LazyLock<Pairs> = LazyLock::new(Pairs::new);
static THEIRS: LazyLock<Pairs> = LazyLock::new(Pairs::new);

fn hmac(algorithm: Algorithm, secret: &str, message: &[u8]) -> Vec<u8> {
    let key = key::secret_key(algorithm, &SecretString::new(secret.to_owned())).unwrap();
    aws_lc_rs::hmac::sign(&key, message).as_ref().to_vec()
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<_> = text.as_bytes().chunks(64).map(str::from_utf8).collect();
    let lines: Vec<_> = lines.into_iter().map(Result::unwrap).collect();
    format!(
        "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
        lines.join("\n")
    )
}

fn token(header: &Value, claims: &Value, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", part(header), part(claims));
    let signature = URL_SAFE_NO_PAD.encode(sign(message.as_bytes()));
    format!("{message}.{signature}")
}

fn auth(algorithms: &[Algorithm], keys: Keys) -> Auth {
    Auth {
        issuer: "https://id.example".to_owned(),
        audience: "outboxd".to_owned(),
        algorithms: algorithms.to_vec(),
        keys,
        leeway: Duration::from_secs(30),
        user_claim: "sub".to_owned(),
        grants_claim: "outboxd".to_owned(),
    }
}

fn file(text: &[u8]) -> (tempfile::TempDir, std::path::PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys");
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    (directory, path)
}

/// Keys are read once, so the file may go.
fn with_pem(algorithms: &[Algorithm], pem: &str) -> Result<Verifier, AuthError> {
    let (_directory, path) = file(pem.as_bytes());
    Verifier::new(&auth(algorithms, Keys::Pem(path)))
}

fn with_secret(algorithms: &[Algorithm], secret: &str) -> Result<Verifier, AuthError> {
    let (_directory, path) = file(secret.as_bytes());
    Verifier::new(&auth(algorithms, Keys::Secret(Secret::File(path))))
}

fn verifier(algorithms: &[Algorithm]) -> Verifier {
    if algorithms.iter().all(|algorithm| algorithm.is_symmetric()) {
        return with_secret(algorithms, SECRET).unwrap();
    }
    let pems: Vec<_> = algorithms.iter().map(|it| OURS.pem(*it)).collect();
    with_pem(algorithms, &pems.join("")).unwrap()
}

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

fn claims() -> Value {
    json!({
        "iss": "https://id.example",
        "aud": "outboxd",
        "sub": "c-7",
        "exp": NOW + 300,
        "jti": "t-1",
        "outboxd": [{"saga_type": "create-order"}],
    })
}

/// The claims with one changed, or taken out by `None`.
fn claims_but(name: &str, value: Option<Value>) -> Value {
    let mut claims = claims();
    let map = claims.as_object_mut().unwrap();
    match value {
        Some(value) => map.insert(name.to_owned(), value),
        None => map.remove(name),
    };
    claims
}

fn verify(claims: &Value) -> Result<Identity, Refused> {
    static VERIFIER: LazyLock<Verifier> = LazyLock::new(|| verifier(&[Algorithm::EdDSA]));
    VERIFIER.verify(&OURS.token(Algorithm::EdDSA, claims), at(NOW))
}

fn wrong(why: Why) -> Result<Identity, Refused> {
    Err(Refused::Wrong(why))
}

#[test]
fn a_token_of_each_algorithm_is_believed_where_it_is_allowed_and_nowhere_else() {
    for algorithm in ALL {
        let token = OURS.token(algorithm, &claims());
        let identity = verifier(&[algorithm]).verify(&token, at(NOW)).unwrap();
        assert_eq!(identity.rights.user.as_deref(), Some("c-7"));
        assert!(identity.rights.may_watch_type("create-order"));
        assert!(!identity.rights.may_watch_type("refund"));
        assert_eq!(identity.expires_at, at(NOW + 300));
        assert_eq!(identity.token_id.as_deref(), Some("t-1"));
        for other in ALL.into_iter().filter(|other| *other != algorithm) {
            assert_eq!(
                verifier(&[other]).verify(&token, at(NOW)),
                wrong(Why::Algorithm(algorithm)),
                "{algorithm:?} {other:?}"
            );
        }
    }
}

#[test]
fn a_signature_of_one_algorithm_is_none_of_another() {
    let public = &ALL[..9];
    let verifier = verifier(public);
    for made in ALL {
        for named in public.iter().filter(|named| **named != made) {
            let token = token(&json!({"alg": named.name()}), &claims(), |message| {
                OURS.sign(made, message)
            });
            assert_eq!(
                verifier.verify(&token, at(NOW)),
                wrong(Why::Signature),
                "{made:?} {named:?}"
            );
        }
    }
}

#[test]
fn a_signature_of_other_keys_is_wrong() {
    for algorithm in &ALL[..9] {
        let token = THEIRS.token(*algorithm, &claims());
        let ours = verifier(&[*algorithm]);
        assert_eq!(ours.verify(&token, at(NOW)), wrong(Why::Signature));
    }
    let token = OURS.token(Algorithm::HS256, &claims());
    let theirs = with_secret(&[Algorithm::HS256], &SECRET.replace('a', "b")).unwrap();
    assert_eq!(theirs.verify(&token, at(NOW)), wrong(Why::Signature));
}

#[test]
fn a_public_key_is_never_taken_for_a_secret() {
    let pem = OURS.pem(Algorithm::EdDSA);
    let raw = OURS.ed.public_key().as_ref().to_vec();
    let header = json!({"alg": "HS256"});
    let by_pem = token(&header, &claims(), |message| {
        hmac(Algorithm::HS256, &pem, message)
    });
    let by_raw = token(&header, &claims(), |message| {
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &raw);
        aws_lc_rs::hmac::sign(&key, message).as_ref().to_vec()
    });
    for token in [by_pem, by_raw] {
        assert_eq!(
            verifier(&[Algorithm::EdDSA]).verify(&token, at(NOW)),
            wrong(Why::Algorithm(Algorithm::HS256))
        );
        // The configuration refuses this mixture; were it let in, it would still do no harm.
        let mixed = with_pem(&[Algorithm::EdDSA, Algorithm::HS256], &pem).unwrap();
        assert_eq!(
            mixed.verify(&token, at(NOW)),
            wrong(Why::NoKey(Algorithm::HS256))
        );
    }
}

#[test]
fn any_of_several_keys_will_do() {
    let algorithms = [Algorithm::EdDSA, Algorithm::ES256, Algorithm::RS256];
    let pems = [
        "the keys of https://id.example\n".to_owned(),
        THEIRS.pem(Algorithm::EdDSA),
        OURS.pem(Algorithm::RS256),
        OURS.pem(Algorithm::EdDSA),
    ];
    let verifier = with_pem(&algorithms, &pems.join("")).unwrap();
    for (pairs, algorithm) in [
        (&OURS, Algorithm::EdDSA),
        (&THEIRS, Algorithm::EdDSA),
        (&OURS, Algorithm::RS256),
    ] {
        let token = pairs.token(algorithm, &claims());
        assert!(verifier.verify(&token, at(NOW)).is_ok());
    }
    let token = OURS.token(Algorithm::ES256, &claims());
    assert_eq!(
        verifier.verify(&token, at(NOW)),
        wrong(Why::NoKey(Algorithm::ES256))
    );
}

#[test]
fn a_header_that_says_anything_unsafe_is_refused() {
    let ours = |header: &Value| {
        token(header, &claims(), |message| {
            OURS.sign(Algorithm::EdDSA, message)
        })
    };
    let believed = verifier(&[Algorithm::EdDSA]);
    for (header, why) in [
        (json!({"alg": "none"}), Why::Unsigned),
        (json!({"alg": "nOnE"}), Why::Unsigned),
        (json!({"alg": "eddsa"}), Why::UnknownAlgorithm),
        (json!({"alg": "ES512"}), Why::UnknownAlgorithm),
        (json!({"alg": ["EdDSA"]}), Why::Header),
        (json!({"typ": "JWT"}), Why::Header),
        (json!(["EdDSA"]), Why::Header),
        (json!({"alg": "EdDSA", "crit": ["b64"]}), Why::Critical),
        (json!({"alg": "EdDSA", "crit": []}), Why::Critical),
        (json!({"alg": "EdDSA", "crit": null}), Why::Critical),
        (json!({"alg": "EdDSA", "typ": "logout+jwt"}), Why::Type),
        (json!({"alg": "EdDSA", "typ": ""}), Why::Type),
        (json!({"alg": "EdDSA", "typ": null}), Why::Type),
        (json!({"alg": "EdDSA", "typ": ["JWT"]}), Why::Type),
    ] {
        let said = believed.verify(&ours(&header), at(NOW));
        assert_eq!(said, wrong(why), "{header}");
    }
    for header in [
        json!({"alg": "EdDSA"}),
        json!({"alg": "EdDSA", "typ": "jwt"}),
        json!({"alg": "EdDSA", "typ": "at+jwt"}),
        json!({"alg": "EdDSA", "typ": "application/at+JWT", "cty": 1}),
    ] {
        assert!(believed.verify(&ours(&header), at(NOW)).is_ok(), "{header}");
    }
    let unsigned = token(&json!({"alg": "none"}), &claims(), |_| Vec::new());
    assert_eq!(believed.verify(&unsigned, at(NOW)), wrong(Why::Unsigned));
}

#[test]
fn a_key_that_a_token_brings_along_is_not_heeded() {
    let x = URL_SAFE_NO_PAD.encode(THEIRS.ed.public_key().as_ref());
    let header = json!({
        "alg": "EdDSA",
        "jwk": {"kty": "OKP", "crv": "Ed25519", "x": x},
        "jku": "https://evil.example/jwks.json",
        "x5u": "https://evil.example/cert.pem",
        "x5c": 7,
    });
    let by = |pairs: &Pairs| {
        let token = token(&header, &claims(), |message| {
            pairs.sign(Algorithm::EdDSA, message)
        });
        verifier(&[Algorithm::EdDSA]).verify(&token, at(NOW))
    };
    assert_eq!(by(&THEIRS), wrong(Why::Signature));
    assert!(by(&OURS).is_ok());
}

#[test]
fn every_claim_that_must_be_there_must_be_right() {
    let issuer = |found: &str| Why::Issuer {
        found: found.to_owned(),
    };
    let audience = |found: &str| Why::Audience {
        found: found.to_owned(),
    };
    let expiry = |found: &str| Why::Expiry {
        found: found.to_owned(),
    };
    let not_before = |found: &str| Why::NotBefore {
        found: found.to_owned(),
    };
    let long = "x".repeat(200);
    let cut = format!("\"{}…", "x".repeat(99));
    for (name, value, why) in [
        ("iss", None, issuer("missing")),
        (
            "iss",
            Some(json!("https://evil.example")),
            issuer("\"https://evil.example\""),
        ),
        (
            "iss",
            Some(json!(["https://id.example"])),
            issuer("[\"https://id.example\"]"),
        ),
        ("iss", Some(json!(long)), issuer(&cut)),
        ("aud", None, audience("missing")),
        ("aud", Some(json!("other")), audience("\"other\"")),
        ("aud", Some(json!(["other", 1])), audience("[\"other\",1]")),
        ("aud", Some(json!([])), audience("[]")),
        (
            "aud",
            Some(json!({"outboxd": true})),
            audience("{\"outboxd\":true}"),
        ),
        ("exp", None, expiry("missing")),
        ("exp", Some(json!("1800000300")), expiry("\"1800000300\"")),
        ("exp", Some(json!(null)), expiry("null")),
        ("exp", Some(json!(-1)), expiry("-1")),
        (
            "exp",
            Some(json!(1_800_000_300_000_u64)),
            expiry("1800000300000"),
        ),
        ("exp", Some(json!(1e300)), expiry("1e+300")),
        ("nbf", Some(json!("now")), not_before("\"now\"")),
        ("nbf", Some(json!(NOW + 31)), Why::NotYet),
        ("sub", Some(json!(true)), Why::User),
        ("sub", Some(json!(["c-7"])), Why::User),
        ("sub", Some(json!(1.5)), Why::User),
        ("sub", Some(json!(1e30)), Why::User),
    ] {
        let claims = claims_but(name, value);
        assert_eq!(verify(&claims), wrong(why), "{claims}");
    }
    for claims in [json!([]), json!("c-7"), json!(null)] {
        assert_eq!(verify(&claims), wrong(Why::Claims), "{claims}");
    }
}

#[test]
fn what_may_differ_may() {
    for (name, value) in [
        ("aud", json!(["other", "outboxd"])),
        ("nbf", json!(NOW)),
        ("nbf", json!(NOW + 30)),
        ("exp", json!(1_800_000_300.5)),
        ("exp", json!(253_402_300_799_u64)),
        ("iat", json!("yesterday")),
        ("jti", json!(7)),
        ("outboxd", json!("everything")),
    ] {
        let claims = claims_but(name, Some(value));
        assert!(verify(&claims).is_ok(), "{claims}");
    }
}

#[test]
fn a_user_is_a_text_or_a_whole_number_or_nobody() {
    let user = |value| verify(&claims_but("sub", value)).unwrap().rights.user;
    assert_eq!(user(Some(json!("c-7"))).as_deref(), Some("c-7"));
    assert_eq!(user(Some(json!(42))).as_deref(), Some("42"));
    assert_eq!(
        user(Some(json!(u64::MAX))).as_deref(),
        Some("18446744073709551615")
    );
    assert_eq!(user(Some(json!(-1))).as_deref(), Some("-1"));
    for nobody in [None, Some(json!(null)), Some(json!(""))] {
        let identity = verify(&claims_but("sub", nobody)).unwrap();
        assert_eq!(identity.rights.user, None);
        assert!(identity.rights.may_watch_type("create-order"));
    }
}

#[test]
fn user_and_grants_are_read_from_the_claims_that_the_configuration_names() {
    let (_directory, path) = file(SECRET.as_bytes());
    let mut auth = auth(&[Algorithm::HS256], Keys::Secret(Secret::File(path)));
    auth.user_claim = "customer".to_owned();
    auth.grants_claim = "https://shop.example/grants".to_owned();
    let mut claims = claims();
    claims["customer"] = json!(7);
    claims["https://shop.example/grants"] = json!([{"saga_type": "*"}]);
    let token = OURS.token(Algorithm::HS256, &claims);
    let identity = Verifier::new(&auth)
        .unwrap()
        .verify(&token, at(NOW))
        .unwrap();
    assert_eq!(identity.rights.user.as_deref(), Some("7"));
    assert_eq!(identity.rights.types(), &Types::All);
}

#[test]
fn a_token_expires_when_its_leeway_is_over() {
    let verifier = verifier(&[Algorithm::EdDSA]);
    let token = OURS.token(Algorithm::EdDSA, &claims());
    let over = NOW + 300 + 30;
    let before = at(over) - Duration::from_nanos(1);
    let identity = verifier.verify(&token, before).unwrap();
    assert_eq!(identity.expires_at, at(NOW + 300));
    for after in [at(over), at(over + 1), at(over + 1_000_000_000)] {
        assert_eq!(verifier.verify(&token, after), Err(Refused::Expired));
    }
}

#[test]
fn an_expired_token_that_is_wrong_in_another_way_is_wrong() {
    let verifier = verifier(&[Algorithm::EdDSA]);
    let late = at(NOW + 1_000_000);
    let forged = THEIRS.token(Algorithm::EdDSA, &claims());
    assert_eq!(verifier.verify(&forged, late), wrong(Why::Signature));
    for (name, value) in [
        ("iss", json!("https://evil.example")),
        ("aud", json!("other")),
        ("sub", json!(true)),
        ("nbf", json!("now")),
        ("nbf", json!(NOW + 2_000_000)),
    ] {
        let claims = claims_but(name, Some(value));
        let token = OURS.token(Algorithm::EdDSA, &claims);
        let said = verifier.verify(&token, late);
        assert!(matches!(said, Err(Refused::Wrong(_))), "{claims} {said:?}");
    }
}

#[test]
fn a_token_at_the_limit_is_believed_and_one_beyond_it_is_not_decoded() {
    let verifier = verifier(&[Algorithm::HS256]);
    let of = |kid: usize, pad: usize| {
        let header = json!({"alg": "HS256", "kid": "k".repeat(kid)});
        let claims = claims_but("pad", Some(json!("p".repeat(pad))));
        token(&header, &claims, |message| {
            OURS.sign(Algorithm::HS256, message)
        })
    };
    let lengths = (0..4).flat_map(|kid| (5800..6100).map(move |pad| (kid, pad)));
    let mut tokens = lengths.map(|(kid, pad)| of(kid, pad));
    let most = tokens.find(|token| token.len() == TOKEN_BYTES_MAX).unwrap();
    assert!(verifier.verify(&most, at(NOW)).is_ok());
    assert_eq!(
        verifier.verify(&format!("{most}A"), at(NOW)),
        wrong(Why::TooLong)
    );
    assert_eq!(
        verifier.verify(&"e".repeat(10_000_000), at(NOW)),
        wrong(Why::TooLong)
    );
}

#[test]
fn what_is_no_token_is_refused() {
    let verifier = verifier(&[Algorithm::EdDSA]);
    let good = OURS.token(Algorithm::EdDSA, &claims());
    let json_form = json!({"payload": "e30", "signatures": []}).to_string();
    for text in [
        "",
        ".",
        "..",
        "...",
        "e30.e30",
        "e30.e30.",
        "Bearer",
        "ä.ö.ü",
        "\0.\0.\0",
        &json_form,
        &format!("{good}."),
        &format!("{good}="),
        &format!(".{good}"),
        &format!(" {good}"),
        &format!("{good}\n"),
        &format!("{good}.{good}"),
    ] {
        let said = verifier.verify(text, at(NOW));
        assert!(matches!(said, Err(Refused::Wrong(_))), "{text:?} {said:?}");
    }
}

#[test]
fn what_is_signed_is_believed_and_only_a_secret_signs() {
    for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
        let (_directory, path) = file(SECRET.as_bytes());
        let auth = auth(&[algorithm], Keys::Secret(Secret::File(path)));
        let token = sign(&auth, claims().as_object().unwrap().clone()).unwrap();
        let identity = Verifier::new(&auth).unwrap().verify(&token, at(NOW));
        assert_eq!(identity.unwrap().rights.user.as_deref(), Some("c-7"));
    }
    let (_directory, path) = file(OURS.pem(Algorithm::EdDSA).as_bytes());
    let refused = sign(&auth(&[Algorithm::EdDSA], Keys::Pem(path)), Map::new());
    assert!(matches!(refused, Err(AuthError::NoSecret)));
}

#[test]
fn a_verifier_does_not_show_its_keys() {
    let shown = format!("{:?}", verifier(&[Algorithm::HS256, Algorithm::HS384]));
    assert_eq!(shown, "Verifier(2 keys)");
}

fn any_claim() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(|it| json!(it)),
        any::<i64>().prop_map(|it| json!(it)),
        any::<u64>().prop_map(|it| json!(it)),
        any::<f64>().prop_map(|it| json!(it)),
        ".{0,8}".prop_map(|it| json!(it)),
        prop::collection::vec(".{0,4}", 0..3).prop_map(|it| json!(it)),
    ]
}

proptest! {
    #[test]
    fn whatever_is_shown_for_a_token_is_answered(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let text = String::from_utf8_lossy(&bytes);
        let said = verifier(&[Algorithm::HS256]).verify(&text, at(NOW));
        prop_assert!(matches!(said, Err(Refused::Wrong(_))));
    }

    #[test]
    fn whatever_stands_in_three_parts_is_answered(
        header in prop::collection::vec(any::<u8>(), 0..60),
        payload in prop::collection::vec(any::<u8>(), 0..60),
        signature in prop::collection::vec(any::<u8>(), 0..80),
    ) {
        let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let text = format!("{}.{}.{}", part(&header), part(&payload), part(&signature));
        let said = verifier(&[Algorithm::HS256]).verify(&text, at(NOW));
        prop_assert!(matches!(said, Err(Refused::Wrong(_))));
        // And with a header that gets as far as the signature.
        let header = br#"{"alg":"HS256"}"#;
        let text = format!("{}.{}.{}", part(header), part(&payload), part(&signature));
        let said = verifier(&[Algorithm::HS256]).verify(&text, at(NOW));
        prop_assert_eq!(said, wrong(Why::Signature));
    }

    /// Whatever the issuer signs is answered, and at any time.
    #[test]
    fn whatever_is_claimed_is_answered(
        name in prop::sample::select(vec!["iss", "aud", "sub", "exp", "nbf", "jti", "outboxd"]),
        claim in any_claim(),
        now in 0_u64..300_000_000_000,
    ) {
        let token = OURS.token(Algorithm::HS256, &claims_but(name, Some(claim)));
        let said = verifier(&[Algorithm::HS256]).verify(&token, at(now));
        if let Ok(identity) = said {
            prop_assert!(identity.expires_at + Duration::from_secs(30) > at(now));
        }
    }

    /// A character changed anywhere makes it wrong, never expired: nothing is learned from a forged token.
    #[test]
    fn a_changed_token_is_wrong(
        place in any::<prop::sample::Index>(),
        other in "[A-Za-z0-9_.=-]",
        late in any::<bool>(),
    ) {
        let token = OURS.token(Algorithm::HS256, &claims());
        let place = place.index(token.len());
        let mut changed = token.clone();
        changed.replace_range(place..=place, &other);
        prop_assume!(changed != token);
        let now = if late { NOW + 1_000_000 } else { NOW };
        let said = verifier(&[Algorithm::HS256]).verify(&changed, at(now));
        prop_assert!(matches!(said, Err(Refused::Wrong(_))), "{said:?}");
    }
}
