//! Replacing a key in two steps: the next one is prepared and deployed while the present one works, and then cut over.
//!
//! Never: two keys of one Seller that are both accepted, however short.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Instant,
};

use serde_json::Value;

use crate::support::{
    binary::{Place, Served},
    client::Client,
    history::{Accepted, two_keys_at_once},
};

fn world() -> (Place, Served, String) {
    let place = Place::new();
    let served = place.serve(&[]);
    place.create_seller("lone-star");
    let key = place.generate("lone-star");
    (place, served, key)
}

fn act(place: &Place, act: &str) -> Value {
    place.json(&["key", act, "--seller", "lone-star"], "")
}

fn prepare(place: &Place) -> String {
    let made = act(place, "prepare");
    made["key"].as_str().expect("a key").to_owned()
}

/// The status of a call with a key, and the reason if it is refused.
async fn ask(served: &Served, key: &str) -> (u16, String) {
    let answer = Client::new(served.api, Some(key)).get("/api/v1/key").await;
    let reason = if answer.status == 401 {
        answer.reason()
    } else {
        String::new()
    };
    (answer.status.as_u16(), reason)
}

fn refused(reason: &str) -> (u16, String) {
    (401, reason.to_owned())
}

const GOOD: (u16, String) = (200, String::new());

#[tokio::test]
async fn the_next_key_waits_and_then_takes_over_in_one_act() {
    let (place, served, old) = world();
    let next = prepare(&place);
    assert_eq!(next.len(), 46);
    assert_eq!(ask(&served, &next).await, refused("staged"));
    assert_eq!(ask(&served, &old).await, GOOD);
    let metrics = Client::new(served.admin, None).get("/metrics").await.text;
    for (reason, count) in [("staged", 1), ("revoked", 0), ("cannot_know", 0)] {
        let line = format!("truckradar_refused_total{{reason=\"{reason}\"}} {count}\n");
        assert!(metrics.contains(&line), "{reason}: {metrics}");
    }
    let shown = place.json(&["key", "show", "--seller", "lone-star"], "");
    assert_eq!(shown["staged"]["hint"], next[42..]);
    assert_eq!(shown["key"]["hint"], old[42..]);

    let done = act(&place, "cut-over");
    assert_eq!(done["receipt"]["nodes"].as_array().map(Vec::len), Some(1));
    assert_eq!(ask(&served, &next).await, GOOD);
    assert_eq!(ask(&served, &old).await, refused("revoked"));
    let shown = place.json(&["key", "show", "--seller", "lone-star"], "");
    assert_eq!(shown["key"]["hint"], next[42..]);
    assert!(shown["staged"].is_null());
    let own = Client::new(served.api, Some(&next))
        .get("/api/v1/key")
        .await
        .json();
    let (made, rotated) = (&own["data"]["created_at"], &own["data"]["last_rotated_at"]);
    assert!(made.as_str() < rotated.as_str(), "{own}");
    // There is nothing left to cut over.
    let again = place.run(&["key", "cut-over", "--seller", "lone-star"], "");
    assert_eq!(again.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&again.stderr).contains("no key is prepared"));
}

#[tokio::test]
async fn whatever_makes_the_next_key_pointless_kills_it() {
    let (place, served, old) = world();
    let first = prepare(&place);
    let second = prepare(&place);
    assert_eq!(
        ask(&served, &first).await,
        refused("revoked"),
        "another was prepared"
    );
    assert_eq!(ask(&served, &second).await, refused("staged"));
    act(&place, "discard");
    assert_eq!(ask(&served, &second).await, refused("revoked"));
    assert_eq!(ask(&served, &old).await, GOOD);
    let nothing = act(&place, "discard");
    assert!(nothing["discarded"]["key_id"].is_null());

    let third = prepare(&place);
    let generated = place.generate("lone-star");
    assert_eq!(
        ask(&served, &third).await,
        refused("revoked"),
        "one was generated"
    );
    assert_eq!(ask(&served, &old).await, refused("revoked"));
    assert_eq!(ask(&served, &generated).await, GOOD);

    let fourth = prepare(&place);
    place.json(
        &[
            "key",
            "expire",
            "--seller",
            "lone-star",
            "--reason",
            "leaked",
        ],
        "",
    );
    assert_eq!(
        ask(&served, &fourth).await,
        refused("revoked"),
        "the key was expired"
    );
    assert_eq!(ask(&served, &generated).await, refused("revoked"));
    // Without a key that works there is nothing to prepare another one beside.
    let refused = place.run(&["key", "prepare", "--seller", "lone-star"], "");
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("there is no live key"));
}

