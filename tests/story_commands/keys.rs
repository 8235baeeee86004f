//! Keys by command: made, ended, looked at, identified.
//!
//! Never: a key on a command line, or in what a command says but once, when it is made.

use super::*;

#[test]
fn a_key_is_generated_and_replaces_the_one_before() {
    with_and_without_a_server(|place, served| {
        place.create_seller("lone-star");
        let generate = ["key", "generate", "--seller", "lone-star"];
        let made = json_of(place, &generate, "");
        assert_eq!(names(&made), ["key", "key_id", "receipt", "replaced"]);
        assert_eq!(made["replaced"], Value::Null);
        assert_receipt(&made["receipt"], served);
        let first = made["key"].as_str().expect("a key");
        assert!(SecretKey::parse(first.as_bytes()).is_ok());
        assert_key(served, first, 200);

        // For people: the key alone on standard output, so that it can be piped into a secret manager.
        let said = run(place, &generate, "").assert_done();
        let second = said.out.trim_end();
        assert!(SecretKey::parse(second.as_bytes()).is_ok(), "{said:?}");
        assert_eq!(said.out, format!("{second}\n"));
        assert!(
            said.err.contains("the only time the key is shown"),
            "{said:?}"
        );
        assert!(!said.err.contains(second), "{said:?}");
        assert!(said.err.contains("is dead"), "{said:?}");
        assert_key(served, first, 401);
        assert_key(served, second, 200);

        let third = json_of(place, &generate, "");
        assert!(third["replaced"].is_string());
        let epoch = |made: &Value| made["receipt"]["epoch"].as_i64().expect("a number");
        assert_eq!(epoch(&third), epoch(&made) + 2);
        assert_key(served, second, 401);

        let nobody = run(place, &["key", "generate", "--seller", "nobody"], "");
        nobody.assert_refused("no Seller has the slug nobody");
        run(place, &["key", "generate"], "").assert_wrong_usage();
        run(place, &["key", "generate", "lone-star"], "").assert_wrong_usage();
    });
}

#[test]
fn a_key_is_expired_with_a_reason_that_the_seller_reads() {
    with_and_without_a_server(|place, served| {
        place.create_seller("lone-star");
        let expire = |reason: &str| {
            let args = ["key", "expire", "--seller", "lone-star", "--reason", reason];
            json_of(place, &args, "")
        };
        let key = place.generate("lone-star");
        let args = ["key", "expire", "--seller", "lone-star"];
        run(place, &args, "").assert_wrong_usage();
        let wordless = run(place, &[&args[..], &["--reason", " "]].concat(), "");
        wordless.assert_refused("a reason has 1 to 500 characters");
        assert_key(served, &key, 200);

        let expired = expire("found on a forum");
        assert_eq!(names(&expired), ["expired", "receipt"]);
        assert_eq!(names(&expired["expired"]), ["key_id"]);
        assert!(expired["expired"]["key_id"].is_string());
        assert_receipt(&expired["receipt"], served);
        assert_key(served, &key, 401);

        // Again finds nothing to do, and is no error.
        let again = expire("found on a forum");
        assert_eq!(again["expired"]["key_id"], Value::Null);
        assert_eq!(again["receipt"]["epoch"], expired["receipt"]["epoch"]);
        let text = run(place, &[&args[..], &["--reason", "x"]].concat(), "").assert_done();
        assert!(text.out.contains("had no live key"), "{text:?}");
        place.generate("lone-star");
        let text = run(place, &[&args[..], &["--reason", "x"]].concat(), "").assert_done();
        assert!(text.out.contains("is dead"), "{text:?}");

        let shown = run(place, &["key", "show", "--seller", "lone-star"], "").assert_done();
        assert!(shown.out.contains("has no live key"), "{shown:?}");
        let nobody = ["key", "expire", "--seller", "nobody", "--reason", "x"];
        run(place, &nobody, "").assert_refused("no Seller has the slug nobody");
    });
}

