//! People and Sellers by command.
//!
//! Never: a password on a command line, or in what a command says.

use super::*;

#[test]
fn people_are_let_in_raised_and_shown_out() {
    with_and_without_a_server(|place, _| {
        run(
            place,
            &create_args("lone-star", "owner@lone.example"),
            PASSWORD,
        )
        .assert_done();
        let user = |act: &'static str, email: &'static str, role: Option<&'static str>| {
            let mut args = vec!["user", act, "--seller", "lone-star", "--email", email];
            args.extend(role.into_iter().flat_map(|role| ["--role", role]));
            args
        };
        let invited = json_of(
            place,
            &user("invite", "Ann@lone.example", Some("viewer")),
            "",
        );
        assert_eq!(names(&invited), ["email", "link", "role"]);
        assert_eq!(invited["email"], "ann@lone.example");
        let link = invited["link"].as_str().expect("a link");
        assert!(link.starts_with("http://127.0.0.1:") && link.contains("/invitation?token="));
        let told = run(
            place,
            &user("invite", "ann@lone.example", Some("admin")),
            "",
        )
        .assert_done();
        assert!(told.out.contains("/invitation?token=") && !told.out.contains(link));
        assert!(told.out.contains("once, for 7 days"), "{told:?}");
        run(
            place,
            &user("invite", "owner@lone.example", Some("viewer")),
            "",
        )
        .assert_refused("owner@lone.example is a member already");

        // Not a member yet: an invitation is an offer.
        run(place, &user("role", "ann@lone.example", Some("admin")), "")
            .assert_refused("there is no such member");
        run(place, &user("remove", "ann@lone.example", None), "")
            .assert_refused("there is no such member");
        for act in [
            user("role", "owner@lone.example", Some("viewer")),
            user("remove", "owner@lone.example", None),
        ] {
            run(place, &act, "").assert_refused("a dealer account needs an owner");
        }
        let kept = json_of(
            place,
            &user("role", "owner@lone.example", Some("owner")),
            "",
        );
        assert_eq!(kept["role"], "owner");

        let reset = ["user", "reset-password", "--email", "owner@lone.example"];
        let link = json_of(place, &reset, "")["link"].clone();
        assert!(
            link.as_str()
                .is_some_and(|link| link.contains("/reset-password?token="))
        );
        run(
            place,
            &["user", "reset-password", "--email", "a@b.example"],
            "",
        )
        .assert_refused("no user has the address a@b.example");
        for wrong in [
            user("invite", "nobody", Some("viewer")),
            user("invite", "ann@lone.example", Some("king")),
            user("invite", "ann@lone.example", None),
        ] {
            run(place, &wrong, "").assert_wrong_usage();
        }
    });
}

