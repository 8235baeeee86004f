//! Turns one of our own documents into the inside of a page: headings get the ids that GitHub gives them, so that a link in
//! a document works there and here; examples get a button that copies them; a table knows its columns by name, so that it
//! can become cards on a narrow screen; addresses to write to become links.
//!
//! A link to another document becomes one to its page. A link to what is not served, such as the operator's own document,
//! loses its link and keeps its text.
//!
//! Never: a document that somebody else wrote; HTML of a document passed through: a comment is left out, and anything else
//! is shown as the text that it is.

use std::collections::HashMap;

use pulldown_cmark::{
    CodeBlockKind, CowStr, Event, HeadingLevel, LinkType, Options, Parser, Tag, TagEnd,
    TextMergeStream, html,
};

/// What stands for a marketplace's own address in the documents.
pub const EXAMPLE_URL: &str = "https://truckradar.example";

/// A document as a page needs it.
pub struct Document {
    /// Its first heading.
    pub title: String,
    /// The inside of its page.
    pub html: String,
    /// Its main sections.
    pub sections: Vec<Section>,
}

/// A main section.
#[derive(Debug, PartialEq, Eq)]
pub struct Section {
    /// What a link to it ends in.
    pub id: String,
    /// Its heading.
    pub title: String,
}

/// See the module. `page` says where a document of this name is served, if it is; `contacts` are the addresses to write to.
pub fn render(
    markdown: &str,
    page: impl Fn(&str) -> Option<String>,
    contacts: &[&str],
) -> Document {
    let parser = Parser::new_ext(markdown, Options::ENABLE_TABLES);
    let mut writer = Writer {
        page,
        contacts,
        slugs: Slugs::default(),
        out: Vec::new(),
        title: String::new(),
        sections: Vec::new(),
        heading: String::new(),
        examples: 0,
        in_link: false,
        drop_link_end: false,
    };
    let mut events = TextMergeStream::new(parser);
    while let Some(event) = events.next() {
        writer.block(event, &mut events);
    }
    let mut html = String::with_capacity(markdown.len() * 2);
    html::push_html(&mut html, writer.out.into_iter());
    Document {
        title: writer.title,
        html,
        sections: writer.sections,
    }
}

struct Writer<'a, P> {
    page: P,
    contacts: &'a [&'a str],
    slugs: Slugs,
    out: Vec<Event<'a>>,
    title: String,
    sections: Vec<Section>,
    /// The heading under which we are.
    heading: String,
    examples: usize,
    in_link: bool,
    drop_link_end: bool,
}

impl<'a, P: Fn(&str) -> Option<String>> Writer<'a, P> {
    fn block(&mut self, event: Event<'a>, events: &mut impl Iterator<Item = Event<'a>>) {
        match event {
            Event::Start(Tag::Heading { level, .. }) => self.heading(level, events),
            Event::Start(Tag::CodeBlock(kind)) => self.example(&kind, events),
            Event::Start(Tag::Table(_)) => self.table(events),
            other => self.inline(other),
        }
    }

    fn raw(&mut self, html: String) {
        self.out.push(Event::Html(html.into()));
    }

    fn heading(&mut self, level: HeadingLevel, events: &mut impl Iterator<Item = Event<'a>>) {
        let inside: Vec<Event<'a>> = events
            .take_while(|event| !matches!(event, Event::End(TagEnd::Heading(_))))
            .collect();
        let title = plain(&inside);
        let id = self.slugs.take(&title);
        self.raw(format!("<{level} id=\"{}\">", attribute(&id)));
        // A link in a heading would take its address to write to for one, too.
        self.in_link = true;
        for event in inside {
            self.inline(event);
        }
        self.in_link = false;
        self.raw(format!("</{level}>\n"));
        match level {
            HeadingLevel::H1 => self.title.clone_from(&title),
            HeadingLevel::H2 => self.sections.push(Section {
                id,
                title: title.clone(),
            }),
            _ => {}
        }
        self.heading = title;
    }