#[tokio::test]
async fn a_staged_key_outlives_a_crash_and_one_that_nobody_saw_is_never_cut_over() {
    let (place, served, old) = world();
    let next = prepare(&place);
    served.kill();
    let served = place.serve(&[]);
    assert_eq!(ask(&served, &next).await, refused("staged"));
    // As a crash between the commit and the answer leaves it.
    place.change("UPDATE staged_keys SET shown_us = NULL").await;
    let out = place.run(&["key", "cut-over", "--seller", "lone-star"], "");
    assert_eq!(out.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&out.stderr).contains("never shown to anybody"));
    assert_eq!(ask(&served, &old).await, GOOD);
    assert_eq!(ask(&served, &next).await, refused("staged"));
    let seen = prepare(&place);
    act(&place, "cut-over");
    assert_eq!(ask(&served, &seen).await, GOOD);
    assert_eq!(ask(&served, &next).await, refused("revoked"));
}

/// Clients that hold both keys and change over on 401 (the rule in the documentation) lose nothing, rotation after rotation;
/// and what they saw has an order in which no key is accepted after the next one was.
#[tokio::test(flavor = "multi_thread")]
async fn clients_that_hold_both_keys_lose_no_call() {
    const CLIENTS: usize = 64;
    const ROTATIONS: usize = 50;
    let (place, served, first) = world();
    let deployed = Arc::new(std::sync::Mutex::new((0, first.clone(), first)));
    let stop = Arc::new(AtomicBool::new(false));
    let mut clients = Vec::new();
    let mut has_read: Vec<Arc<AtomicUsize>> = Vec::new();
    for number in 0..CLIENTS {
        // Every other client looks out for the cut-over: it begins each call with the next key.
        let eager = number % 2 == 0;
        let (deployed, stop) = (Arc::clone(&deployed), Arc::clone(&stop));
        let round_read = Arc::new(AtomicUsize::new(0));
        has_read.push(Arc::clone(&round_read));
        let client = Client::new(served.api, None);
        clients.push(tokio::spawn(async move {
            let (mut lost, mut accepted) = (Vec::new(), Vec::new());
            let mut uses_next = false;
            while !stop.load(Ordering::Relaxed) {
                let (round, present, next) = deployed.lock().expect("not poisoned").clone();
                round_read.store(round, Ordering::SeqCst);
                // Begins with the key that worked last. On 401 it is the other one; and if that is refused too, the first
                // once more: it may have been staged when it was sent first, and cut over in between.
                let mut told = Vec::new();
                uses_next |= eager;
                for _ in 0..3 {
                    let secret = if uses_next { &next } else { &present };
                    let began = Instant::now();
                    let answer = client.with_key(secret).get("/api/v1/key").await;
                    let ended = Instant::now();
                    if answer.status == 200 {
                        // The next key of a round is the present one of the round after it.
                        let key = if uses_next {
                            round
                        } else {
                            round.saturating_sub(1)
                        };
                        accepted.push(Accepted { key, began, ended });
                        told.clear();
                        break;
                    }
                    told.push(answer.text);
                    uses_next = !uses_next;
                }
                lost.extend(told);
            }
            (lost, accepted)
        }));
    }
    for round in 1..=ROTATIONS {
        let next = prepare(&place);
        let present = {
            let mut held = deployed.lock().expect("not poisoned");
            // Of the two that were deployed the later one is live; the other is dead by now.
            let present = held.2.clone();
            *held = (round, present.clone(), next.clone());
            present
        };
        // As a dealer waits until the last machine has it.
        while has_read
            .iter()
            .any(|read| read.load(Ordering::SeqCst) < round)
        {
            tokio::task::yield_now().await;
        }
        act(&place, "cut-over");
        assert_eq!(ask(&served, &present).await, refused("revoked"));
        assert_eq!(ask(&served, &next).await, GOOD);
    }
    stop.store(true, Ordering::Relaxed);
    let mut accepted = Vec::new();
    for client in clients {
        let (lost, calls) = client.await.expect("ends");
        assert_eq!(lost, [""; 0]);
        accepted.extend(calls);
    }
    assert_eq!(two_keys_at_once(&accepted), [""; 0]);
    // All but the last one, after whose cut-over nobody waits for the clients.
    let used: HashSet<_> = accepted.iter().map(|call| call.key).collect();
    assert!(used.len() >= ROTATIONS, "{} keys were used", used.len());
}