#[test]
fn a_seller_is_created_with_a_password_from_standard_input() {
    with_and_without_a_server(|place, _| {
        let args = create_args("lone-star", "Owner@Lone.example");
        let made = json_of(place, &args, PASSWORD);
        assert_eq!(names(&made), ["owner", "seller"]);
        assert_eq!(names(&made["seller"]), ["id", "slug"]);
        assert_eq!(names(&made["owner"]), ["email", "id"]);
        assert_eq!(made["seller"]["slug"], "lone-star");
        assert_eq!(made["owner"]["email"], "owner@lone.example");

        run(place, &args, PASSWORD).assert_refused("the slug lone-star is taken");
        let short = run(place, &create_args("short", "a@b.example"), "elevenchars");
        short.assert_refused("a password has 12 characters or more");
        let empty = run(place, &create_args("empty", "a@b.example"), "");
        empty.assert_refused("password is expected on standard input");
        // Somebody else's address is not taken over; its owner's password makes the owner of a second Seller.
        let second = create_args("second", "owner@lone.example");
        run(place, &second, "another password").assert_refused("exists with another password");
        let typed = format!("{PASSWORD}\r\n");
        let done = run(place, &second, &typed).assert_done();
        assert!(done.out.contains("second"), "{done:?}");
        // The next thing to type works as it stands.
        let (_, next) = done.out.split_once("next ").expect("a next command");
        assert!(next.contains(" key generate --seller second"), "{done:?}");
        paste(next, "", Path::new("/")).assert_done();
        assert!(!done.out.contains(PASSWORD) && !done.err.contains(PASSWORD));

        // What cannot be a Seller is wrong usage, before anything is read or asked.
        let ok = create_args("third", "a@b.example");
        for (at, wrong) in [
            (5, "Third"),
            (5, "x"),
            (7, "nobody"),
            (8, "--owner-password=hunter2hunter2"),
            (8, "--json"),
        ] {
            let mut args = ok;
            args[at] = wrong;
            run(place, &args, PASSWORD).assert_wrong_usage();
        }
        run(place, &["seller", "create"], PASSWORD).assert_wrong_usage();
        let mut nameless = ok;
        nameless[3] = " ";
        run(place, &nameless, PASSWORD).assert_refused("a name has 1 to 120 characters");

        // Of all that was refused nothing is left.
        let list = json_of(place, &["seller", "list"], "");
        let slugs = list["sellers"].as_array().expect("a list").iter();
        let slugs: Vec<&Value> = slugs.map(|seller| &seller["slug"]).collect();
        assert_eq!(slugs, ["lone-star", "second"]);
    });
}

#[test]
fn sellers_are_listed_and_shown() {
    with_and_without_a_server(|place, served| {
        if served.is_some() {
            let none = run(place, &["seller", "list"], "").assert_done();
            assert!(none.out.contains("No Seller yet"), "{none:?}");
            assert_eq!(
                json_of(place, &["seller", "list"], ""),
                json!({"sellers": []})
            );
        }
        let made = place.create_seller("lone-star");
        place.create_seller("a-first");
        let key = place.generate("lone-star");
        let hint = &key[42..];

        let list = json_of(place, &["seller", "list"], "");
        assert_eq!(names(&list), ["sellers"]);
        let sellers = list["sellers"].as_array().expect("a list");
        assert_eq!(sellers.len(), 2);
        assert_eq!(sellers[0]["slug"], "a-first");
        assert_eq!(sellers[0]["key"], Value::Null);
        let seller = &sellers[1];
        let of_a_list = [
            "active_listings",
            "created_at",
            "id",
            "key",
            "key_networks",
            "name",
            "plan",
            "slug",
            "status",
            "status_reason",
        ];
        assert_eq!(names(seller), of_a_list);
        assert_eq!(seller["id"], made["seller"]["id"]);
        assert_eq!(seller["plan"], "starter");
        assert_eq!(seller["active_listings"], 0);
        assert_eq!(seller["key"]["hint"], hint);
        assert_eq!(seller["key"]["state"], "live");

        let show = ["seller", "show", "--seller", "lone-star"];
        let shown = json_of(place, &show, "");
        assert_eq!(names(&shown), ["seller"]);
        let mut expected = seller.clone();
        expected["members"] = json!([{"email": "owner@lone-star.example", "role": "owner"}]);
        expected["locations"] = json!([]);
        expected["created_by"] = Value::Null;
        assert_eq!(shown["seller"], expected);

        let text = run(place, &["seller", "list"], "").assert_done().out;
        let heading = text.lines().next().expect("a heading");
        assert!(
            heading.contains("SLUG") && heading.contains("KEY"),
            "{text}"
        );
        assert!(text.contains("lone-star") && text.contains(hint), "{text}");
        let text = run(place, &show, "").assert_done().out;
        assert!(text.contains("owner@lone-star.example (owner)"), "{text}");
        assert!(!text.contains(&key), "{text}");

        let nobody = run(place, &["seller", "show", "--seller", "nobody"], "");
        nobody.assert_refused("no Seller has the slug nobody");
        run(place, &["seller", "show"], "").assert_wrong_usage();
        run(place, &["seller", "show", "lone-star"], "").assert_wrong_usage();
    });
}
