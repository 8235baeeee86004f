//! Which keys browsers send, by the `Origin` header that a browser adds to requests of a page's script: counted in memory,
//! written to the database with the counts of use.
//!
//! A program on a server sends no such header. One that does is a browser, or passes on what a browser sent; either way the
//! key may be where everybody can read it.
//!
//! Never: a database call on the request's path; a request refused or slowed for its Origin; memory that grows with the number
//! of origins that somebody makes up.

use std::sync::{Mutex, MutexGuard, PoisonError};

use hashbrown::HashMap;

use super::table::KeyRecord;
use crate::{
    clock::Time,
    db::{BrowserRow, Db, DbError},
    ids::{KeyId, SellerId},
};

/// Bytes of an origin at most: a scheme, a host name of 253, and a port. What is longer is none.
const ORIGIN_BYTES_MAX: usize = 8 + 253 + 6;
/// Keys with an origin that are held between two flushes; what is beyond is not counted.
const KEYS_MAX: usize = 1_000;
/// Origins of one key that are held between two flushes; what is beyond is counted together.
const ORIGINS_MAX: usize = 10;

/// What was seen of one origin.
struct Seen {
    origin: Box<str>,
    requests: i64,
    first: Time,
    last: Time,
}

/// What was seen with one key.
struct OfKey {
    seller: SellerId,
    seen: Vec<Seen>,
}

/// See the module.
#[derive(Default)]
pub struct Origins {
    held: Mutex<HashMap<KeyId, OfKey>>,
    /// Held while counts are on their way to the database.
    flushing: tokio::sync::Mutex<()>,
}

impl Origins {
    /// Notes the Origin header of a request whose key is good. What is no web page's origin (`null`, a browser extension's)
    /// is let be.
    pub fn note(&self, record: KeyRecord, header: &[u8], at: Time) {
        if let Some(origin) = web_origin(header) {
            let seen = Seen {
                origin,
                requests: 1,
                first: at,
                last: at,
            };
            self.add(&mut self.held(), record.key, record.seller, seen);
        }
    }

    fn add(&self, held: &mut HashMap<KeyId, OfKey>, key: KeyId, seller: SellerId, mut more: Seen) {
        if held.len() >= KEYS_MAX && !held.contains_key(&key) {
            return;
        }
        let of_key = held.entry(key).or_insert_with(|| OfKey {
            seller,
            seen: Vec::new(),
        });
        let known = of_key.seen.iter().any(|seen| seen.origin == more.origin);
        if !known && of_key.seen.len() >= ORIGINS_MAX {
            more.origin = "".into();
        }
        match of_key.seen.iter_mut().find(|s| s.origin == more.origin) {
            Some(seen) => {
                seen.requests += more.requests;
                seen.first = seen.first.min(more.first);
                seen.last = seen.last.max(more.last);
            }
            None => of_key.seen.push(more),
        }
    }

    /// Writes what was noted. What the database does not take is kept, to be written next time.
    pub async fn flush(&self, db: &Db) -> Result<(), DbError> {
        let _one_at_a_time = self.flushing.lock().await;
        let taken = std::mem::take(&mut *self.held());
        if taken.is_empty() {
            return Ok(());
        }
        let mut rows: Vec<BrowserRow> = Vec::new();
        for (key, OfKey { seller, seen }) in taken {
            rows.extend(seen.into_iter().map(|seen| BrowserRow {
                seller,
                key,
                origin: seen.origin,
                requests: seen.requests,
                first: seen.first,
                last: seen.last,
            }));
        }
        let written = db.add_browser_leaks(&rows).await;
        if written.is_err() {
            let mut held = self.held();
            for row in rows {
                let seen = Seen {
                    origin: row.origin,
                    requests: row.requests,
                    first: row.first,
                    last: row.last,
                };
                self.add(&mut held, row.key, row.seller, seen);
            }
        }
        written
    }

    fn held(&self) -> MutexGuard<'_, HashMap<KeyId, OfKey>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A web page's origin (RFC 6454 section 6.1), in small letters. Only what can stand on a page and in a mail as it is: a
/// browser writes names in other scripts in ASCII (RFC 6454 section 6.2).
fn web_origin(header: &[u8]) -> Option<Box<str>> {
    if header.len() > ORIGIN_BYTES_MAX {
        return None;
    }
    let origin = std::str::from_utf8(header).ok()?.to_ascii_lowercase();
    let host = origin.strip_prefix("https://");
    let host = host.or_else(|| origin.strip_prefix("http://"))?;
    let plain = |c: u8| c.is_ascii_alphanumeric() || b".-_:[]".contains(&c);
    (!host.is_empty() && host.bytes().all(plain)).then(|| origin.into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::keys::table::Standing;

    fn record() -> KeyRecord {
        KeyRecord::of_seller(KeyId::new(), SellerId::new(), Standing::Live)
    }

    fn held(origins: &Origins) -> Vec<(String, i64, i64, i64)> {
        let held = origins.held();
        let seen = held.values().flat_map(|of_key| &of_key.seen);
        seen.map(|s| (s.origin.to_string(), s.requests, s.first.0, s.last.0))
            .collect()
    }

    #[test]
    fn a_web_pages_origin_is_one_and_nothing_else_is() {
        for (header, origin) in [
            ("https://dealer.example", "https://dealer.example"),
            ("HTTPS://Dealer.Example:8443", "https://dealer.example:8443"),
            ("http://localhost:3000", "http://localhost:3000"),
            ("http://[::1]:3000", "http://[::1]:3000"),
        ] {
            assert_eq!(web_origin(header.as_bytes()).as_deref(), Some(origin));
        }
        let long = format!("https://{}", "a".repeat(300));
        for none in [
            "",
            "null",
            "https://",
            "cors",
            "chrome-extension://abcdef",
            "file://",
            "https://a.example/path",
            "https://u@a.example",
            "https://a.example https://b.example",
            "https://\u{e4}.example",
            "https://<b>",
            &long,
        ] {
            assert_eq!(web_origin(none.as_bytes()), None, "{none}");
        }
        assert_eq!(web_origin(b"https://\xff"), None);
    }

    #[test]
    fn requests_of_one_page_are_one_count_and_a_flood_of_origins_is_lumped() {
        let origins = Origins::default();
        let record = record();
        for n in [7, 5, 9] {
            origins.note(record, b"https://a.example", Time(n));
        }
        origins.note(record, b"null", Time(9));
        let one = ("https://a.example".to_owned(), 3, 5, 9);
        assert_eq!(held(&origins), [one]);
        for n in 0..1_000 {
            let origin = format!("https://{n}.example");
            origins.note(record, origin.as_bytes(), Time(n));
        }
        let all = held(&origins);
        assert_eq!(all.len(), ORIGINS_MAX + 1);
        let lump = all.iter().find(|(origin, ..)| origin.is_empty());
        assert_eq!(lump.map(|lump| lump.1), Some(1_000 - 9));
    }

    #[test]
    fn a_flood_of_keys_takes_no_more_room() {
        let origins = Origins::default();
        for _ in 0..2 * KEYS_MAX {
            origins.note(record(), b"https://a.example", Time(0));
        }
        assert_eq!(held(&origins).len(), KEYS_MAX);
    }

    proptest! {
        #[test]
        fn no_header_panics_and_what_is_kept_is_plain(header in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Some(origin) = web_origin(&header) {
                prop_assert!(origin.bytes().all(|c| c.is_ascii_graphic() && !b"<>\"'&".contains(&c)));
            }
        }
    }
}
