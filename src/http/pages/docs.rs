//! `/docs`: the documents for whoever writes an integration, the same as in the repository's `docs/`, for everybody.
//!
//! They are compiled in and rendered once, by `markdown`. The documents are written for any marketplace: where they say
//! `https://truckradar.example` a page says this server's address, and where they name one of SPEC's two addresses to write
//! to, `security@truckradar.ai` and `sales@truckradar.ai`, a page names the configured one. That is done for each request,
//! in the finished HTML, where these three stand as they are written.
//!
//! The operator's own document (`docs/operating.md`) is not served: whoever may need it has it beside the program. How the
//! promise about dead keys is kept on several nodes (`docs/scaling.md`) is: whoever relies on it may want to know.
//!
//! Never: anything that needs a sign-in; a word about one Seller.

use std::sync::{Arc, LazyLock};

use askama::Template;
use axum::{
    extract::{Path, State as Shared},
    http::StatusCode,
    response::{IntoResponse, Response},
};

use super::{
    super::{State, caller::Browser, problem::Problem},
    Page, Shell,
    markdown::{self, Document, EXAMPLE_URL},
    shell::Section,
};
use crate::services::Settings;

const SECURITY_CONTACT: &str = "security@truckradar.ai";
const SALES_CONTACT: &str = "sales@truckradar.ai";

/// A document, by the name that it has in `docs/` and under `/docs/`.
struct Source {
    name: &'static str,
    /// What one finds there, for the index.
    about: &'static str,
    markdown: &'static str,
}

/// In the order in which they are best read.
const SOURCES: [Source; 11] = [
    Source {
        name: "quickstart",
        about: "From a new account to the first unit listed, in six steps. Start here.",
        markdown: include_str!("../../../docs/quickstart.md"),
    },
    Source {
        name: "authentication",
        about: "Getting an API key, sending it, replacing it, and what to do when it has leaked. For whoever looks after the key.",
        markdown: include_str!("../../../docs/authentication.md"),
    },
    Source {
        name: "leaks",
        about: "What to do when a key has leaked, what happens by itself, how to hand in a key that you found, and how scanners tell one.",
        markdown: include_str!("../../../docs/leaks.md"),
    },
    Source {
        name: "accounts",
        about: "Signing in, the second factor, a forgotten password, and who may do what. For everybody with a sign-in.",
        markdown: include_str!("../../../docs/accounts.md"),
    },
    Source {
        name: "inventory",
        about: "Sending, reading, ending and searching units, one by one or 500 at a time, with every field.",
        markdown: include_str!("../../../docs/inventory.md"),
    },
    Source {
        name: "dealers",
        about: "What a dealer says of itself, and its locations.",
        markdown: include_str!("../../../docs/dealers.md"),
    },
    Source {
        name: "platforms",
        about: "One key for many dealers: giving a platform access and taking it away, and calling for a dealer by name.",
        markdown: include_str!("../../../docs/platforms.md"),
    },
    Source {
        name: "errors",
        about: "Every error code and every reason of a 401: what it means and what to do. For when something fails.",
        markdown: include_str!("../../../docs/errors.md"),
    },
    Source {
        name: "limits",
        about: "Every limit with its number: fair use, sizes, times, and what is kept for how long. Read it before you go live.",
        markdown: include_str!("../../../docs/limits.md"),
    },
    Source {
        name: "scaling",
        about: "How this server keeps its promise about dead keys on any number of nodes, what that assumes and costs. For whoever runs one.",
        markdown: include_str!("../../../docs/scaling.md"),
    },
    Source {
        name: "security",
        about: "What somebody may try, what stops it, and the test that tries it. For whoever has to trust this server.",
        markdown: include_str!("../../../docs/security.md"),
    },
];

static DOCUMENTS: LazyLock<Vec<Document>> = LazyLock::new(|| {
    let contacts = [SECURITY_CONTACT, SALES_CONTACT];
    SOURCES
        .iter()
        .map(|source| markdown::render(source.markdown, path_of, &contacts))
        .collect()
});

/// Where a document is served, if it is.
fn path_of(name: &str) -> Option<String> {
    let served = SOURCES.iter().any(|source| source.name == name);
    served.then(|| format!("/docs/{name}"))
}

/// One page, as the navigation and the index show it.
struct Entry {
    path: String,
    title: &'static str,
    about: &'static str,
    is_this: bool,
}

/// All pages in their order; `this` is the one that is shown.
fn entries(this: Option<usize>) -> Vec<Entry> {
    let pages = SOURCES.iter().zip(DOCUMENTS.iter()).enumerate();
    pages
        .map(|(at, (source, document))| Entry {
            path: format!("/docs/{}", source.name),
            title: &document.title,
            about: source.about,
            is_this: this == Some(at),
        })
        .collect()
}

#[derive(Template)]
#[template(path = "docs_index.html")]
struct IndexPage<'a> {
    shell: Shell,
    pages: Vec<Entry>,
    base_url: &'a str,
    security_contact: &'a str,
    sales_contact: &'a str,
}

