//! By which names a page may be asked for.
//!
//! A name that somebody else points at this server would make a page here one of theirs: what a browser then knows of it, it
//! keeps under that name. Calls of the API prove themselves by their key and are answered under any name. The operator's pages
//! have neither a key nor a sign-in, only an address that nobody else reaches; but a browser on the operator's machine does, for
//! a page whose name leads there. So they are asked for by address, which is no name that somebody could point anywhere.
//!
//! Never: a name believed because the request says it, once the operator has said which names are ours; an operator's page under
//! any name but the machine's own.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use axum::{
    body::Body,
    http::{HeaderValue, Request, header},
};

use crate::config::PublicUrl;

/// Names under which the machine itself asks, with any port.
const LOOPBACK: [&str; 3] = ["127.0.0.1", "[::1]", "localhost"];

/// Whether a path is answered under any name: the API's and those of health checks, which come by address.
pub(super) fn any_will_do(path: &str) -> bool {
    path == "/api"
        || path.starts_with("/api/")
        || matches!(path, "/healthz" | "/readyz" | "/metrics")
}

/// The name that a request asks for: of its target if that is a whole address (which goes before, RFC 9112 section 3.2.2),
/// else of its one `Host` header. Two of them name nobody.
pub(super) fn asked_for(request: &Request<Body>) -> Option<&str> {
    if let Some(authority) = request.uri().authority() {
        return Some(authority.as_str());
    }
    let mut hosts = request.headers().get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(host), None) => HeaderValue::to_str(host).ok(),
        _ => None,
    }
}

/// Whether a name is ours: any is if the operator named none, else one of those named, or the machine's own.
pub(super) fn is_ours(host: Option<&str>, public: &[PublicUrl]) -> bool {
    if public.is_empty() {
        return true;
    }
    let Some(host) = host else {
        return false;
    };
    public.iter().any(|url| is_of(host, url)) || is_loopback(host)
}

/// Whether this is an IP address, or the machine's own name, with or without a port.
pub(super) fn is_address(host: Option<&str>) -> bool {
    let Some(host) = host else {
        return false;
    };
    let in_brackets = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    is_loopback(host)
        || host.parse::<SocketAddr>().is_ok()
        || match in_brackets {
            Some(host) => host.parse::<Ipv6Addr>().is_ok(),
            None => host
                .parse::<IpAddr>()
                .is_ok_and(|address| address.is_ipv4()),
        }
}

fn is_of(host: &str, url: &PublicUrl) -> bool {
    let authority = url.authority();
    // On a boundary of characters, since the public one is plain ASCII.
    let Some((name, rest)) = host.split_at_checked(authority.len()) else {
        return false;
    };
    if !name.eq_ignore_ascii_case(authority) {
        return false;
    }
    match rest.strip_prefix(':') {
        None => rest.is_empty(),
        // A second port behind one is none of ours.
        Some(port) => url.port().is_none() && port == url.default_port().to_string(),
    }
}

fn is_loopback(host: &str) -> bool {
    LOOPBACK.iter().any(|name| {
        let Some((start, rest)) = host.split_at_checked(name.len()) else {
            return false;
        };
        start.eq_ignore_ascii_case(name)
            && match rest.strip_prefix(':') {
                None => rest.is_empty(),
                Some(port) => !port.is_empty() && port.bytes().all(|c| c.is_ascii_digit()),
            }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn public(urls: &[&str]) -> Vec<PublicUrl> {
        urls.iter().map(|url| url.parse().expect("a URL")).collect()
    }

    #[test]
    fn without_public_urls_every_name_is_ours() {
        for host in [Some("a.example"), Some(""), Some("§"), None] {
            assert!(is_ours(host, &[]), "{host:?}");
        }
    }

    #[test]
    fn with_them_only_those_and_the_machines_own_are() {
        let public = public(&[
            "https://TruckRadar.example",
            "http://trailerradar.example:8080",
            "http://[2001:db8::1]",
        ]);
        for host in [
            "truckradar.example",
            "TRUCKRADAR.Example",
            "truckradar.example:443",
            "trailerradar.example:8080",
            "[2001:DB8::1]",
            "[2001:db8::1]:80",
            "127.0.0.1",
            "127.0.0.1:8080",
            "[::1]:1",
            "[::1]",
            "LOCALHOST:65535",
            "localhost",
        ] {
            assert!(is_ours(Some(host), &public), "{host}");
        }
        for host in [
            "",
            ":443",
            "evil.example",
            "truckradar.example.evil.example",
            "truckradar.example.",
            "truckradar.example:80",
            "truckradar.example:4430",
            "truckradar.example:",
            "truckradar.example:443:443",
            "truckradar.example@evil.example",
            "evil@truckradar.example",
            "truckradar.exampl§",
            "trailerradar.example",
            "trailerradar.example:80",
            "trailerradar.example:8080:80",
            "trailerradar.example:80801",
            "www.truckradar.example",
            "localhost.evil.example",
            "localhost:",
            "localhost:8080.evil.example",
            "127.0.0.1.evil.example",
            "127.0.0.2",
            "::1",
            " truckradar.example",
        ] {
            assert!(!is_ours(Some(host), &public), "{host}");
        }
        assert!(!is_ours(None, &public));
    }

    #[test]
    fn an_address_is_told_from_a_name() {
        for host in [
            "127.0.0.1:9090",
            "127.0.0.1",
            "10.0.0.7:9090",
            "[::1]:9090",
            "[::1]",
            "[2001:db8::7]:9090",
            "localhost",
            "LOCALHOST:9090",
        ] {
            assert!(is_address(Some(host)), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "evil.example:9090",
            "127.0.0.1.evil.example",
            "127.1",
            "2130706433",
            "0x7f000001",
            "::1",
            "[::1",
            "[127.0.0.1]",
            "localhost.",
            "localhost.evil.example:9090",
            "10.0.0.7:",
            "10.0.0.7:99999",
            "10.0.0.7@evil.example",
        ] {
            assert!(!is_address(Some(host)), "{host}");
        }
        assert!(!is_address(None));
    }

    #[test]
    fn the_target_goes_before_the_header_and_two_headers_name_nobody() {
        let request = |target: &str, hosts: &[&str]| {
            let mut request = Request::builder().uri(target);
            for host in hosts {
                request = request.header(header::HOST, *host);
            }
            let request = request.body(Body::empty()).expect("a request");
            asked_for(&request).map(str::to_owned)
        };
        assert_eq!(request("/", &["a.example"]), Some("a.example".into()));
        assert_eq!(
            request("http://b.example/", &["a.example"]),
            Some("b.example".into())
        );
        assert_eq!(request("/", &[]), None);
        assert_eq!(request("/", &["a.example", "a.example"]), None);
    }

    #[test]
    fn the_api_and_health_checks_are_answered_under_any_name() {
        for path in [
            "/api",
            "/api/",
            "/api/v1/key",
            "/healthz",
            "/readyz",
            "/metrics",
        ] {
            assert!(any_will_do(path), "{path}");
        }
        for path in ["/", "/login", "/apis", "/healthz/", "*", ""] {
            assert!(!any_will_do(path), "{path}");
        }
    }
}