#[test]
fn a_key_in_hand_is_killed_in_one_step_and_no_other_key_is() {
    with_and_without_a_server(|place, served| {
        let made = place.create_seller("lone-star");
        place.create_seller("other");
        let others = place.generate("other");
        let why = ["--reason", "found on a forum"];
        let expire = [&["key", "expire", "--key-stdin"][..], &why].concat();
        let prepare = || {
            let made = json_of(place, &["key", "prepare", "--seller", "lone-star"], "");
            made["key"].as_str().expect("a key").to_owned()
        };
        let old = place.generate("lone-star");
        let live = place.generate("lone-star");

        // A prepared one alone: the live one goes on.
        let staged = prepare();
        let done = json_of(place, &expire, &format!("{staged}\n"));
        assert_eq!(names(&done), ["discarded", "expired", "receipt", "seller"]);
        assert_eq!(done["seller"]["id"], made["seller"]["id"]);
        assert_eq!(done["expired"]["key_id"], Value::Null);
        assert!(done["discarded"]["key_id"].is_string(), "{done}");
        assert_receipt(&done["receipt"], served);
        assert_key(served, &staged, 401);
        assert_key(served, &live, 200);

        // A dead one, and nobody's: refused, and nothing happens to the key that is live by now.
        let stranger = SecretKey::generate().expect("randomness");
        for (typed, because) in [
            (&*old, "this key of lone-star is dead already"),
            (&staged, "this key of lone-star is dead already"),
            (stranger.expose(), "no Seller's"),
            (&live[..45], "nothing was done"),
            ("hunter2", "nothing was done"),
            (
                &format!("{live}, {others}"),
                "more than one key stands in this text",
            ),
            ("", "a key is expected on standard input"),
        ] {
            let ran = run(place, &expire, typed);
            // Of a dead key the refusal waits until it is obeyed everywhere, which a slow machine may say first.
            assert_eq!((ran.code, &*ran.out), (Some(1), ""), "{ran:?}");
            assert!(ran.err.contains(because), "{because}: {ran:?}");
            assert!(typed.is_empty() || !ran.err.contains(typed), "{ran:?}");
        }
        assert_key(served, &live, 200);

        // The live one, and the next one with it; in the words in which it was mailed.
        let staged = prepare();
        let done = json_of(place, &expire, &format!("We found\nKEY={live}\non a forum"));
        assert!(done["expired"]["key_id"].is_string(), "{done}");
        assert!(done["discarded"]["key_id"].is_string(), "{done}");
        for dead in [&live, &staged] {
            assert_key(served, dead, 401);
        }
        assert_key(served, &others, 200);
        let found = json_of(place, &["key", "identify"], &live);
        let key = &found["identified"]["key"];
        assert_eq!(key["state"], "expired");
        assert_eq!(key["end_reason"], "found on a forum");

        // For people.
        let live = place.generate("lone-star");
        let staged = prepare();
        let said = run(place, &expire, &staged).assert_done();
        assert!(
            said.out.contains("The live key goes on working."),
            "{said:?}"
        );
        let said = run(place, &expire, &live).assert_done();
        assert!(said.out.contains("of lone-star is dead"), "{said:?}");
        assert!(!said.out.contains(&*live) && !said.err.contains(&*live));

        // One way or the other, and always with a reason.
        run(place, &expire[..3], &others).assert_wrong_usage();
        let both = [&expire[..], &["--seller", "other"]].concat();
        run(place, &both, &others).assert_wrong_usage();
        let neither = [&["key", "expire"][..], &why].concat();
        run(place, &neither, "").assert_wrong_usage();
        let wordless = ["key", "expire", "--key-stdin", "--reason", " "];
        run(place, &wordless, &others).assert_refused("a reason has 1 to 500 characters");
        assert_key(served, &others, 200);
    });
}

