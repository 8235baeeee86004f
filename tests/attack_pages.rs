//! Attacks on the pages and on the people who use them, each told as what an attacker tries and what becomes of it.
//!
//! Never: an attack that was not seen to succeed once, on code that was broken for it.

mod content;
mod cross_site;
mod forgotten;
mod guesses;
mod kept_by_browsers;
mod limits;
mod links;
mod markup;
mod names_and_ways;
mod second_factor;
mod secrets_of_people;
mod sessions;
mod sign_in;

use crate::support::{binary::Place, client::Answer};

/// What an attacker's site is called.
const EVIL: &str = "evil.example";

/// A token of the right form that is nobody's.
const NOBODYS: &str = "0123456789abcdefghijABCDEFGHIJ0123456789abc";

/// Waits until the database holds so many failures to sign in; each is there under its account, and in the same moment under its
/// client.
async fn until_failures(place: &Place, wanted: i64) {
    let sql = format!(
        "SELECT 1 FROM (SELECT COUNT(*) AS n FROM sign_in_failures WHERE subject LIKE 'email:%') AS failures WHERE n >= {wanted}"
    );
    place.until("as many failures", sql).await;
}

/// Everything that an answer says, headers and all, in lower case.
fn whole(answer: &Answer) -> String {
    let mut text = String::new();
    for (name, value) in &answer.headers {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        text += &format!("{name}: {value}\n");
    }
    (text + "\n" + &answer.text).to_lowercase()
}

/// An element's opening or closing tag as a browser reads it.
#[derive(Debug)]
struct Tag {
    name: String,
    attributes: Vec<(String, String)>,
}

/// The tags of a page, and what stands in its scripts and styles. It reads as leniently as a browser does: whatever opens a
/// tag is one, quotes or not.
fn tags(html: &str) -> Vec<Tag> {
    let mut tags = Vec::new();
    let mut rest = html;
    while let Some(at) = rest.find('<') {
        rest = &rest[at + 1..];
        let begins = |c: char| c.is_ascii_alphabetic() || c == '/' || c == '!' || c == '?';
        if !rest.starts_with(begins) {
            continue;
        }
        let ends = |c: char| c.is_ascii_whitespace() || c == '>' || c == '/';
        let end = rest[1..].find(ends).map(|at| at + 1);
        let (name, mut inside) = rest.split_at(end.unwrap_or(rest.len()));
        let mut attributes = Vec::new();
        loop {
            inside = inside.trim_start_matches(|c: char| c.is_ascii_whitespace() || c == '/');
            if inside.is_empty() || inside.starts_with('>') {
                break;
            }
            let ends = |c: char| c.is_ascii_whitespace() || c == '>' || c == '=';
            let end = inside[1..].find(ends).map_or(inside.len(), |at| at + 1);
            let (attribute, after) = inside.split_at(end);
            let after = after.trim_start();
            let Some(value) = after.strip_prefix('=') else {
                attributes.push((attribute.to_lowercase(), String::new()));
                inside = after;
                continue;
            };
            let value = value.trim_start();
            let (value, after) = match value.chars().next() {
                Some(quote @ ('"' | '\'')) => {
                    value[1..].split_once(quote).unwrap_or((&value[1..], ""))
                }
                _ => {
                    let ends = |c: char| c.is_ascii_whitespace() || c == '>';
                    value.split_at(value.find(ends).unwrap_or(value.len()))
                }
            };
            attributes.push((attribute.to_lowercase(), value.to_owned()));
            inside = after;
        }
        rest = inside;
        tags.push(Tag {
            name: name.to_lowercase(),
            attributes,
        });
    }
    tags
}