    fn example(&mut self, kind: &CodeBlockKind<'a>, events: &mut impl Iterator<Item = Event<'a>>) {
        let language = match kind {
            CodeBlockKind::Fenced(language) => language.as_ref(),
            CodeBlockKind::Indented => "",
        };
        let mut text = String::new();
        for event in events {
            match event {
                Event::Text(part) => text.push_str(&part),
                Event::End(TagEnd::CodeBlock) => break,
                _ => {}
            }
        }
        let text = text.trim_end();
        self.examples += 1;
        let id = format!("example-{}", self.examples);
        let lines = text.lines().count();
        let what = match language {
            "sh" => "curl call",
            "ts" => "TypeScript",
            "python" => "Python",
            "rust" => "Rust",
            "json" => "JSON",
            "console" if lines > 1 => "commands",
            "console" => "command",
            _ => "text",
        };
        let label = attribute(&format!("{what}: {}", self.heading));
        self.raw(format!(
            "<div class=\"code\"><pre id=\"{id}\" class=\"{}\" tabindex=\"0\" role=\"group\" aria-label=\"{label}\"><code>",
            if language == "json" { "wraps" } else { "keeps" }
        ));
        if language == "console" {
            // The prompt is drawn by the stylesheet, so that it is not copied.
            for (number, line) in text.lines().enumerate() {
                if number > 0 {
                    self.out.push(Event::Text("\n".into()));
                }
                match line.strip_prefix("$ ") {
                    Some(command) => {
                        self.raw("<span class=\"command\">".to_owned());
                        self.out.push(Event::Text(command.to_owned().into()));
                        self.raw("</span>".to_owned());
                    }
                    None => self.out.push(Event::Text(line.to_owned().into())),
                }
            }
        } else {
            self.out.push(Event::Text(text.to_owned().into()));
        }
        self.raw(format!(
            "</code></pre><button type=\"button\" class=\"small\" data-copy=\"{id}\" hidden>Copy {what}</button></div>\n"
        ));
    }

    fn table(&mut self, events: &mut impl Iterator<Item = Event<'a>>) {
        self.raw(format!(
            "<table aria-label=\"{}\">",
            attribute(&self.heading)
        ));
        let mut columns: Vec<String> = Vec::new();
        let mut in_head = false;
        let mut column = 0;
        for event in events {
            match event {
                Event::Start(Tag::TableHead) => {
                    in_head = true;
                    self.raw("<thead><tr>".to_owned());
                }
                Event::End(TagEnd::TableHead) => {
                    in_head = false;
                    self.raw("</tr></thead>\n<tbody>\n".to_owned());
                }
                Event::Start(Tag::TableRow) => {
                    column = 0;
                    self.raw("<tr>".to_owned());
                }
                Event::End(TagEnd::TableRow) => self.raw("</tr>\n".to_owned()),
                Event::Start(Tag::TableCell) if in_head => {
                    columns.push(String::new());
                    self.raw("<th scope=\"col\">".to_owned());
                }
                Event::End(TagEnd::TableCell) if in_head => self.raw("</th>".to_owned()),
                Event::Start(Tag::TableCell) => {
                    let name = columns.get(column).map(String::as_str).unwrap_or_default();
                    column += 1;
                    // One element holds the whole text beside the column's name.
                    self.raw(format!("<td data-label=\"{}\"><span>", attribute(name)));
                }
                Event::End(TagEnd::TableCell) => self.raw("</span></td>".to_owned()),
                Event::End(TagEnd::Table) => break,
                other => {
                    if let (true, Some(name)) = (in_head, columns.last_mut()) {
                        name.push_str(&plain(std::slice::from_ref(&other)));
                    }
                    self.inline(other);
                }
            }
        }
        self.raw("</tbody></table>\n".to_owned());
    }

