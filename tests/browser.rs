//! The browser that other stories use, held to a few pages of which everything is known: what it shows, what it waits
//! for, what it finds wrong, and that nothing is left of it. The pages stand under a policy that allows next to nothing.
//!
//! Never: a page of the product, whose stories stand elsewhere; a rule of the harness that is not shown its opposite.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
};

use crate::support::browser::{Browser, Gallery, Options, Scheme, WIDTHS, complaints};

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; form-action 'self'";

const STYLE: &str = "body { background: #fff; color: #111; min-height: 3000px } a { color: inherit } \
                     .pale { color: #ddd } .folded { display: none } \
                     @media (prefers-color-scheme: dark) { body { background: #111; color: #eee } }";

const SCRIPT: &str = "document.getElementById('script').textContent = 'The script runs';\
                      document.getElementById('count').addEventListener('click', event => {\
                      event.target.textContent = 'Counted'; });";

const HEAD: &str = "<meta charset=utf-8><meta name=viewport content='width=device-width'>\
                    <link rel=stylesheet href=/style.css>";

const GOOD: &str = "<main><h1>Good page</h1><p id=script></p>\
                    <noscript>There is no script <a href=/second>Go on</a></noscript>\
                    <form method=post action=/sent><label>Name <input name=who value=nobody></label>\
                    <label>Size <select name=size><option>small<option>large</select></label>\
                    <label class=folded>Old name <input name=who></label><button>Send\n now</button></form>\
                    <form method=post action=/kept><button aria-label='Keep this page'>Keep</button></form>\
                    <button id=count>Count</button> <a href=/second>Next page</a>\
                    <a class=folded href=/broken>Next page</a></main><script src=/script.js></script>";

/// A server of fixed pages, for as long as this value lives.
struct Pages {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    server: Option<JoinHandle<()>>,
}

impl Pages {
    fn serve() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let stop = Arc::new(AtomicBool::new(false));
        let (sent, stopped) = (Arc::new(AtomicUsize::new(0)), stop.clone());
        let server = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let (Ok(stream), sent) = (stream, sent.clone()) else {
                    continue;
                };
                // A browser opens connections ahead of time, on which nothing comes for long: none may hold up another.
                std::thread::spawn(move || answer(&stream, &sent));
            }
        });
        Self {
            address,
            stop,
            server: Some(server),
        }
    }

    fn browser(&self) -> Options {
        Options::at(self.address)
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // The last connection lets it see that it is to stop.
        let _ = TcpStream::connect(self.address);
        if let Some(server) = self.server.take() {
            let _ = server.join();
        }
    }
}

/// Reads one request and answers it. Whatever fails is a browser that has gone.
fn answer(mut stream: &TcpStream, sent: &AtomicUsize) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut first = String::new();
    reader.read_line(&mut first).ok()?;
    let (mut length, mut known) = (0, false);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let line = line.trim().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        known |= line.starts_with("cookie:") && line.contains("kept=yes");
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;

    let page = |body: &str| {
        format!(
            "<!doctype html><html lang=en><head>{HEAD}<title>A page</title></head><body>{body}</body></html>"
        )
    };
    let mut more = String::new();
    let (mut status, mut kind) = ("200 OK", "text/html; charset=utf-8");
    let mut words = first.split(' ');
    let text = match (words.next()?, words.next()?) {
        ("GET", "/good") => page(GOOD),
        ("GET", "/second") if known => page("<main><h1>Second page, kept</h1></main>"),
        ("GET", "/second") => page("<main><h1>Second page</h1></main>"),
        ("GET", "/style.css") => {
            kind = "text/css";
            STYLE.to_owned()
        }
        ("GET", "/script.js") => {
            kind = "text/javascript";
            SCRIPT.to_owned()
        }
        ("GET", "/refused") => {
            status = "422 Unprocessable Content";
            page("<main><h1>Refused</h1></main>")
        }
        ("GET", "/inline") => {
            page("<main><h1>Inline</h1></main><script>document.title = 'It ran'</script>")
        }
        ("GET", "/incomplete") => {
            page("<main><h1>Incomplete</h1></main><script src=/missing.js></script>")
        }
        ("GET", "/broken") => {
            page("<main><h1>Broken</h1><img src=/style.css><p class=pale>Pale</p></main>")
        }
        ("POST", "/sent") => {
            let number = sent.fetch_add(1, Ordering::Relaxed) + 1;
            let fields: Vec<String> = form_urlencoded::parse(&body)
                .map(|(name, value)| format!("{name} is {value}"))
                .collect();
            page(&format!(
                "<main><h1>Number {number}: {}</h1></main>",
                fields.join(", ")
            ))
        }
        ("POST", "/kept") => {
            status = "303 See Other";
            more = "Location: /second\r\nSet-Cookie: kept=yes; HttpOnly; SameSite=Strict\r\n"
                .to_owned();
            String::new()
        }
        _ => {
            status = "404 Not Found";
            page("<main><h1>No such page</h1></main>")
        }
    };
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nContent-Security-Policy: {POLICY}\r\n\
         Cache-Control: no-store\r\nConnection: close\r\n{more}\r\n{text}",
        text.len()
    )
    .ok()
}

