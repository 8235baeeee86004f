//! No act by command without its entry.
//!
//! Never: a command left out of the story: they are read from the program's own help.

use super::{entries::*, *};

/// The commands of a group, from its own help.
fn commands_of(place: &Place, group: &str) -> BTreeSet<String> {
    let help = place.run(&[group, "--help"], "");
    let help = String::from_utf8(help.stdout).expect("text");
    let (_, commands) = help.split_once("Commands:\n").expect("commands");
    let (commands, _) = commands.split_once("\n\n").expect("an end");
    let names = commands
        .lines()
        .filter_map(|line| line.strip_prefix("  "))
        .filter(|line| !line.starts_with(' '))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help");
    names.map(|name| format!("{group} {name}")).collect()
}

#[tokio::test]
async fn no_command_on_keys_users_or_sellers_lacks_its_entry() {
    let dealership = Dealership::new().await;
    let place = &dealership.place;
    let watch = Watch::over(place).await;
    let at = ["--seller", OWN];
    let staff = format!("staff@{OWN}.example");
    let email = ["--email", staff.as_str()];
    let new = ["--email", "new@elsewhere.example", "--role", "viewer"];
    let created = [
        "--name",
        "New",
        "--slug",
        "new",
        "--owner-email",
        "new@new.example",
        "--owner-password-stdin",
    ];
    let pro = ["--plan", "pro"];
    let why = ["--reason", "unpaid"];
    let hub = ["--platform", "hub"];
    let leaver = format!("leaver@{OWN}.example");
    factor::put(place, &staff, Factor::On).await;
    watch.news().await;
    let acts_of: [(&str, Vec<&str>, &[&str]); 29] = [
        ("key generate", at.to_vec(), &["key.generated"]),
        ("key prepare", at.to_vec(), &["key.prepared"]),
        ("key cut-over", at.to_vec(), &["key.cut-over"]),
        // There is none any more.
        ("key discard", at.to_vec(), &[]),
        (
            "key expire",
            [&at[..], &["--reason", "leaked"]].concat(),
            &["key.expired"],
        ),
        ("key show", at.to_vec(), &[]),
        ("key identify", vec![], &[]),
        (
            "key networks",
            [&at[..], &["--from", "192.0.2.0/24"]].concat(),
            &["key.networks"],
        ),
        (
            "user invite",
            [&at[..], &new[..]].concat(),
            &["member.invited"],
        ),
        (
            "user role",
            [&at[..], &email[..], &["--role", "admin"]].concat(),
            &["member.role"],
        ),
        (
            "user remove",
            [&at[..], &email[..]].concat(),
            &["member.removed"],
        ),
        (
            "user reset-password",
            email.to_vec(),
            &["password.reset-link"],
        ),
        (
            "user erase",
            vec!["--email", leaver.as_str()],
            &["member.erased", "member.removed"],
        ),
        (
            "user reset-second-factor",
            email.to_vec(),
            &["factor.taken-away"],
        ),
        ("seller create", created.to_vec(), &["seller.created"]),
        ("seller list", vec![], &[]),
        ("seller show", at.to_vec(), &[]),
        ("seller plan", [&at[..], &pro].concat(), &["account.plan"]),
        (
            "seller suspend",
            [&at[..], &why].concat(),
            &["account.suspended"],
        ),
        ("seller resume", at.to_vec(), &["account.resumed"]),
        (
            "platform create",
            vec!["--name", "Hub", "--slug", "hub"],
            &["platform.created"],
        ),
        ("platform list", vec![], &[]),
        ("platform show", hub.to_vec(), &[]),
        ("platform key", hub.to_vec(), &["key.generated"]),
        (
            "platform plan",
            [&hub[..], &pro].concat(),
            &["account.plan"],
        ),
        (
            "platform suspend",
            [&hub[..], &why].concat(),
            &["account.suspended"],
        ),
        ("platform resume", hub.to_vec(), &["account.resumed"]),
        (
            "platform close",
            [&hub[..], &why].concat(),
            &["account.closed"],
        ),
        (
            "seller close",
            vec!["--seller", "new", "--reason", "gone"],
            &["account.closed"],
        ),
    ];
    let mut known = BTreeSet::new();
    for group in ["key", "user", "seller", "platform"] {
        known.extend(commands_of(place, group));
    }
    let tried: BTreeSet<String> = acts_of
        .iter()
        .map(|(name, ..)| (*name).to_owned())
        .collect();
    assert_eq!(known, tried, "every command is tried here");
    for (name, args, expected) in &acts_of {
        let words: Vec<&str> = name.split(' ').chain(args.iter().copied()).collect();
        place.json(&words, PASSWORD);
        let entries = watch.judge(name, "operator", None).await;
        assert_eq!(acts(&entries), *expected, "{name}");
    }
    // Done again, most change nothing; a prepared key alone is expired as well.
    for (words, expected) in [
        (
            vec!["key", "expire", "--seller", OWN, "--reason", "again"],
            &[][..],
        ),
        (vec!["key", "generate", "--seller", OWN], &["key.generated"]),
        (vec!["key", "prepare", "--seller", OWN], &["key.prepared"]),
        (vec!["key", "discard", "--seller", OWN], &["key.discarded"]),
        (vec!["key", "discard", "--seller", OWN], &[]),
    ] {
        place.json(&words, "");
        let entries = watch.judge(words.join(" "), "operator", None).await;
        assert_eq!(acts(&entries), expected, "{words:?}");
    }
}