#[derive(Template)]
#[template(path = "docs.html")]
struct DocumentPage {
    shell: Shell,
    pages: Vec<Entry>,
    sections: &'static [markdown::Section],
    html: String,
    next: Option<(String, &'static str)>,
}

/// What there is to read, and whom to write to.
pub async fn index(Shared(state): Shared<Arc<State>>, browser: Browser) -> Response {
    let settings = &state.services.settings;
    Page(IndexPage {
        shell: Shell::open("Documentation", Section::Docs, browser.session.as_ref()),
        pages: entries(None),
        base_url: &settings.base_url,
        security_contact: &settings.security_contact,
        sales_contact: &settings.sales_contact,
    })
    .into_response()
}

/// One document.
pub async fn page(
    Shared(state): Shared<Arc<State>>,
    browser: Browser,
    Path(name): Path<String>,
) -> Result<Response, Problem> {
    let at = SOURCES.iter().position(|source| source.name == name);
    let Some((at, document)) = at.and_then(|at| Some((at, DOCUMENTS.get(at)?))) else {
        return Err(Problem::new(
            StatusCode::NOT_FOUND,
            "There is no such page",
            "The documentation has no page of this name. Its first page lists all that there are.",
        )
        .with_way_on("/docs", "Go to the documentation"));
    };
    let pages = entries(Some(at));
    let next = pages.get(at + 1);
    Ok(Page(DocumentPage {
        shell: Shell::open(&document.title, Section::Docs, browser.session.as_ref()),
        sections: &document.sections,
        html: localised(&document.html, &state.services.settings),
        next: next.map(|next| (next.path.clone(), next.title)),
        pages,
    })
    .into_response())
}

/// A page's inside with this server's address and contacts. In one pass: what was put in is not looked at again.
fn localised(html: &str, settings: &Settings) -> String {
    let words = [
        (EXAMPLE_URL, markdown::attribute(&settings.base_url)),
        (
            SECURITY_CONTACT,
            markdown::attribute(&settings.security_contact),
        ),
        (SALES_CONTACT, markdown::attribute(&settings.sales_contact)),
    ];
    let mut out = String::with_capacity(html.len());
    let mut rest = html;
    loop {
        let found = words
            .iter()
            .filter_map(|(word, own)| Some((rest.find(word)?, *word, own)));
        let Some((at, word, own)) = found.min_by_key(|(at, ..)| *at) else {
            break;
        };
        out.push_str(&rest[..at]);
        out.push_str(own);
        rest = &rest[at + word.len()..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::{
        super::super::error::{Code, Reason},
        *,
    };

    /// The part of a page between the heading with this id and the next heading.
    fn entry<'a>(html: &'a str, id: &str) -> Option<&'a str> {
        let (_, rest) = html.split_once(&format!(" id=\"{id}\">"))?;
        let (_, text) = rest.split_once("</h")?;
        text.split("<h2").next()?.split("<h3").next()
    }

    /// The ids that errors link to, and which of them lack their entry, or an entry that says what to do.
    fn without_entry(html: &str, links: &[String]) -> Vec<String> {
        let is_told = |link: &&String| {
            let id = link.strip_prefix("/docs/errors#");
            id.and_then(|id| entry(html, id))
                .is_some_and(|text| text.contains("<strong>What to do.</strong>"))
        };
        let missing = links.iter().filter(|link| !is_told(link));
        missing.cloned().collect()
    }

    #[test]
    fn every_code_and_every_reason_has_its_entry_with_a_remedy() {
        let at = SOURCES.iter().position(|source| source.name == "errors");
        let html = &DOCUMENTS[at.expect("a page of errors")].html;
        let codes = Code::ALL.iter().map(|code| code.docs());
        let reasons = Reason::ALL.iter().map(|reason| reason.docs());
        let links: Vec<String> = codes.chain(reasons).collect();
        assert!(links.len() >= 22, "{links:?}");
        assert_eq!(without_entry(html, &links), Vec::<String>::new());
        // The overview names each code too.
        for code in Code::ALL {
            let (name, status) = code.parts();
            let id = name.to_ascii_lowercase();
            let row = format!(
                "<a href=\"#{id}\"><code>{name}</code></a></span></td><td data-label=\"status\"><span>{}</span>",
                status.as_u16()
            );
            assert!(html.contains(&row), "{row}");
            let text = entry(html, &id).unwrap_or_default();
            assert!(
                text.contains(&format!("<p>Status {}", status.as_u16())),
                "{name}: {text}"
            );
        }
        // A new code would be noticed.
        let new = [
            "/docs/errors#teapot".to_owned(),
            "/docs/errors#overview".to_owned(),
        ];
        assert_eq!(without_entry(html, &new), new);
    }

    #[test]
    fn pages_speak_of_this_server() {
        let settings = Settings {
            base_url: "https://a.example".to_owned(),
            // Each the other's: a replaced word must not be replaced again.
            security_contact: SALES_CONTACT.to_owned(),
            sales_contact: SECURITY_CONTACT.to_owned(),
            ..Settings::default()
        };
        let html = format!("{EXAMPLE_URL}/x {SECURITY_CONTACT} {SALES_CONTACT}.");
        assert_eq!(
            localised(&html, &settings),
            format!("https://a.example/x {SALES_CONTACT} {SECURITY_CONTACT}.")
        );
    }

    #[test]
    fn documents_hold_no_html_but_comments() {
        for source in SOURCES {
            for line in source.markdown.lines() {
                let is_comment = line.starts_with("<!-- ") && line.ends_with(" -->");
                assert!(
                    !line.starts_with('<') || is_comment,
                    "{}: {line}",
                    source.name
                );
            }
        }
    }
}
