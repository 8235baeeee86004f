//! Which requests are under `/api/v1/`, however their path is spelt.
//!
//! Never: a spelling of an API path that is answered without a key. Whether such a spelling then
//! finds something is the router's business: its key was checked.

use std::borrow::Cow;

const API: &str = "/api/v1";

/// Whether a request for this path needs a key.
pub fn needs_key(path: &str) -> bool {
    // The plain spelling first: it is what nearly every request has.
    is_under_api(path) || (!is_plain(path) && is_under_api(&plain(path)))
}

fn is_under_api(path: &str) -> bool {
    path.strip_prefix(API)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whether a path has nothing that could be spelt in another way.
pub fn is_plain(path: &str) -> bool {
    let bytes = path.as_bytes();
    !bytes.iter().any(|c| matches!(c, b'%' | b'\\' | b';'))
        && !bytes.windows(2).any(|pair| pair == b"//")
        && !path.split('/').any(|part| part == "." || part == "..")
}

/// How often percent-encoding is undone. Each time costs a pass over the path, and a path can ask for thousands.
const DECODINGS_MAX: usize = 4;

/// The path that a lenient reader would understand: percent-encoding undone, doubled and backward slashes made one, dot
/// segments followed, path parameters dropped.
fn plain(path: &str) -> String {
    let mut decoded: Cow<'_, str> = Cow::Borrowed(path);
    for _ in 0..DECODINGS_MAX {
        match decode(&decoded) {
            Cow::Owned(once) => decoded = Cow::Owned(once),
            Cow::Borrowed(_) => break,
        }
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in decoded.split(['/', '\\']) {
        match part.split(';').next().unwrap_or_default() {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// Borrowed if there was nothing to decode. Each decoding is shorter than what it was made from.
fn decode(text: &str) -> Cow<'_, str> {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let pair = bytes
            .get(at + 1..at + 3)
            .and_then(|hex| std::str::from_utf8(hex).ok());
        match pair.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) if bytes[at] == b'%' => {
                decoded.push(byte);
                at += 3;
            }
            _ => {
                decoded.push(bytes[at]);
                at += 1;
            }
        }
    }
    if decoded.len() == bytes.len() {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(String::from_utf8_lossy(&decoded).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_spelling_of_an_api_path_needs_a_key() {
        for path in [
            "/api/v1",
            "/api/v1/",
            "/api/v1/inventory",
            "/api/v1/inventory/3ALHCYFE3LDLM8435",
            "/api/v1/nothing/here",
            "/api/v1/../../healthz",
            "/healthz/../api/v1/key",
            "/./api/v1/key",
            "//api/v1/key",
            "/api//v1/key",
            "/api/v1//key",
            "/%61pi/v1/key",
            "/api%2Fv1/key",
            "/api%2fv1%2fkey",
            "/%2e%2e/api/v1/key",
            "/a/%2e%2e/api/v1",
            "/%2561pi/v1/key",
            "/%252561pi/v1/key",
            "/api\\v1\\key",
            "/api;x=1/v1/key",
            "/api/v1;x/key",
            "/api/./v1/key",
        ] {
            assert!(needs_key(path), "{path}");
        }
        for path in [
            "/",
            "",
            "/healthz",
            "/api",
            "/api/",
            "/api/v2/key",
            "/api/v10/key",
            "/api/v1x",
            "/API/V1/key",
            "/x/api/v1",
            "*",
            "/%",
            "/%zz",
            "/%e2%28",
        ] {
            assert!(!needs_key(path), "{path}");
        }
    }

    proptest! {
        #[test]
        fn no_path_panics(path in "[/.%a-z0-9;\\\\]{0,60}") {
            let _ = needs_key(&path);
        }

        #[test]
        fn encoding_any_character_does_not_lose_the_need(at in 1usize..11) {
            let path = "/api/v1/key";
            let c = path.as_bytes()[at.min(path.len() - 1)];
            let mut spelt = path.to_owned();
            spelt.replace_range(at.min(10)..=at.min(10), &format!("%{c:02x}"));
            prop_assert!(needs_key(&spelt), "{}", spelt);
        }
    }
}
