//! GitHub's signature on what its secret scanning found: ECDSA on P-256 with SHA-256, over the body as it came.
//!
//! The form of the keys and of the signature is that of GitHub's secret scanning partner program.
//!
//! Never: a body looked at before its signature was found good; a key of another kind than the one that is expected.

use base64::{Engine, engine::general_purpose::STANDARD};
use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use serde::Deserialize;

/// Characters of a key's identifier at most; GitHub's have 64.
const IDENTIFIER_CHARS_MAX: usize = 128;
/// Characters of a signature at most: 72 bytes of DER in base 64.
const SIGNATURE_CHARS_MAX: usize = 96;
/// Keys that are read of what is published; GitHub publishes a few.
const KEYS_MAX: usize = 100;
/// The beginning of a public key on P-256 (RFC 5480 section 2): its kind, and that its point is not compressed. The two
/// coordinates follow.
const P256_PREFIX: [u8; 27] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00, 0x04,
];
/// Bytes of the point: the mark that it is not compressed, and two coordinates.
const POINT_BYTES: usize = 65;

/// What a request says of its signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// By which key.
    pub identifier: String,
    /// The signature in DER.
    signature: Vec<u8>,
}

/// One key that is published and current.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishedKey {
    identifier: String,
    point: [u8; POINT_BYTES],
}

/// What is published cannot be understood.
#[derive(Debug, thiserror::Error)]
#[error("what is published is not GitHub's list of public keys")]
pub struct NotKeys;

impl Signed {
    /// Reads the two headers; `None` if they cannot be what GitHub sends.
    pub fn read(identifier: &[u8], signature: &[u8]) -> Option<Self> {
        let plain = |c: &u8| c.is_ascii_alphanumeric() || b"-_.".contains(c);
        let is_name = (1..=IDENTIFIER_CHARS_MAX).contains(&identifier.len());
        if !is_name || !identifier.iter().all(plain) || signature.len() > SIGNATURE_CHARS_MAX {
            return None;
        }
        let signature = STANDARD.decode(signature).ok()?;
        Some(Self {
            identifier: std::str::from_utf8(identifier).ok()?.to_owned(),
            signature,
        })
    }

    /// Whether one of these keys, the one that is named, signed this body.
    pub fn is_good(&self, keys: &[PublishedKey], body: &[u8]) -> bool {
        let Some(key) = keys.iter().find(|key| key.identifier == self.identifier) else {
            return false;
        };
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &key.point);
        key.verify(body, &self.signature).is_ok()
    }
}

impl PublishedKey {
    /// Whether it is the one of this name.
    pub fn is(&self, identifier: &str) -> bool {
        self.identifier == identifier
    }
}

/// Reads what is published. Keys that are not current are left out, and so is what is no key on P-256.
pub fn published(json: &[u8]) -> Result<Vec<PublishedKey>, NotKeys> {
    #[derive(Deserialize)]
    struct Published {
        public_keys: Vec<One>,
    }
    #[derive(Deserialize)]
    struct One {
        key_identifier: String,
        key: String,
        is_current: bool,
    }
    let read: Published = serde_json::from_slice(json).map_err(|_| NotKeys)?;
    let current = read.public_keys.into_iter().take(KEYS_MAX);
    let keys = current.filter(|key| key.is_current).filter_map(|key| {
        Some(PublishedKey {
            point: point_of(&key.key)?,
            identifier: key.key_identifier,
        })
    });
    Ok(keys.collect())
}