#[tokio::test]
async fn a_person_finds_their_way_by_names_and_back_again_in_two_tabs() {
    let pages = Pages::serve();
    let browser = Browser::start(pages.browser()).await;
    browser.goto("/good").await;
    let text = browser.text().await;
    assert!(text.contains("The script runs"), "{text}");
    assert!(!text.contains("There is no script"), "{text}");
    browser.click("Count").await;
    assert!(browser.text().await.contains("Counted"));

    // Both would be two if what is hidden counted.
    browser.fill("who", "Jane & Co.").await;
    browser.fill("size", "large").await;
    browser.press("Send now").await;
    assert_eq!(browser.path().await, "/sent");
    assert_eq!(
        browser.text().await,
        "Number 1: who is Jane & Co., size is large, who is"
    );
    browser.reload().await;
    assert_eq!(
        browser.text().await,
        "Number 2: who is Jane & Co., size is large, who is"
    );

    browser.back().await;
    browser.press("Next page").await;
    assert_eq!(browser.text().await, "Second page");
    browser.back().await;
    assert_eq!(browser.path().await, "/good");
    browser.forward().await;
    assert_eq!(browser.path().await, "/second");

    let first = browser.tab().await;
    let second = browser.new_tab().await;
    browser.goto("/good").await;
    browser.press("Keep this page").await;
    assert_eq!(browser.text().await, "Second page, kept");
    browser.switch_to(&first).await;
    assert_eq!(browser.text().await, "Second page");
    browser.reload().await;
    assert_eq!(browser.text().await, "Second page, kept");
    browser.switch_to(&second).await;
    assert_eq!(browser.find("h1").await.text().await, "Second page, kept");
    let viewport = browser.find("meta[name=viewport]").await;
    let content = viewport.attribute("content").await;
    assert_eq!(content.as_deref(), Some("width=device-width"));
    assert_eq!(viewport.attribute("class").await, None);
}

#[tokio::test]
async fn without_javascript_a_page_is_another_and_still_leads_on() {
    let pages = Pages::serve();
    let browser = Browser::start(pages.browser().without_javascript()).await;
    browser.goto("/good").await;
    let text = browser.text().await;
    assert!(text.contains("There is no script"), "{text}");
    assert!(!text.contains("The script runs"), "{text}");
    browser.fill("who", "Jane").await;
    for number in 1..=3 {
        browser.press("Send now").await;
        let text = browser.text().await;
        assert!(
            text.starts_with(&format!("Number {number}: who is ")),
            "{text}"
        );
        browser.back().await;
    }
    browser.press("Go on").await;
    assert_eq!(browser.text().await, "Second page");
    browser.back().await;
    browser.press("Keep this page").await;
    assert_eq!(browser.text().await, "Second page, kept");
    browser
        .assert_no_console_errors("a script that never ran")
        .await;
}

