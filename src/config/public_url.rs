//! The addresses by which the world reaches the server, read once.
//!
//! Never: an address spelt otherwise than browsers spell it; it would be compared in vain.

use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

/// An address by which the world reaches this server: a scheme and a host, with a port if it is not the scheme's own,
/// spelt as browsers spell it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicUrl {
    origin: String,
    is_https: bool,
    port: Option<u16>,
}

/// Why a text is no public address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPublicUrl {
    /// Another scheme, or none.
    #[error("must begin with https:// or http://")]
    Scheme,
    /// A path, a user, or a host that is none.
    #[error(
        "must be a scheme and a host, such as https://truckradar.example; a name in other letters as browsers send it (xn--…)"
    )]
    Host,
}

impl PublicUrl {
    /// As browsers send it in `Origin`: `https://truckradar.example`, `http://truckradar.example:8080`.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// As browsers send it in `Host`: `truckradar.example`, `truckradar.example:8080`.
    pub fn authority(&self) -> &str {
        let scheme = if self.is_https { "https://" } else { "http://" };
        self.origin.strip_prefix(scheme).unwrap_or_default()
    }

    /// Whether browsers reach it over TLS, whoever ends that.
    pub fn is_https(&self) -> bool {
        self.is_https
    }

    /// Its port, if that is not the scheme's own.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// The port that browsers leave out.
    pub fn default_port(&self) -> u16 {
        if self.is_https { 443 } else { 80 }
    }
}

impl fmt::Display for PublicUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.origin)
    }
}

impl FromStr for PublicUrl {
    type Err = BadPublicUrl;

    fn from_str(text: &str) -> Result<Self, BadPublicUrl> {
        let text = text.to_ascii_lowercase();
        let (is_https, rest) = match text.split_once("://") {
            Some(("https", rest)) => (true, rest),
            Some(("http", rest)) => (false, rest),
            _ => return Err(BadPublicUrl::Scheme),
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = match authority.rsplit_once(':') {
            // The last colon of an IPv6 address without a port is inside its brackets.
            Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
            _ => (authority, None),
        };
        let host = spelt_by_browsers(host).ok_or(BadPublicUrl::Host)?;
        let mut url = Self {
            origin: String::new(),
            is_https,
            port: None,
        };
        let port = port.map(port_number).transpose()?;
        url.port = port.filter(|port| *port != url.default_port());
        let scheme = if is_https { "https" } else { "http" };
        url.origin = match url.port {
            Some(port) => format!("{scheme}://{host}:{port}"),
            None => format!("{scheme}://{host}"),
        };
        Ok(url)
    }
}

fn port_number(text: &str) -> Result<u16, BadPublicUrl> {
    match text.parse() {
        // `parse` takes a sign, too.
        Ok(port) if port > 0 && text.bytes().all(|c| c.is_ascii_digit()) => Ok(port),
        _ => Err(BadPublicUrl::Host),
    }
}

/// A host in lower case as it stands in a browser's address; nothing if it is none.
fn spelt_by_browsers(host: &str) -> Option<String> {
    if let Some(inside) = host.strip_prefix('[') {
        let address: Ipv6Addr = inside.strip_suffix(']')?.parse().ok()?;
        return Some(format!("[{address}]"));
    }
    let label = |label: &str| {
        !label.is_empty()
            && label
                .bytes()
                .all(|c| c.is_ascii_alphanumeric() || c == b'-' || c == b'_')
    };
    if host.len() > 253 || !host.split('.').all(label) {
        return None;
    }
    // Browsers take whatever ends in a number for an address, and spell it in their own way.
    let last = host.rsplit('.').next()?;
    let is_number = last.bytes().all(|c| c.is_ascii_digit()) || last.starts_with("0x");
    if is_number && host.parse::<Ipv4Addr>().is_err() {
        return None;
    }
    Some(host.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_address_is_a_scheme_and_a_host() {
        for (text, origin, authority) in [
            ("https://a.example/", "https://a.example", "a.example"),
            ("HTTPS://A.Example:443", "https://a.example", "a.example"),
            (
                "https://a.example:80",
                "https://a.example:80",
                "a.example:80",
            ),
            ("http://a.example:80/", "http://a.example", "a.example"),
            (
                "http://localhost:8080",
                "http://localhost:8080",
                "localhost:8080",
            ),
            (
                "https://[2001:DB8:0::1]:8443",
                "https://[2001:db8::1]:8443",
                "[2001:db8::1]:8443",
            ),
            ("http://[::1]", "http://[::1]", "[::1]"),
            ("http://192.0.2.1", "http://192.0.2.1", "192.0.2.1"),
        ] {
            let url: PublicUrl = text.parse().expect(text);
            assert_eq!((url.origin(), url.authority()), (origin, authority));
            assert_eq!(url.is_https(), origin.starts_with("https"));
        }
        for bad in [
            "a.example",
            "//a.example",
            "ftp://a",
            "https://",
            "https://a/b",
            "https://a//",
            "https://a?b",
            "https://a#b",
            "https://u@a",
            "https://u:p@a",
            "https://a b",
            "https://.a",
            "https://a.",
            "https://ä.example",
            "https://a:",
            "https://a:0",
            "https://a:+1",
            "https://a:65536",
            "https://a:b",
            "https://[::1",
            "https://[a]",
            "https://::1",
            "https://127.1",
            "https://0x7f.0x1",
        ] {
            assert!(bad.parse::<PublicUrl>().is_err(), "{bad}");
        }
    }
}