#[test]
fn a_key_is_shown_without_the_key_and_with_its_clients() {
    with_and_without_a_server(|place, served| {
        place.create_seller("lone-star");
        let show = ["key", "show", "--seller", "lone-star"];
        let text = run(place, &show, "").assert_done();
        assert!(text.out.contains("has no key yet"), "{text:?}");
        assert!(
            text.out
                .contains("truckradar key generate --seller lone-star")
        );

        let old = place.generate("lone-star");
        let new = place.generate("lone-star");
        let agent = "User-Agent: dms/1.0\r\n";
        for key in [&old, &new, &new] {
            if let Some(served) = served {
                let headers = format!("Authorization: Bearer {key}\r\n{agent}");
                raw_get(served.api, "/api/v1/key", &headers);
            }
        }
        // On a file the server counts what it has in memory before it answers; beside one on PostgreSQL a command sees
        // what that has written.
        let has_all = |shown: &Value| {
            let clients = shown["clients_24h"].as_array().expect("a list");
            served.is_none() || !place.is_on_postgres() || clients.len() == 2
        };
        let end = Instant::now() + PATIENCE;
        let shown = loop {
            let shown = json_of(place, &show, "");
            if has_all(&shown) {
                break shown;
            }
            assert!(Instant::now() < end, "{shown}");
        };
        assert_eq!(
            names(&shown),
            ["clients_24h", "earlier", "key", "seller", "staged"]
        );
        assert_eq!(names(&shown["seller"]), ["id", "slug"]);
        let of_a_key = [
            "created_at",
            "end_reason",
            "ended_at",
            "hint",
            "id",
            "live_at",
            "made_by",
            "shown",
            "state",
        ];
        assert_eq!(names(&shown["key"]), of_a_key);
        assert_eq!(shown["key"]["hint"], new[42..]);
        assert_eq!(shown["key"]["shown"], true);
        assert_eq!(shown["earlier"].as_array().map(Vec::len), Some(1));
        assert_eq!(names(&shown["earlier"][0]), of_a_key);
        assert_eq!(shown["earlier"][0]["hint"], old[42..]);
        assert_eq!(shown["earlier"][0]["state"], "replaced");
        let clients = shown["clients_24h"].as_array().expect("a list");
        let told: BTreeSet<_> = clients
            .iter()
            .map(|client| {
                let of_a_client = [
                    "accepted",
                    "address",
                    "barred",
                    "key_id",
                    "last_at",
                    "unauthorized",
                    "user_agent",
                ];
                assert_eq!(names(client), of_a_client);
                assert_eq!(client["address"], "127.0.0.1");
                assert_eq!(client["user_agent"], "dms/1.0");
                let number = |name: &str| client[name].as_i64().expect("a number");
                (
                    client["key_id"] == shown["key"]["id"],
                    number("accepted"),
                    number("unauthorized"),
                )
            })
            .collect();
        // Counted a moment ago, and not written by itself yet.
        let expected = [(false, 0, 1), (true, 2, 0)];
        let expected = &expected[..if served.is_some() { 2 } else { 0 }];
        assert_eq!(told, BTreeSet::from_iter(expected.iter().copied()));

        let text = run(place, &show, "").assert_done().out;
        assert!(text.contains(&format!("tr_live_…{}", &new[42..])), "{text}");
        match served {
            Some(_) => assert!(text.contains("dms/1.0"), "{text}"),
            None => assert!(text.contains("No client used a key"), "{text}"),
        }
        for key in [&old, &new] {
            assert!(!text.contains(key.as_str()) && !shown.to_string().contains(key.as_str()));
        }
        let nobody = run(place, &["key", "show", "--seller", "nobody"], "");
        nobody.assert_refused("no Seller has the slug nobody");
        run(place, &["key", "show"], "").assert_wrong_usage();
    });
}