    fn inline(&mut self, event: Event<'a>) {
        match event {
            Event::Html(html) | Event::InlineHtml(html) => {
                if !html.trim_start().starts_with("<!--") {
                    self.out.push(Event::Text(html));
                }
            }
            Event::Start(Tag::HtmlBlock) | Event::End(TagEnd::HtmlBlock) => {}
            Event::Start(Tag::Link { dest_url, .. }) => match self.target(&dest_url) {
                Some(target) => {
                    self.in_link = true;
                    self.out.push(link(target.into()));
                }
                None => self.drop_link_end = true,
            },
            Event::End(TagEnd::Link) => {
                self.in_link = false;
                if !std::mem::take(&mut self.drop_link_end) {
                    self.out.push(Event::End(TagEnd::Link));
                }
            }
            Event::Text(text) if !self.in_link => self.text(text),
            other => self.out.push(other),
        }
    }

    /// A text in which an address to write to becomes a link.
    fn text(&mut self, text: CowStr<'a>) {
        let mut rest: &str = &text;
        while let Some((at, contact)) = first_of(rest, self.contacts) {
            self.out.push(Event::Text(rest[..at].to_owned().into()));
            self.out.push(link(format!("mailto:{contact}").into()));
            self.out.push(Event::Text(contact.to_owned().into()));
            self.out.push(Event::End(TagEnd::Link));
            rest = &rest[at + contact.len()..];
        }
        self.out.push(Event::Text(rest.to_owned().into()));
    }

    /// Where a link of a document leads on the site; nowhere if what it leads to is not served.
    fn target(&self, link: &str) -> Option<String> {
        if let Some(path) = link.strip_prefix(EXAMPLE_URL) {
            return Some(if path.is_empty() { "/" } else { path }.to_owned());
        }
        if link.starts_with(['#', '/']) || link.contains(':') {
            return Some(link.to_owned());
        }
        let (file, section) = match link.split_once('#') {
            Some((file, section)) => (file, Some(section)),
            None => (link, None),
        };
        let path = (self.page)(file.strip_suffix(".md")?)?;
        Some(match section {
            Some(section) => format!("{path}#{section}"),
            None => path,
        })
    }
}

fn link<'a>(to: CowStr<'a>) -> Event<'a> {
    Event::Start(Tag::Link {
        link_type: LinkType::Inline,
        dest_url: to,
        title: "".into(),
        id: "".into(),
    })
}

fn first_of<'a>(text: &str, words: &[&'a str]) -> Option<(usize, &'a str)> {
    let found = words
        .iter()
        .filter_map(|word| Some((text.find(word)?, *word)));
    found.min_by_key(|(at, _)| *at)
}

