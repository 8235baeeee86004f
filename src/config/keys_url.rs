//! Where GitHub publishes the keys by which it signs what its secret scanning found.
//!
//! Never: an address in the clear across a network: whoever answers in GitHub's place can have keys killed.

use std::{fmt, str::FromStr};

use url::{Host, Url};

/// The address, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeysUrl(Url);

/// What is wrong with an address.
#[derive(Debug, thiserror::Error)]
pub enum BadKeysUrl {
    /// Not an address at all, or one with a name and password in it.
    #[error("not an address: give https://HOST/PATH")]
    NotAnAddress,
    /// In the clear across a network.
    #[error(
        "give https://: whoever could answer in GitHub's place could have keys killed. http:// only to 127.0.0.1, [::1] or localhost"
    )]
    InTheClear,
}

impl KeysUrl {
    /// As a client asks for it.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl Default for KeysUrl {
    /// GitHub's own.
    fn default() -> Self {
        const GITHUB: &str = "https://api.github.com/meta/public_keys/secret_scanning";
        match Url::parse(GITHUB) {
            Ok(url) => Self(url),
            Err(error) => unreachable!("a constant is no address: {error}"),
        }
    }
}

impl fmt::Display for KeysUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for KeysUrl {
    type Err = BadKeysUrl;

    fn from_str(text: &str) -> Result<Self, BadKeysUrl> {
        let url = Url::parse(text).map_err(|_| BadKeysUrl::NotAnAddress)?;
        let is_here = match url.host() {
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            Some(Host::Domain(name)) => name == "localhost",
            None => return Err(BadKeysUrl::NotAnAddress),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(BadKeysUrl::NotAnAddress);
        }
        match url.scheme() {
            "https" => Ok(Self(url)),
            "http" if is_here => Ok(Self(url)),
            "http" => Err(BadKeysUrl::InTheClear),
            _ => Err(BadKeysUrl::NotAnAddress),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_by_tls_or_from_this_machine() {
        for good in [
            "https://api.github.com/meta/public_keys/secret_scanning",
            "https://mirror.internal:8443/keys?x=1",
            "http://127.0.0.1:8000/keys",
            "http://[::1]/keys",
            "http://localhost:1/",
        ] {
            assert_eq!(good.parse::<KeysUrl>().expect(good).as_str(), good);
        }
        for bad in [
            "",
            "api.github.com",
            "ftp://a.example/",
            "file:///etc/passwd",
            "http://api.github.com/keys",
            "http://10.0.0.1/keys",
            "http://localhost.evil.example/",
            "http://127.0.0.1.evil.example/",
            "https://u:p@a.example/",
            "https://",
        ] {
            assert!(bad.parse::<KeysUrl>().is_err(), "{bad}");
        }
        let default = KeysUrl::default().to_string();
        assert_eq!(default.parse::<KeysUrl>().ok(), Some(KeysUrl::default()));
    }
}