#[test]
fn a_key_is_identified_from_standard_input() {
    with_and_without_a_server(|place, _| {
        let made = place.create_seller("lone-star");
        let identify = ["key", "identify"];
        let old = place.generate("lone-star");
        let expired = place.generate("lone-star");
        let expire = [
            "key",
            "expire",
            "--seller",
            "lone-star",
            "--reason",
            "leaked",
        ];
        run(place, &expire, "").assert_done();
        let live = place.generate("lone-star");
        for (key, state) in [(&live, "live"), (&old, "replaced"), (&expired, "expired")] {
            // However it was pasted.
            for typed in [
                key.clone(),
                format!("{key}\n"),
                format!("{key}\r\n"),
                format!("  {key} \n\n"),
                format!("API_KEY={key} # prod"),
                format!("\"{key}\""),
                format!("Bearer {key}"),
                format!("KEY=3D{}=\r\n{}\r\n", &key[..20], &key[20..]),
                format!("Hello,\nwe found {key}, on a forum. It is {key}.\nBye"),
            ] {
                let found = json_of(place, &identify, &typed);
                assert_eq!(names(&found), ["identified"]);
                let found = &found["identified"];
                assert_eq!(names(found), ["key", "leaks", "live", "seller"]);
                assert_eq!(names(&found["seller"]), ["id", "kind", "name", "slug"]);
                assert_eq!(found["seller"]["id"], made["seller"]["id"]);
                assert_eq!(found["live"], state == "live");
                assert_eq!(found["key"]["state"], state);
                assert_eq!(found["key"]["hint"], key[42..]);
            }
            let text = run(place, &identify, key).assert_done();
            assert!(text.out.contains("lone-star") && text.out.contains(state));
            assert_eq!(text.out.contains("no, it is dead"), state != "live");
            assert!(!text.out.contains(key.as_str()) && !text.err.contains(key.as_str()));
        }

        // One that is prepared is not dead, and not called so.
        let prepared = json_of(place, &["key", "prepare", "--seller", "lone-star"], "");
        let prepared = prepared["key"].as_str().expect("a key");
        let text = run(place, &identify, prepared).assert_done();
        assert!(text.out.contains("works from its cut-over on"), "{text:?}");

        let stranger = SecretKey::generate().expect("randomness");
        let mistyped = format!(
            "{}{}",
            &live[..45],
            if live.ends_with('x') { 'y' } else { 'x' }
        );
        for (typed, reason) in [
            (stranger.expose(), "unknown"),
            (&*mistyped, "malformed"),
            (&live[..45], "malformed"),
            ("hunter2", "malformed"),
            (
                &format!("we found {} {} there", &live[..20], &live[20..]),
                "malformed",
            ),
        ] {
            // That it is nobody's is an answer, not a refusal.
            let found = json_of(place, &identify, typed);
            assert_eq!(names(&found), ["identified", "message", "reason"]);
            assert_eq!(found["identified"], Value::Null);
            assert_eq!(found["reason"], reason, "{found}");
            assert!(!found.to_string().contains(typed));
            let text = run(place, &identify, typed).assert_done();
            let verdict = if reason == "unknown" {
                "Nobody's key: "
            } else {
                "No key: "
            };
            assert!(text.out.starts_with(verdict), "{text:?}");
        }
        let endings = format!(
            "more than one key stands in this text: …{}, …{}.",
            &live[42..],
            &old[42..]
        );
        run(place, &identify, &format!("{live} {old}")).assert_refused(&endings);
        let many = (0..11).map(|_| SecretKey::generate().expect("randomness"));
        let many: Vec<String> = many.map(|key| key.expose().to_owned()).collect();
        run(place, &identify, &many.join(" ")).assert_refused(", and more. Give one at a time");
        let long = format!("{}{live}", "x".repeat(64 << 10));
        run(place, &identify, &long).assert_refused("and more than 64 KiB came");
        run(place, &identify, "").assert_refused("a key is expected on standard input");
        run(place, &identify, "\n").assert_refused("a key is expected on standard input");
    });
}

#[test]
fn a_key_cannot_be_given_on_the_command_line() {
    let place = Place::new();
    place.create_seller("lone-star");
    let key = place.generate("lone-star");
    let assert_refused = |args: &[&str]| {
        let ran = run(&place, &[&["key", "identify"], args].concat(), "");
        ran.assert_wrong_usage();
        // What was typed by mistake is not written down once more.
        assert!(!ran.err.contains(&key), "{ran:?}");
    };
    // Whatever is typed there can be read by every user of the machine, and stays in the shell's history.
    assert_refused(&[&key]);
    for option in ["--key", "--api-key", "--secret", "--text", "--password"] {
        assert_refused(&[option, &key]);
        assert_refused(&[&format!("{option}={key}")]);
    }
}
