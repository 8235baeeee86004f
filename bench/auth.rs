//! How long judging one key takes, away from HTTP: its form, its digest, and the whole check at 1,000, 10,000 and
//! 1,000,000 keys; and how much memory a million keys take.
//!
//! Run it with `cargo bench --bench auth`. Each figure of the whole check cycles through all the keys of its table, in
//! random order, so that a large table pays for its cache misses.
//!
//! Never: a pass or a fail. It prints figures.

use std::{hint::black_box, iter, process::Command};

use criterion::{BenchmarkId, Criterion};
use sha2::{Digest, Sha256};
use truckradar::{
    clock::Clock,
    ids::{KeyId, SellerId},
    keys::{
        format::{self, KEY_CHARS, SecretKey},
        table::{KeyRecord, KeyTable, Snapshot, Standing, Trust},
        verify::{self, Caller, Refusal, Request},
    },
};

const SCHEME: &[u8; 7] = b"Bearer ";
const HEADER_BYTES: usize = SCHEME.len() + KEY_CHARS;
/// One key in this many is dead.
const ONE_DEAD_IN: usize = 10;
/// Unknown keys to cycle through, at most.
const UNKNOWN_MAX: usize = 100_000;

/// The value of an Authorization header, side by side with the others in one piece of memory.
type Header = [u8; HEADER_BYTES];

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    form(&mut criterion);
    // Without `--bench`, as under `cargo test`, it is only seen whether everything runs.
    let measuring = std::env::args().any(|arg| arg == "--bench");
    let sizes: &[usize] = if measuring {
        &[1_000, 10_000, 1_000_000]
    } else {
        &[1_000]
    };
    for size in sizes {
        check(&mut criterion, *size);
    }
    criterion.final_summary();
}

/// What is done before any look-up.
fn form(criterion: &mut Criterion) {
    let good = headers(1)[0];
    let good = &good[SCHEME.len()..];
    let mut wrong_checksum = good.to_vec();
    let last = &mut wrong_checksum[KEY_CHARS - 1];
    *last = if *last == b'0' { b'1' } else { b'0' };
    let mut wrong_form = good.to_vec();
    wrong_form[KEY_CHARS - 1] = b'-';
    assert!(format::digest_presented(good).is_ok());

    let mut group = criterion.benchmark_group("form");
    group.bench_function("good: form, checksum, digest", |bench| {
        bench.iter(|| format::digest_presented(black_box(good)));
    });
    group.bench_function("refused for its checksum", |bench| {
        bench.iter(|| format::digest_presented(black_box(&wrong_checksum)));
    });
    group.bench_function("refused for its form", |bench| {
        bench.iter(|| format::digest_presented(black_box(&wrong_form)));
    });
    group.bench_function("digest only", |bench| {
        bench.iter(|| Sha256::digest(black_box(good)));
    });
    group.finish();
}

/// The whole check, as a request meets it: the header read, the table loaded, the clock read, the key judged.
fn check(criterion: &mut Criterion, size: usize) {
    let (dead, live) = (size / ONE_DEAD_IN, size - size / ONE_DEAD_IN);
    let (dead, live) = (headers(dead), headers(live));
    let unknown = headers(size.min(UNKNOWN_MAX));

    let entry = |header: &Header, standing| {
        let digest = format::digest_presented(&header[SCHEME.len()..]).expect("a key");
        let (key, seller) = (KeyId::new(), SellerId::new());
        let record = KeyRecord::of_seller(key, seller, standing);
        (digest, record)
    };
    let before = resident_bytes();
    let keys = live
        .iter()
        .map(|header| entry(header, Standing::Live))
        .chain(dead.iter().map(|header| entry(header, Standing::Dead)));
    let snapshot = Snapshot::build(keys, Trust::WhileOwner, 1);
    if let (Some(before), Some(after)) = (before, resident_bytes()) {
        let mib = after.saturating_sub(before) as f64 / f64::from(1 << 20);
        println!("\nresident memory that {size} keys add: {mib:.1} MiB\n");
    }
    let table = KeyTable::new(snapshot);
    let clock = Clock::system();

    let mut group = criterion.benchmark_group("check");
    let mut measure = |name, headers: &[Header], expected: fn(&Result<Caller, Refusal>) -> bool| {
        assert!(
            headers
                .iter()
                .all(|header| expected(&judge(&table, &clock, header)))
        );
        let mut at = 0;
        group.bench_function(BenchmarkId::new(name, size), |bench| {
            bench.iter(|| {
                at = if at + 1 == headers.len() { 0 } else { at + 1 };
                judge(&table, &clock, black_box(&headers[at]))
            });
        });
    };
    measure("live", &live, |verdict| verdict.is_ok());
    measure("dead", &dead, |verdict| {
        matches!(verdict, Err(Refusal::Revoked(_)))
    });
    measure("unknown", &unknown, |verdict| {
        matches!(verdict, Err(Refusal::Unknown))
    });
    group.finish();
}

fn judge(table: &KeyTable, clock: &Clock, header: &Header) -> Result<Caller, Refusal> {
    let presented = verify::read_authorization(iter::once(&header[..]));
    verify::verify(&Request::of(presented), &table.load(), clock.boot())
}

/// New keys, which are random and so in random order in any table.
fn headers(count: usize) -> Vec<Header> {
    let one = || {
        let key = SecretKey::generate().expect("the system has randomness");
        let mut header = [0; HEADER_BYTES];
        header[..SCHEME.len()].copy_from_slice(SCHEME);
        header[SCHEME.len()..].copy_from_slice(key.expose().as_bytes());
        header
    };
    iter::repeat_with(one).take(count).collect()
}

/// This process's resident memory, where the system tells.
fn resident_bytes() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    let page = Command::new("getconf").arg("PAGESIZE").output().ok()?;
    let page: u64 = String::from_utf8(page.stdout).ok()?.trim().parse().ok()?;
    Some(pages * page)
}