/// What is wrong with a page that shall run and load nothing but its own two files.
fn complaints(html: &str) -> Vec<String> {
    /// Elements that load, run or restyle something, or change what the page's addresses mean.
    const FORBIDDEN: [&str; 19] = [
        "style", "iframe", "frame", "frameset", "object", "embed", "applet", "img", "math", "base",
        "audio", "video", "source", "track", "picture", "portal", "template", "image", "marquee",
    ];
    let mut complaints = Vec::new();
    let mut scripts = 0;
    for tag in tags(html) {
        let told = format!("{tag:?}");
        let mut complain = |what: &str| complaints.push(format!("{what}: {told}"));
        // The bars of a chart are drawn; an image of any other kind is not ours.
        const CHART: [&str; 4] = ["viewbox", "preserveaspectratio", "role", "aria-label"];
        let names = tag.attributes.iter().map(|(name, _)| name.as_str());
        let is_chart = tag.name != "svg" || names.eq(CHART);
        if FORBIDDEN.contains(&tag.name.as_str()) || !is_chart {
            complain("an element that has no place here");
        }
        let get = |name: &str| {
            let found = tag.attributes.iter().find(|(n, _)| n == name);
            found.map(|(_, value)| value.as_str())
        };
        if tag.name == "script" {
            scripts += 1;
            if !get("src").is_some_and(|src| src.starts_with("/static/app-")) {
                complain("a script that is not the page's");
            }
        }
        if tag.name == "link" && !get("href").is_some_and(|to| to.starts_with("/static/")) {
            complain("a file from elsewhere");
        }
        if tag.name == "meta" && get("http-equiv").is_some() {
            complain("a header in the page");
        }
        for (name, value) in &tag.attributes {
            if name.starts_with("on") || name == "style" || name == "srcdoc" || name == "ping" {
                complain("an attribute that runs or restyles");
            }
            let leads = ["href", "action", "formaction", "src", "data-once"].contains(&&**name);
            let own = value.starts_with('/') && !value.starts_with("//")
                || value.starts_with('#')
                || tag.name == "a" && value.starts_with("mailto:");
            if leads && !own {
                complain("leads or loads elsewhere");
            }
        }
    }
    if scripts != 1 || !html.contains("defer></script>") {
        complaints.push(format!("{scripts} scripts, or one with something in it"));
    }
    complaints
}

fn assert_plain(html: &str, told: impl std::fmt::Display) {
    let complaints = complaints(html);
    assert!(
        complaints.is_empty(),
        "{told}:\n{}\n{html}",
        complaints.join("\n")
    );
}

#[test]
fn the_judge_of_pages_sees_what_does_not_belong() {
    let good = "<html><script src=\"/static/app-1.js\" defer></script><a href=\"/x\">a < b</a>";
    assert_eq!(complaints(good), Vec::<String>::new());
    let chart = "<svg viewBox=\"0 0 1 1\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"3\"><rect/></svg>";
    assert_eq!(complaints(&format!("{good}{chart}")), Vec::<String>::new());
    for bad in [
        "<script>alert(1)</script>",
        "<ScRiPt src=//evil.example></script>",
        "<a href=javascript:alert(1)>",
        "<a href = ' javascript:alert(1)'>",
        "<a href='//evil.example'>",
        "<p title=\"x\"onclick=\"alert(1)\">",
        "<p/onclick=alert(1)>",
        "<input value=\"\" autofocus onfocus=alert(1)>",
        "<img src=x onerror=alert(1)>",
        "<svg/onload=alert(1)>",
        "<svg><use href=\"#x\"></svg>",
        "<svg viewBox=\"0 0 1 1\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"x\" onload=alert(1)>",
        "<p style=\"x\">",
        "<style>*{}</style>",
        "<form action=\"https://evil.example\">",
        "<button formaction=\"https://evil.example\">",
        "<link rel=stylesheet href=https://evil.example/x.css>",
        "<base href=\"/x\">",
        "<meta http-equiv=refresh content=0>",
        "<iframe src=\"/\">",
    ] {
        assert!(!complaints(&format!("{good}{bad}")).is_empty(), "{bad}");
    }
}