/// The point of a public key in PEM form, if it is one on P-256.
fn point_of(pem: &str) -> Option<[u8; POINT_BYTES]> {
    let inside = pem.trim().strip_prefix("-----BEGIN PUBLIC KEY-----")?;
    let inside = inside.strip_suffix("-----END PUBLIC KEY-----")?;
    let base64: String = inside.split_whitespace().collect();
    let der = STANDARD.decode(base64).ok()?;
    let coordinates = der.strip_prefix(&P256_PREFIX)?;
    let mut point = [0x04; POINT_BYTES];
    if coordinates.len() != POINT_BYTES - 1 {
        return None;
    }
    point[1..].copy_from_slice(coordinates);
    Some(point)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use ring::{
        rand::SystemRandom,
        signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair},
    };
    use serde_json::json;

    use super::*;

    /// The examples that GitHub's documentation of the program has had: identifier, key, signature, body.
    const EXAMPLES: [[&str; 4]; 2] = [
        [
            "bcb53661c06b4728e59d897fb6165d5c9cda0fd9cdf9d09ead458168deb7518c",
            "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEYAGMWO8XgCamYKMJS6jc/qgvSlAd\nAjPuDPRcXU22YxgBrz+zoN19MzuRyW87qEt9/AmtoNP5GrobzUvQSyJFVw==\n-----END PUBLIC KEY-----\n",
            "MEQCIQDaMKqrGnE27S0kgMrEK0eYBmyG0LeZismAEz/BgZyt7AIfXt9fErtRS4XaeSt/AO1RtBY66YcAdjxji410VQV4xg==",
            r#"[{"source":"commit","token":"some_token","type":"some_type","url":"https://example.com/base-repo-url/"}]"#,
        ],
        [
            "f9525bf080f75b3506ca1ead061add62b8633a346606dc5fe544e29231c6ee0d",
            "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEsz9ugWDj5jK5ELBK42ynytbo38gP\nHzZFI03Exwz8Lh/tCfL3YxwMdLjB+bMznsanlhK0RwcGP3IDb34kQDIo3Q==\n-----END PUBLIC KEY-----",
            "MEUCIFLZzeK++IhS+y276SRk2Pe5LfDrfvTXu6iwKKcFGCrvAiEAhHN2kDOhy2I6eGkOFmxNkOJ+L2y8oQ9A2T9GGJo6WJY=",
            r#"[{"token":"some_token","type":"some_type","url":"some_url","source":"some_source"}]"#,
        ],
    ];

    fn keys(identifier: &str, pem: &str, is_current: bool) -> Vec<PublishedKey> {
        let list = json!({"public_keys": [
            {"key_identifier": identifier, "key": pem, "is_current": is_current},
        ]});
        published(list.to_string().as_bytes()).expect("a list")
    }

    #[test]
    fn githubs_published_examples_are_good_and_anything_else_is_not() {
        for [identifier, pem, signature, body] in EXAMPLES {
            let keys_now = keys(identifier, pem, true);
            assert_eq!(keys_now.len(), 1);
            let read = |signature: &str| Signed::read(identifier.as_bytes(), signature.as_bytes());
            let signed = read(signature).expect("read");
            assert!(signed.is_good(&keys_now, body.as_bytes()));
            // As GitHub sent it, and not as JSON that means the same.
            assert!(!signed.is_good(&keys_now, format!("{body} ").as_bytes()));
            assert!(
                !signed.is_good(&keys_now, body.replace("commit", "Commit").as_bytes())
                    || !body.contains("commit")
            );
            assert!(!signed.is_good(&[], body.as_bytes()));
            assert_eq!(
                keys(identifier, pem, false),
                [],
                "a key that is not current is none"
            );
            for [other, pem, ..] in EXAMPLES.iter().filter(|other| other[0] != identifier) {
                // The other's key under this name, and this name not among them.
                assert!(!signed.is_good(&keys(identifier, pem, true), body.as_bytes()));
                assert!(!signed.is_good(&keys(other, pem, true), body.as_bytes()));
            }
        }
    }

    #[test]
    fn a_key_pair_of_our_own_signs_what_is_good() {
        let random = SystemRandom::new();
        let pair = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random);
        let pair = pair.expect("made");
        let pair =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pair.as_ref(), &random);
        let pair = pair.expect("a key pair");
        let der = [&P256_PREFIX[..26], pair.public_key().as_ref()].concat();
        let pem = format!(
            "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
            STANDARD.encode(der)
        );
        let body = b"[]";
        let signature = STANDARD.encode(pair.sign(&random, body).expect("signs"));
        let signed = Signed::read(b"k", signature.as_bytes()).expect("read");
        assert!(signed.is_good(&keys("k", &pem, true), body));
        assert!(!signed.is_good(&keys("k", &pem, true), b"[ ]"));
    }

    #[test]
    fn what_is_no_key_on_p256_is_left_out_and_what_is_no_list_refused() {
        let [identifier, pem, ..] = EXAMPLES[0];
        for bad in [
            String::new(),
            pem.replace("PUBLIC", "PRIVATE"),
            pem.replace("MFkw", "MFkx"),
            pem.replace("w==", "w"),
            "-----BEGIN PUBLIC KEY----------END PUBLIC KEY-----".to_owned(),
        ] {
            if bad != pem {
                assert_eq!(keys(identifier, &bad, true), [], "{bad}");
            }
        }
        for bad in [
            "",
            "[]",
            "{}",
            "{\"public_keys\":{}}",
            "{\"public_keys\":[{}]}",
        ] {
            assert!(published(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn headers_that_cannot_be_githubs_are_not_read() {
        let good = EXAMPLES[0][2];
        assert!(Signed::read(b"k", good.as_bytes()).is_some());
        let long = "k".repeat(IDENTIFIER_CHARS_MAX + 1);
        for (identifier, signature) in [
            ("", good),
            (&*long, good),
            ("a b", good),
            ("a\"b", good),
            ("k", "not base 64"),
            ("k", &good.repeat(2)),
        ] {
            let read = Signed::read(identifier.as_bytes(), signature.as_bytes());
            assert_eq!(read, None, "{identifier} {signature}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic_and_none_are_good(
            identifier in proptest::collection::vec(any::<u8>(), 0..40),
            signature in proptest::collection::vec(any::<u8>(), 0..100),
            body in proptest::collection::vec(any::<u8>(), 0..100),
        ) {
            let _ = published(&body);
            let [name, pem, ..] = EXAMPLES[0];
            let all = keys(name, pem, true);
            let base64 = STANDARD.encode(&signature[..signature.len().min(72)]);
            prop_assert!(Signed::read(&identifier, &signature).is_none_or(|signed| !signed.is_good(&all, &body)));
            let signed = Signed::read(name.as_bytes(), base64.as_bytes());
            prop_assert!(signed.is_none_or(|signed| !signed.is_good(&all, &body)));
        }
    }
}