#[tokio::test]
async fn light_and_dark_narrow_and_wide_are_seen_and_pictured() {
    const WHITE: &str = "rgba(255, 255, 255, 1)";
    const BLACK: &str = "rgba(17, 17, 17, 1)";
    let pages = Pages::serve();
    let mut browser = Browser::start(pages.browser().dark().width(360)).await;
    async fn background(browser: &Browser) -> String {
        let body = browser.find("body").await;
        body.css("background-color").await
    }
    browser.goto("/good").await;
    assert_eq!(background(&browser).await, BLACK);
    browser.set_scheme(Scheme::Light).await;
    assert_eq!(background(&browser).await, WHITE);
    browser.set_scheme(Scheme::Dark).await;
    browser.new_tab().await;
    browser.goto("/second").await;
    assert_eq!(
        background(&browser).await,
        BLACK,
        "a new tab looks as the other does"
    );
    assert_eq!(browser.find("html").await.width().await, 360.0);

    let folder = tempfile::Builder::new()
        .prefix("tr-")
        .tempdir()
        .expect("a folder");
    Gallery::into(folder.path())
        .take_all(&mut browser, "second")
        .await;
    assert_eq!(background(&browser).await, BLACK, "it looks as before");
    let mut seen = 0;
    for scheme in [Scheme::Light, Scheme::Dark] {
        for width in WIDTHS {
            let name = format!("second-{scheme}-{width}.png");
            let png = std::fs::read(folder.path().join(&name)).expect("a picture");
            let number =
                |at: usize| u32::from_be_bytes(png[at..at + 4].try_into().expect("four bytes"));
            assert_eq!(number(16), width, "{name}");
            assert!(number(20) >= 3000, "{name}: only {} high", number(20));
            seen += 1;
        }
    }
    assert_eq!(
        std::fs::read_dir(folder.path()).expect("a folder").count(),
        seen
    );
    Gallery::from_environment()
        .take_all(&mut browser, "harness")
        .await;
}

#[tokio::test]
async fn axe_and_the_console_name_what_is_wrong_and_nothing_else() {
    let pages = Pages::serve();
    let mut browser = Browser::start(pages.browser()).await;
    browser.goto("/good").await;
    browser.assert_accessible("the good page").await;
    browser.set_scheme(Scheme::Dark).await;
    browser.assert_accessible("the good page").await;
    browser.assert_no_console_errors("the good page").await;

    browser.set_scheme(Scheme::Light).await;
    browser.set_width(360).await;
    browser.goto("/broken").await;
    let said = complaints(&browser.axe().await).join("\n");
    for part in [
        "image-alt: ",
        "<img src=\"/style.css\">",
        "color-contrast: ",
        "class=\"pale\"",
    ] {
        assert!(said.contains(part), "{part} is not in:\n{said}");
    }
    let errors = browser.console_errors().await;
    assert!(
        errors.len() == 1 && errors[0].contains("Content Security Policy"),
        "the picture: {errors:?}"
    );

    browser.goto("/inline").await;
    let errors = browser.console_errors().await;
    assert!(
        errors.len() == 1 && errors[0].contains("inline script"),
        "the script: {errors:?}"
    );
    browser
        .assert_no_console_errors("what was told already")
        .await;
    // A page may well be answered with an error; what it is made of may not.
    browser.goto("/refused").await;
    browser
        .assert_no_console_errors("a page that refuses")
        .await;
    browser.goto("/incomplete").await;
    let errors = browser.console_errors().await;
    assert!(
        errors.len() == 1 && errors[0].contains("missing.js"),
        "the rest: {errors:?}"
    );
}

#[tokio::test]
async fn nothing_is_left_of_a_browser_even_when_its_driver_was_killed() {
    let pages = Pages::serve();
    for killed in [false, true] {
        let browser = Browser::start(pages.browser()).await;
        browser.goto("/good").await;
        let household = browser.household().clone();
        let living = household.living();
        for part in ["chromedriver (", "chromium (", "crashpad"] {
            assert!(
                living.iter().any(|name| name.contains(part)),
                "{part}: {living:?}"
            );
        }
        if killed {
            let pid = browser.driver_pid().to_string();
            let sent = Command::new("kill").args(["-KILL", &pid]).status();
            assert!(sent.expect("kill runs").success());
        }
        drop(browser);
        assert_eq!(household.living(), [""; 0]);
        assert!(!household.folder().exists());
    }
}
