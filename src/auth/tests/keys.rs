//! Keys that will do, and those that will not.

use std::path::Path;

use super::*;

/// The Ed25519 signature of RFC 8037, appendix A.4, and the ES256 token of RFC 7515, appendix A.3: not made by us.
#[test]
fn the_signatures_of_the_standards_are_right() {
    let ed = "302a300506032b6570032100";
    let p256 = "3059301306072a8648ce3d020106082a8648ce3d03010703420004";
    for (algorithm, prefix, key, token, beyond_the_signature) in [
        (
            Algorithm::EdDSA,
            ed,
            vec!["11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"],
            "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.\
             hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg",
            Why::Claims,
        ),
        (
            Algorithm::ES256,
            p256,
            vec![
                "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
                "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
            ],
            "eyJhbGciOiJFUzI1NiJ9.\
             eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.\
             DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
            Why::Issuer {
                found: "\"joe\"".to_owned(),
            },
        ),
    ] {
        let octets = prefix.as_bytes().chunks(2).map(str::from_utf8);
        let mut der: Vec<u8> = octets
            .map(|octet| u8::from_str_radix(octet.unwrap(), 16).unwrap())
            .collect();
        for part in key {
            der.extend(URL_SAFE_NO_PAD.decode(part).unwrap());
        }
        let verifier = with_pem(&[algorithm], &pem("PUBLIC KEY", &der)).unwrap();
        assert_eq!(verifier.verify(token, at(NOW)), wrong(beyond_the_signature));
        let changed = token
            .replacen(".RX", ".RY", 1)
            .replacen(".eyJp", ".eyJq", 1);
        assert_eq!(verifier.verify(&changed, at(NOW)), wrong(Why::Signature));
    }
}

fn fault(algorithms: &[Algorithm], pem: &str) -> PemFault {
    match with_pem(algorithms, pem) {
        Err(AuthError::Pem { fault, .. }) => fault,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_pem_file_that_will_not_do_is_told() {
    let ed = OURS.pem(Algorithm::EdDSA);
    let just = |pem: &str| fault(&[Algorithm::EdDSA], pem);
    assert_eq!(just(""), PemFault::None);
    assert_eq!(just("no key at all\n"), PemFault::None);
    assert_eq!(just(&ed.replace("-----END", "-----")), PemFault::Malformed);
    assert_eq!(just(&pem("PRIVATE KEY", b"x")), PemFault::Private);
    assert_eq!(
        just(&format!("{ed}{}", pem("EC PRIVATE KEY", b"x"))),
        PemFault::Private
    );
    assert_eq!(just(&pem("RSA PRIVATE KEY", b"x")), PemFault::Private);
    assert_eq!(just(&pem("CERTIFICATE", b"x")), PemFault::Certificate);
    assert_eq!(
        just(&pem("PUBLIC KEY", b"x")),
        PemFault::Unfit { number: 1 }
    );
    let two = format!("{ed}{}", OURS.pem(Algorithm::ES256));
    assert_eq!(just(&two), PemFault::Unfit { number: 2 });
    assert_eq!(just(&" ".repeat((64 << 10) + 1)), PemFault::TooLarge);
    assert_eq!(just(&ed.repeat(17)), PemFault::TooMany);
    assert!(with_pem(&[Algorithm::EdDSA], &ed.repeat(16)).is_ok());
    // A curve is bound to its algorithm.
    let p384 = OURS.pem(Algorithm::ES384);
    assert_eq!(
        fault(&[Algorithm::ES256], &p384),
        PemFault::Unfit { number: 1 }
    );
    let missing = Path::new("/nowhere/keys.pem").to_owned();
    let error = Verifier::new(&auth(&[Algorithm::EdDSA], Keys::Pem(missing))).unwrap_err();
    let said = error.to_string();
    assert!(
        said.contains("push.auth.keys: cannot read /nowhere/keys.pem"),
        "{said}"
    );
}

/// An RSA key of 1024 bits, made with openssl.
const WEAK: &str = "-----BEGIN PUBLIC KEY-----\n\
MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDIJ+C4iPywRTDkO1PC6GVp5+Bd\n\
qxI2CSaU7IpiBYJZ73var5h1/Hr9yVsQr+6L0AbtKKRxPITH+EYHFx7B1EkhEbc4\n\
YegzmhQIAOgM6E/hslLVXmDWINyMWltZvnM1BdIvEtBda7AplkOeE33aXNfx+JVJ\n\
3jGlnIfzhFbqkfUXZwIDAQAB\n\
-----END PUBLIC KEY-----\n";

#[test]
fn an_rsa_key_that_is_too_short_is_refused_at_the_start() {
    let said = fault(&[Algorithm::RS256, Algorithm::PS256], WEAK);
    assert_eq!(said, PemFault::Weak { number: 1 });
}

#[test]
fn a_secret_is_as_long_as_the_hash() {
    for (algorithms, needed) in [
        (&[Algorithm::HS256][..], 32),
        (&[Algorithm::HS384], 48),
        (&[Algorithm::HS256, Algorithm::HS512], 64),
    ] {
        let enough = "x".repeat(needed);
        assert!(with_secret(algorithms, &enough).is_ok());
        // The newline at the end of a file does not make it longer.
        let short = format!("{}\n", "x".repeat(needed - 1));
        let error = with_secret(algorithms, &short).unwrap_err();
        let AuthError::TooShort {
            bytes,
            needed: told,
        } = error
        else {
            panic!("{error:?}");
        };
        assert_eq!((bytes, told), (needed - 1, needed));
        let said = error.to_string();
        assert!(
            said.contains("push.auth.keys") && said.contains("openssl rand"),
            "{said}"
        );
        assert!(!said.contains("xx"), "{said}");
    }
}