/// What somebody reads who sees no markup.
fn plain(events: &[Event<'_>]) -> String {
    let mut text = String::new();
    for event in events {
        match event {
            Event::Text(part) | Event::Code(part) => text.push_str(part),
            Event::SoftBreak | Event::HardBreak => text.push(' '),
            _ => {}
        }
    }
    text
}

/// As a text stands in an attribute.
pub fn attribute(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

/// Ids of headings, by GitHub's rule: lower case; letters, digits, `_` and `-` stay, blanks become `-`, the rest goes; one
/// that was there before gets a number.
#[derive(Default)]
struct Slugs(HashMap<String, usize>);

impl Slugs {
    fn take(&mut self, heading: &str) -> String {
        let slug: String = heading
            .to_lowercase()
            .chars()
            .filter_map(|c| match c {
                ' ' | '-' => Some('-'),
                c if c.is_alphanumeric() || c == '_' => Some(c),
                _ => None,
            })
            .collect();
        let before = self.0.entry(slug.clone()).or_default();
        *before += 1;
        match *before {
            1 => slug,
            more => format!("{slug}-{}", more - 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(markdown: &str) -> Document {
        let page = |name: &str| (name == "errors").then(|| "/docs/errors".to_owned());
        render(markdown, page, &["security@truckradar.ai"])
    }

    #[test]
    fn headings_get_the_ids_that_github_gives_them() {
        let document = rendered(
            "# The *whole* `thing`\n\n## 1. Get a key\n\n## What can't be: a/b\n\n### VALIDATION_ERROR\n\n## What can't be: a/b\n",
        );
        assert_eq!(document.title, "The whole thing");
        let ids: Vec<&str> = document.sections.iter().map(|s| s.id.as_str()).collect();
        assert_eq!(ids, ["1-get-a-key", "what-cant-be-ab", "what-cant-be-ab-1"]);
        assert!(
            document
                .html
                .contains("<h3 id=\"validation_error\">VALIDATION_ERROR</h3>")
        );
        assert!(
            document
                .html
                .contains("<h1 id=\"the-whole-thing\">The <em>whole</em> <code>thing</code></h1>")
        );
    }

    #[test]
    fn links_lead_to_pages_and_what_is_not_served_keeps_its_text() {
        for (markdown, html) in [
            ("[a](#b)", "<a href=\"#b\">a</a>"),
            ("[a](errors.md)", "<a href=\"/docs/errors\">a</a>"),
            ("[a](errors.md#b)", "<a href=\"/docs/errors#b\">a</a>"),
            ("[`a`](operating.md#b) c", "<code>a</code> c"),
            ("[a](../SECURITY.md)", "a"),
            (
                "[a](https://truckradar.example/login)",
                "<a href=\"/login\">a</a>",
            ),
            (
                "[a](https://e.example/)",
                "<a href=\"https://e.example/\">a</a>",
            ),
            (
                "To security@truckradar.ai, now",
                "To <a href=\"mailto:security@truckradar.ai\">security@truckradar.ai</a>, now",
            ),
            (
                "`security@truckradar.ai`",
                "<code>security@truckradar.ai</code>",
            ),
        ] {
            assert_eq!(
                rendered(markdown).html,
                format!("<p>{html}</p>\n"),
                "{markdown}"
            );
        }
    }

    #[test]
    fn html_of_a_document_is_not_html_of_the_page() {
        let html = rendered(
            "a <b onclick=\"x\">c</b>\n\n<!-- expect 200 -->\n\n<script>\nalert(1)\n</script>\n",
        )
        .html;
        assert!(
            !html.contains("<b") && !html.contains("<script") && !html.contains("expect"),
            "{html}"
        );
        assert!(html.contains("&lt;script&gt;"), "{html}");
    }

    #[test]
    fn an_example_can_be_copied_without_its_prompt() {
        let html =
            rendered("# A \"b\"\n\n```console\n$ a < b\n$ c\n```\n\n```sh\ncurl 'x' <y>\n```\n")
                .html;
        assert!(html.contains("<code><span class=\"command\">a &lt; b</span>\n<span class=\"command\">c</span></code>"), "{html}");
        assert!(html.contains("<button type=\"button\" class=\"small\" data-copy=\"example-1\" hidden>Copy commands</button>"));
        assert!(html.contains("<pre id=\"example-2\" class=\"keeps\" tabindex=\"0\" role=\"group\" aria-label=\"curl call: A &quot;b&quot;\">"), "{html}");
        assert!(html.contains("curl 'x' &lt;y&gt;</code>"), "{html}");
    }

    #[test]
    fn a_tables_cells_know_their_column() {
        let html = rendered("# T\n\n| the `a` | b |\n|---|---|\n| 1 | [2](#x) |\n").html;
        assert!(
            html.contains(
                "<table aria-label=\"T\"><thead><tr><th scope=\"col\">the <code>a</code></th><th scope=\"col\">b</th></tr></thead>\n\
                 <tbody>\n<tr><td data-label=\"the a\"><span>1</span></td><td data-label=\"b\"><span><a href=\"#x\">2</a></span></td></tr>"
            ),
            "{html}"
        );
    }
}
