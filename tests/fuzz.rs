//! Authorization values, made up and mutated, by the hundred thousand or the ten million.
//!
//! Never: an acceptance decided by the code under test alone; a second, plainer reading of the rule stands beside it.

use rand::{Rng, RngExt, SeedableRng, rngs::SmallRng};
use truckradar::{
    clock::BootTime,
    ids::{KeyId, SellerId},
    keys::{
        format::SecretKey,
        table::{KeyRecord, Snapshot, Standing, Trust},
        verify::{Request, read_authorization, verify},
    },
};

use crate::support::{binary::Place, client::raw_get, full};

/// The rule in its plainest form: "bearer" in any case, spaces, one of the live keys, nothing else.
fn plainly_good(value: &[u8], live: &[String]) -> bool {
    let Ok(text) = std::str::from_utf8(value) else {
        return false;
    };
    let Some((scheme, rest)) = text.split_once(' ') else {
        return false;
    };
    scheme.eq_ignore_ascii_case("bearer")
        && live.iter().any(|key| rest.trim_start_matches(' ') == key)
}

fn mutate(rng: &mut SmallRng, value: &mut Vec<u8>) {
    for _ in 0..rng.random_range(1..4) {
        let at = rng.random_range(0..=value.len());
        match rng.random_range(0..7) {
            0 if at < value.len() => value[at] = rng.random(),
            1 if at < value.len() => value[at] ^= 0x20,
            2 if at < value.len() => {
                value.remove(at);
            }
            3 => value.insert(at, b"0Aa \t\",\xff"[rng.random_range(0..8)]),
            4 => value.truncate(at),
            5 => value.extend_from_within(at..),
            _ if at + 1 < value.len() => value.swap(at, at + 1),
            _ => value.push(rng.random()),
        }
    }
}

#[test]
fn no_value_is_accepted_that_is_not_exactly_a_live_key() {
    let wanted: u64 = if full() { 10_000_000 } else { 200_000 };
    let keys: Vec<SecretKey> = (0..64)
        .map(|_| SecretKey::generate().expect("randomness"))
        .collect();
    let record = |standing| KeyRecord::of_seller(KeyId::new(), SellerId::new(), standing);
    // Half of them are dead.
    let table = keys.iter().enumerate().map(|(n, key)| {
        (
            key.digest(),
            record(if n % 2 == 0 {
                Standing::Live
            } else {
                Standing::Dead
            }),
        )
    });
    let snapshot = Snapshot::build(table, Trust::WhileOwner, 1);
    let all: Vec<String> = keys.iter().map(|key| key.expose().to_owned()).collect();
    let live: Vec<String> = all.iter().step_by(2).cloned().collect();
    let threads = 2;
    let accepted: u64 = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    let seed = rand::random::<u64>();
                    let mut rng = SmallRng::seed_from_u64(seed);
                    let mut accepted = 0;
                    for n in 0..wanted / threads {
                        let mut value = match n % 4 {
                            0 => {
                                let mut bytes = vec![0; rng.random_range(0..120)];
                                rng.fill_bytes(&mut bytes);
                                bytes
                            }
                            1 => {
                                // The right form throughout, but made up.
                                let mut text = b"Bearer tr_live_".to_vec();
                                text.extend((0..38).map(|_| {
                                    b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"[rng.random_range(0..62)]
                                }));
                                text
                            }
                            _ => format!("Bearer {}", all[rng.random_range(0..all.len())]).into_bytes(),
                        };
                        if n % 4 == 3 {
                            mutate(&mut rng, &mut value);
                        }
                        let presented = read_authorization(std::iter::once(&value[..]));
                        let good = verify(&Request::of(presented), &snapshot, BootTime(0)).is_ok();
                        assert_eq!(good, plainly_good(&value, &live), "seed {seed}: {:?}", String::from_utf8_lossy(&value));
                        accepted += u64::from(good);
                    }
                    accepted
                })
            })
            .collect();
        workers
            .into_iter()
            .map(|worker| worker.join().expect("no panic"))
            .sum()
    });
    println!("{wanted} values, {accepted} accepted, each of them a live key");
    assert!(
        accepted > wanted / 10,
        "unmutated live keys are accepted, or the test tests nothing"
    );
}

/// The same through the real server: it answers, it stays up, and lets nothing in.
#[test]
fn a_server_survives_odd_headers() {
    let place = Place::new();
    let served = place.serve(&[]);
    place.create_seller("lone-star");
    let key = place.generate("lone-star");
    let mut rng = SmallRng::seed_from_u64(rand::random());
    assert_eq!(raw_get(served.api, "/api/v1/key", "\u{1}").0, 400);
    for _ in 0..if full() { 20_000 } else { 500 } {
        let mut value = format!("Bearer {key}").into_bytes();
        mutate(&mut rng, &mut value);
        // What HTTP itself strips or cannot carry is not the question here.
        value.retain(|byte| !matches!(byte, b'\r' | b'\n' | 0));
        let trimmed = without_blanks(&value);
        let good = plainly_good(trimmed, std::slice::from_ref(&key));
        let mut request =
            b"GET /api/v1/key HTTP/1.1\r\nHost: t\r\nConnection: close\r\nAuthorization: ".to_vec();
        request.extend(&value);
        request.extend(b"\r\n\r\n");
        let answer = crate::support::client::raw(served.api, &request);
        let status = answer.get(9..12).unwrap_or_default();
        if good {
            assert_eq!(status, "200", "{:?}", String::from_utf8_lossy(&value));
        } else {
            assert!(
                status == "401" || status == "400",
                "{:?}: {answer}",
                String::from_utf8_lossy(&value)
            );
        }
    }
    assert_eq!(served.terminate().0, Some(0));
}

/// Without the spaces and tabs at its ends, which are no part of a header's value (RFC 9110 section 5.5).
fn without_blanks(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}
