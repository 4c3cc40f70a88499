//! Key sets: which of their keys are used, and for what.

use super::super::jwks::{SetFault, read};
use super::*;

pub(super) fn b64(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The key of an issuer for an algorithm, as it stands in a set.
pub(super) fn jwk(pairs: &Pairs, algorithm: Algorithm, id: &str) -> Value {
    let point = |pair: &EcdsaKeyPair, curve: &str, bytes: usize| {
        let point = pair.public_key().as_ref();
        json!({"kty": "EC", "crv": curve, "kid": id,
            "x": b64(&point[1..=bytes]), "y": b64(&point[1 + bytes..])})
    };
    #[allow(clippy::wildcard_enum_match_arm, reason = "six algorithms share a key")]
    match algorithm {
        Algorithm::EdDSA => json!({"kty": "OKP", "crv": "Ed25519", "kid": id,
            "x": b64(pairs.ed.public_key().as_ref())}),
        Algorithm::ES256 => point(&pairs.p256, "P-256", 32),
        Algorithm::ES384 => point(&pairs.p384, "P-384", 48),
        _ => {
            // Of 2048 bits, after RFC 8017: a list of two numbers, the first one with a sign.
            let der = pairs.rsa.public_key().as_ref();
            let (n, e) = (&der[9..265], &der[267..]);
            json!({"kty": "RSA", "kid": id, "n": b64(n), "e": b64(e)})
        }
    }
}

/// With further fields, or others.
fn with(mut jwk: Value, fields: Value) -> Value {
    let object = jwk.as_object_mut().unwrap();
    object.extend(fields.as_object().unwrap().clone());
    jwk
}

pub(super) fn set(keys: &[Value]) -> String {
    json!({ "keys": keys }).to_string()
}

fn count(algorithms: &[Algorithm], keys: &[Value]) -> usize {
    read(set(keys).as_bytes(), algorithms).unwrap().len()
}

const PUBLIC: [Algorithm; 9] = [
    Algorithm::EdDSA,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
];

/// Whether a token that is signed so, and names this key, is believed by a set.
fn judged(keys: &[Value], algorithm: Algorithm, id: Option<&str>, by: &Pairs) -> Result<(), Why> {
    let keys = read(set(keys).as_bytes(), &PUBLIC).unwrap();
    let message = b"a message";
    let signature = by.sign(algorithm, message);
    let signed = Signed {
        algorithm,
        key_id: id,
        message,
        signature: &signature,
    };
    signed.by_named(&keys)
}

#[test]
fn each_type_of_key_checks_what_it_signed() {
    for algorithm in PUBLIC {
        let keys = [jwk(&OURS, algorithm, "k1")];
        assert_eq!(
            judged(&keys, algorithm, Some("k1"), &OURS),
            Ok(()),
            "{algorithm:?}"
        );
        assert_eq!(
            judged(&keys, algorithm, Some("k1"), &THEIRS),
            Err(Why::Signature)
        );
        assert_eq!(count(&[algorithm], &keys), 1);
    }
}

#[test]
fn a_token_names_its_key() {
    let ours = jwk(&OURS, Algorithm::EdDSA, "k1");
    let theirs = jwk(&THEIRS, Algorithm::EdDSA, "k2");
    let ed = Algorithm::EdDSA;
    let both = [theirs.clone(), ours.clone()];
    assert_eq!(judged(&both, ed, Some("k1"), &OURS), Ok(()));
    // The other key is not even tried.
    assert_eq!(judged(&both, ed, Some("k2"), &OURS), Err(Why::Signature));
    assert_eq!(judged(&both, ed, Some("k3"), &OURS), Err(Why::UnknownKey));
    assert_eq!(judged(&both, ed, None, &OURS), Ok(()));
    assert_eq!(
        judged(&both, Algorithm::ES256, Some("k1"), &OURS),
        Err(Why::NoKey(Algorithm::ES256))
    );
    // Several of one name, and one without a name.
    let same = with(theirs, json!({"kid": "k1"}));
    assert_eq!(
        judged(&[same.clone(), ours.clone()], ed, Some("k1"), &OURS),
        Ok(())
    );
    let nameless = with(ours, json!({"kid": null}));
    assert_eq!(
        judged(&[same.clone(), nameless.clone()], ed, Some("k9"), &OURS),
        Ok(())
    );
    assert_eq!(
        judged(&[same, nameless], ed, Some("k9"), &Pairs::new()),
        Err(Why::UnknownKey)
    );
}

#[test]
fn a_key_is_for_what_it_says_alone() {
    let rsa = jwk(&OURS, Algorithm::RS256, "k1");
    assert_eq!(count(&PUBLIC, std::slice::from_ref(&rsa)), 6);
    let bound = [with(
        rsa.clone(),
        json!({"alg": "RS256", "use": "sig", "key_ops": ["verify"]}),
    )];
    assert_eq!(count(&PUBLIC, &bound), 1);
    assert_eq!(judged(&bound, Algorithm::RS256, Some("k1"), &OURS), Ok(()));
    assert_eq!(
        judged(&bound, Algorithm::PS256, Some("k1"), &OURS),
        Err(Why::NoKey(Algorithm::PS256))
    );
    let p256 = jwk(&OURS, Algorithm::ES256, "k1");
    for unfit in [
        with(rsa.clone(), json!({"use": "enc"})),
        with(rsa.clone(), json!({"key_ops": ["sign"]})),
        with(rsa.clone(), json!({"alg": "HS256"})),
        with(rsa.clone(), json!({"alg": "RSA-OAEP"})),
        with(rsa.clone(), json!({"kid": 7})),
        with(rsa.clone(), json!({"n": b64(&[0xff; 255])})),
        with(rsa.clone(), json!({"n": b64(&[0xff; 1025])})),
        with(rsa.clone(), json!({"n": "!"})),
        with(rsa.clone(), json!({"e": ""})),
        with(p256.clone(), json!({"crv": "P-384"})),
        with(p256.clone(), json!({"crv": "secp256k1"})),
        with(p256.clone(), json!({"x": b64(&[1; 32])})),
        with(p256.clone(), json!({"y": b64(&[1; 33])})),
        with(p256, json!({"kty": "RSA"})),
        with(
            jwk(&OURS, Algorithm::EdDSA, "k1"),
            json!({"x": b64(&[1; 31])}),
        ),
        with(jwk(&OURS, Algorithm::EdDSA, "k1"), json!({"crv": "X25519"})),
        json!({"kty": "oct", "kid": "k1", "k": b64(SECRET.as_bytes())}),
        json!({"kid": "k1"}),
        json!("k1"),
    ] {
        assert_eq!(count(&ALL, &[unfit.clone(), rsa.clone()]), 6, "{unfit}");
    }
    // What is not configured is not used.
    assert_eq!(count(&[Algorithm::EdDSA], std::slice::from_ref(&rsa)), 0);
    // A sign that some issuers write.
    let n = URL_SAFE_NO_PAD.decode(rsa["n"].as_str().unwrap()).unwrap();
    let signed = with(rsa, json!({"n": b64(&[&[0], n.as_slice()].concat())}));
    assert_eq!(judged(&[signed], Algorithm::RS256, None, &OURS), Ok(()));
}

#[test]
fn a_set_is_a_list_of_at_most_64_keys() {
    let key = jwk(&OURS, Algorithm::EdDSA, "k1");
    assert_eq!(count(&PUBLIC, &vec![key.clone(); 64]), 64);
    let too_many = read(set(&vec![key; 65]).as_bytes(), &PUBLIC).err();
    assert_eq!(too_many, Some(SetFault::TooMany));
    for other in ["", "[]", "{}", "<html>", r#"{"keys":{}}"#] {
        assert_eq!(
            read(other.as_bytes(), &PUBLIC).err(),
            Some(SetFault::Form),
            "{other}"
        );
    }
    assert_eq!(count(&PUBLIC, &[]), 0);
}
