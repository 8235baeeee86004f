//! A browser as a person has it before them: Chromium, with or without JavaScript, light or dark, wide or narrow.
//!
//! Its methods wait for what they cause and fail the test by themselves, so that a story reads as one.
//!
//! Never: a look at a page through anything but the browser; a page judged while it is still on its way.

use std::{
    env, fmt,
    future::Future,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::OnceLock,
    time::{Duration, Instant},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use super::{
    chromium::{Chromedriver, Household},
    full,
    webdriver::{Answer, Element, Session},
};

/// The widths at which pages are looked at: a telephone, a tablet or small window, a large window.
pub const WIDTHS: [u32; 3] = [360, 1024, 1600];
/// Up to here a device is held in the hand, with the rules for pages that follow from it.
const MOBILE_UP_TO: u32 = 480;
/// Things on one page that the keyboard goes through at most.
const STEPS_MAX: usize = 100;
/// How long a page may take to come, on a machine busy with other tests.
const PATIENCE: Duration = Duration::from_secs(30);

/// Names the file `axe.min.js` of axe-core.
const AXE: &str = "TRUCKRADAR_TEST_AXE";
/// Names the folder that pictures are wanted in.
const SCREENSHOTS: &str = "TRUCKRADAR_TEST_SCREENSHOTS";

/// What can be pressed.
const PRESSABLE: &str = "button, a[href], summary, input[type=submit], input[type=button], input[type=image], \
                         [role=button], [role=link], [role=tab], [role=menuitem]";

/// The colours that a person has asked the system for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    Light,
    Dark,
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Scheme::Light => "light",
            Scheme::Dark => "dark",
        })
    }
}

/// Whose browser it is: by default one with JavaScript, light, and 1024 wide.
#[derive(Clone, Debug)]
pub struct Options {
    base: String,
    javascript: bool,
    scheme: Scheme,
    width: u32,
}

impl Options {
    /// A browser for the server at this address, which `/path` is then a page of.
    pub fn at(address: SocketAddr) -> Self {
        Self {
            base: format!("http://{address}"),
            javascript: true,
            scheme: Scheme::Light,
            width: WIDTHS[1],
        }
    }

    pub fn without_javascript(mut self) -> Self {
        self.javascript = false;
        self
    }

    pub fn dark(mut self) -> Self {
        self.scheme = Scheme::Dark;
        self
    }

    pub fn width(mut self, width: u32) -> Self {
        self.width = width;
        self
    }
}

/// A tab of a browser.
pub struct Tab(String);

/// A running browser with one session: its tabs share their cookies. It is closed when dropped.
pub struct Browser {
    options: Options,
    session: Session,
    process: Chromedriver,
}

impl Browser {
    pub async fn start(options: Options) -> Self {
        let mut process = Chromedriver::start();
        let mut wanted = json!({"args": process.arguments()});
        if !options.javascript {
            wanted["prefs"] = json!({"profile.managed_default_content_settings.javascript": 2});
        }
        let session = Session::open(process.url(), wanted).await;
        let session = session.unwrap_or_else(|error| panic!("chromium does not start: {error}"));
        process.keep_session(session.id());
        let browser = Self {
            options,
            session,
            process,
        };
        browser.apply_look().await;
        browser
    }

    // -----------------------------------------------------------------------------------------------------------------
    // What a person does.

    /// Opens a page of the server by its path, or any page by its whole address, and waits until it is loaded.
    pub async fn goto(&self, path: &str) {
        let address = match path.starts_with('/') {
            true => format!("{}{path}", self.options.base),
            false => path.to_owned(),
        };
        let opened = self.session.post("url", json!({"url": address})).await;
        opened.unwrap_or_else(|error| panic!("{address} does not open: {error}"));
    }

    /// Replaces what stands in the one visible field of this name; in a list, chooses the entry of this text.
    pub async fn fill(&self, name: &str, text: &str) {
        self.fill_in("body", name, text).await;
    }

    /// The same within the part of the page that `css` finds, where others have a field of this name too.
    pub async fn fill_in(&self, css: &str, name: &str, text: &str) {
        self.fill_at(&format!("{css} [name=\"{name}\"]"), text)
            .await;
    }

    /// The same with the one visible field that fits, where a name is not enough to tell it.
    pub async fn fill_at(&self, name: &str, text: &str) {
        let found = self.find_all(name).await;
        let field = self.only(found, &format!("field {name:?}")).await;
        if field.tag().await != "select" {
            let cleared = field.clear().await;
            cleared.unwrap_or_else(|error| panic!("{name:?} cannot be cleared: {error}"));
        }
        let typed = field.write(text).await;
        typed.unwrap_or_else(|error| panic!("{name:?} takes no text: {error}"));
    }

    /// Clicks the one visible button or link that is called `text` (as a screen reader would say it), and waits for the
    /// page that this leads to.
    pub async fn press(&self, text: &str) {
        let element = self.pressable(text).await;
        self.lead_on(&format!("pressing {text:?}"), element.click())
            .await;
    }

    /// The same by the keyboard alone: goes from one thing to the next until it is on what is called `text`, then presses
    /// Enter.
    pub async fn press_by_keyboard(&self, text: &str) {
        const ACTIVE: &str =
            "return document.activeElement.ariaLabel || document.activeElement.innerText || ''";
        let key = |key: &str| {
            json!({"actions": [{"type": "key", "id": "keyboard", "actions": [
                {"type": "keyDown", "value": key}, {"type": "keyUp", "value": key},
            ]}]})
        };
        for _ in 0..STEPS_MAX {
            let stepped = self.session.post("actions", key("\u{e004}")).await;
            stepped.expect("the keyboard works");
            let active = self.session.execute(ACTIVE).await.expect("a page");
            if active.as_str().is_some_and(|name| name.trim() == text) {
                let enter = self.session.post("actions", key("\u{e007}"));
                self.lead_on(&format!("Enter on {text:?}"), enter).await;
                return;
            }
        }
        panic!(
            "{text:?} is not reached by the keyboard on {}",
            self.path().await
        );
    }

    /// The same with the one visible button or link that fits, where a name is not enough to tell it.
    pub async fn press_at(&self, css: &str) {
        let found = self.find_all(css).await;
        let element = self.only(found, css).await;
        self.lead_on(&format!("pressing {css:?}"), element.click())
            .await;
    }

    /// The same where no other page follows: what is open already changes by itself, or refuses.
    pub async fn click(&self, text: &str) {
        let element = self.pressable(text).await;
        let clicked = element.click().await;
        clicked.unwrap_or_else(|error| panic!("{text:?} cannot be clicked: {error}"));
    }

    /// Loads the page anew, as a person who says yes when asked whether to send a form again.
    pub async fn reload(&self) {
        let reload = self.session.devtools("Page.reload", json!({}));
        self.lead_on("reloading", reload).await;
    }

    pub async fn back(&self) {
        let back = self.session.post("back", json!({}));
        self.lead_on("going back", back).await;
    }

    pub async fn forward(&self) {
        let forward = self.session.post("forward", json!({}));
        self.lead_on("going forward", forward).await;
    }

    /// The tab that is in front.
    pub async fn tab(&self) -> Tab {
        let tab = self.session.get("window").await.expect("a tab");
        Tab(tab.as_str().expect("its name").to_owned())
    }

    /// Opens an empty tab and brings it to the front.
    pub async fn new_tab(&self) -> Tab {
        let made = self
            .session
            .post("window/new", json!({"type": "tab"}))
            .await;
        let made = made.expect("another tab");
        let tab = Tab(made["handle"].as_str().expect("its name").to_owned());
        self.switch_to(&tab).await;
        tab
    }

    /// Brings a tab to the front, which looks as the last one did.
    pub async fn switch_to(&self, tab: &Tab) {
        let switched = self.session.post("window", json!({"handle": tab.0})).await;
        switched.expect("the tab is still open");
        self.apply_look().await;
    }

    pub async fn set_scheme(&mut self, scheme: Scheme) {
        self.options.scheme = scheme;
        self.apply_look().await;
    }

    pub async fn set_width(&mut self, width: u32) {
        self.options.width = width;
        self.apply_look().await;
    }

    // -----------------------------------------------------------------------------------------------------------------
    // What a person sees.

    /// The text of the page, as far as it is visible. Unlike an element's text it knows what stands in `noscript`,
    /// which drivers take for invisible even where no script runs.
    pub async fn text(&self) -> String {
        let text = self.session.execute("return document.body.innerText").await;
        let text = text.expect("a page");
        text.as_str().expect("text").trim().to_owned()
    }

    /// The page as the browser understood it.
    pub async fn source(&self) -> String {
        let source = self.session.get("source").await.expect("a page");
        source.as_str().expect("text").to_owned()
    }

    /// How wide the page is, with what is reached by scrolling sideways only.
    pub async fn scroll_width(&self) -> u64 {
        let script = "return document.documentElement.scrollWidth";
        let width = self.session.execute(script).await.expect("a page");
        width.as_u64().expect("a number")
    }

    /// What was copied last.
    pub async fn clipboard(&self) -> String {
        let allowed = json!({"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]});
        let allowed = self.session.devtools("Browser.grantPermissions", allowed);
        allowed.await.expect("may be read");
        let script = "const tell = arguments[arguments.length - 1];\
                      navigator.clipboard.readText().then(tell, error => tell(String(error)));";
        let text = self
            .session
            .execute_async(script)
            .await
            .expect("a clipboard");
        text.as_str().expect("text").to_owned()
    }

    /// The path of the page that is shown, with its query.
    pub async fn path(&self) -> String {
        let address = self.session.get("url").await.expect("an address");
        let address = address.as_str().expect("text");
        let path = address.strip_prefix(&self.options.base);
        path.unwrap_or(address).to_owned()
    }

    /// The first element that fits, which must be there.
    pub async fn find(&self, css: &str) -> Element {
        match self.find_all(css).await.into_iter().next() {
            Some(element) => element,
            None => panic!(
                "no {css:?} on {}:\n{}",
                self.path().await,
                self.source().await
            ),
        }
    }

    /// Every element that fits.
    pub async fn find_all(&self, css: &str) -> Vec<Element> {
        let found = self.session.find_all(css).await;
        found.unwrap_or_else(|error| panic!("{css:?}: {error}"))
    }

    /// What the page did wrong since this was last asked: errors of scripts, resources that are missing, and what the
    /// Content-Security-Policy did not allow. That a page itself was answered with an error status is no such thing.
    pub async fn console_errors(&self) -> Vec<String> {
        let log = self
            .session
            .post("se/log", json!({"type": "browser"}))
            .await;
        let log = log.expect("a log");
        let log = log.as_array().expect("entries");
        if log.is_empty() {
            return Vec::new();
        }
        let history = self
            .session
            .devtools("Page.getNavigationHistory", json!({}))
            .await;
        let history = history.expect("a history");
        let pages: Vec<&str> = history["entries"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|entry| entry["url"].as_str())
            .collect();
        let message = |entry: &Value| entry["message"].as_str().unwrap_or_default().to_owned();
        let answered_so = |entry: &Value| {
            let message = message(entry);
            let address = message.split(' ').next().unwrap_or_default();
            entry["source"] == "network" && pages.contains(&address)
        };
        log.iter()
            .filter(|entry| entry["level"] == "SEVERE" && !answered_so(entry))
            .map(message)
            .collect()
    }

    pub async fn assert_no_console_errors(&self, what: &str) {
        let errors = self.console_errors().await;
        assert!(errors.is_empty(), "{what}:\n{}", errors.join("\n"));
    }

    // -----------------------------------------------------------------------------------------------------------------
    // What a judge sees.

    /// What axe-core finds wrong with the page for people who see, hear or move differently. It needs a browser with
    /// JavaScript, and no policy of the page can keep it out.
    pub async fn axe(&self) -> Value {
        assert!(
            self.options.javascript,
            "axe-core cannot run in a browser without JavaScript"
        );
        let injected = self.session.execute(axe_source()).await;
        injected.expect("axe-core can be injected");
        let script = "const tell = arguments[arguments.length - 1];\
                      axe.run(document).then(found => tell({violations: found.violations}), \
                      error => tell({error: String(error)}));";
        let answer = self.session.execute_async(script).await;
        let answer = answer.expect("axe-core ends");
        assert!(answer["violations"].is_array(), "axe-core: {answer}");
        answer["violations"].clone()
    }

    /// Fails with every violation: its rule, what helps, and the elements.
    pub async fn assert_accessible(&self, what: &str) {
        let violations = self.axe().await;
        let complaints = complaints(&violations);
        assert!(
            complaints.is_empty(),
            "{what} ({}, {} wide) is not accessible:\n{}",
            self.options.scheme,
            self.options.width,
            complaints.join("\n")
        );
    }

    /// A picture of the whole page, down to its end, as wide as the window.
    pub async fn screenshot_full(&self, path: &Path) {
        let metrics = self
            .session
            .devtools("Page.getLayoutMetrics", json!({}))
            .await;
        let height = metrics.expect("metrics")["cssContentSize"]["height"].clone();
        let clip =
            json!({"x": 0, "y": 0, "width": self.options.width, "height": height, "scale": 1});
        let wanted = json!({"format": "png", "captureBeyondViewport": true, "clip": clip});
        let taken = self
            .session
            .devtools("Page.captureScreenshot", wanted)
            .await;
        let taken = taken.expect("a picture");
        let png = BASE64_STANDARD.decode(taken["data"].as_str().unwrap_or_default());
        std::fs::write(path, png.expect("base64"))
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }

    /// What runs for this browser.
    pub fn household(&self) -> &Household {
        self.process.household()
    }

    /// The process between the test and chromium.
    pub fn driver_pid(&self) -> u32 {
        self.process.pid()
    }

    // -----------------------------------------------------------------------------------------------------------------

    /// Colours and width belong to a tab, so each gets them when it comes to the front.
    async fn apply_look(&self) {
        let Options { scheme, width, .. } = self.options;
        let mobile = width <= MOBILE_UP_TO;
        let height = if mobile { 780 } else { width * 5 / 8 };
        let media =
            json!({"features": [{"name": "prefers-color-scheme", "value": scheme.to_string()}]});
        let metrics =
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile});
        for (command, parameters) in [
            ("Emulation.setEmulatedMedia", media),
            ("Emulation.setDeviceMetricsOverride", metrics),
        ] {
            let done = self.session.devtools(command, parameters).await;
            done.unwrap_or_else(|error| panic!("{command}: {error}"));
        }
    }

    /// Does something that leads to another page, and waits until that is loaded.
    async fn lead_on(&self, what: &str, act: impl Future<Output = Answer>) {
        let before = self.document().await;
        if let Err(error) = act.await {
            panic!("{what} on {}: {error}", self.path().await);
        }
        let end = Instant::now() + PATIENCE;
        // The driver's own waiting ends too soon when the browser has not begun to load yet. Each question is an
        // exchange with the browser, answered when it has loaded whatever it loads.
        while self.document().await == before {
            assert!(
                Instant::now() < end,
                "{what} leads nowhere: still {}\n{}",
                self.path().await,
                self.text().await
            );
            tokio::task::yield_now().await;
        }
    }

    /// Names the document that is shown: a page loaded again is another one, a page scrolled to a heading is the same.
    async fn document(&self) -> String {
        let tree = self.session.devtools("Page.getFrameTree", json!({})).await;
        let tree = tree.expect("a frame");
        let id = tree["frameTree"]["frame"]["loaderId"].as_str();
        id.expect("a document").to_owned()
    }

    async fn pressable(&self, text: &str) -> Element {
        let mut named = Vec::new();
        let mut names = Vec::new();
        for element in self.find_all(PRESSABLE).await {
            let name = element.label().await;
            if name == text {
                named.push(element);
            }
            names.push(name);
        }
        let what = format!("button or link {text:?} (there are {names:?})");
        self.only(named, &what).await
    }

    /// The one of these that is visible.
    async fn only(&self, found: Vec<Element>, what: &str) -> Element {
        let mut visible = Vec::new();
        for element in found {
            if element.is_displayed().await {
                visible.push(element);
            }
        }
        let count = visible.len();
        match visible.pop() {
            Some(element) if count == 1 => element,
            _ => panic!(
                "{count} times visible on {}: {what}\n{}",
                self.path().await,
                self.text().await
            ),
        }
    }
}

fn axe_source() -> &'static str {
    static SOURCE: OnceLock<String> = OnceLock::new();
    SOURCE.get_or_init(|| {
        let path = env::var(AXE).unwrap_or_else(|_| {
            panic!(
                "this test needs axe-core and {AXE} does not name its axe.min.js. Run `cargo xtask test`, which \
                 fetches it (`cargo xtask test --only {}` for few tests)",
                std::thread::current().name().unwrap_or("NAME")
            )
        });
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{AXE} names {path}: {error}"))
    })
}

/// Each violation of [`Browser::axe`] as lines for a person.
pub fn complaints(violations: &Value) -> Vec<String> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut complaints = Vec::new();
    for violation in list(violations) {
        let text = |name: &str| violation[name].as_str().unwrap_or_default().to_owned();
        let mut lines = vec![format!("{}: {}", text("id"), text("help"))];
        for node in list(&violation["nodes"]) {
            lines.push(format!("  {}", node["html"].as_str().unwrap_or_default()));
        }
        complaints.push(lines.join("\n"));
    }
    complaints
}

/// Pictures of pages for people to look at, if the environment names a folder for them; else none.
pub struct Gallery {
    folder: Option<PathBuf>,
}

impl Gallery {
    pub fn from_environment() -> Self {
        let folder = env::var_os(SCREENSHOTS).filter(|folder| !folder.is_empty());
        Self {
            folder: folder.map(PathBuf::from),
        }
    }

    pub fn into(folder: &Path) -> Self {
        Self {
            folder: Some(folder.to_owned()),
        }
    }

    /// Looks at the page as it may be shown: nothing scrolls sideways, and axe finds nothing. Light on a large window and dark
    /// on a telephone; in the full form both on both. The browser is 1024 wide and as light as before afterwards.
    pub async fn assert_looks_well(&self, browser: &mut Browser, name: &str) {
        let [narrow, middle, wide] = WIDTHS;
        let scheme = browser.options.scheme;
        let mut looks = vec![(Scheme::Light, wide), (Scheme::Dark, narrow)];
        if full() {
            looks.extend([(Scheme::Light, narrow), (Scheme::Dark, wide)]);
        }
        for (scheme, width) in looks {
            browser.set_scheme(scheme).await;
            browser.set_width(width).await;
            let scrolls = browser.scroll_width().await;
            assert!(
                scrolls <= u64::from(width),
                "{name} scrolls sideways at {width}: {scrolls}"
            );
            browser.assert_accessible(name).await;
        }
        self.take_all(browser, name).await;
        browser.set_scheme(scheme).await;
        browser.set_width(middle).await;
    }

    /// A picture of the page as the browser shows it now: `<name>-<light|dark>-<width>.png`.
    pub async fn take(&self, browser: &Browser, name: &str) {
        let Some(folder) = &self.folder else {
            return;
        };
        std::fs::create_dir_all(folder)
            .unwrap_or_else(|error| panic!("{SCREENSHOTS} names {}: {error}", folder.display()));
        let Options { scheme, width, .. } = browser.options;
        let file = folder.join(format!("{name}-{scheme}-{width}.png"));
        browser.screenshot_full(&file).await;
    }

    /// Pictures in both schemes and all [`WIDTHS`]. The browser looks as before afterwards.
    pub async fn take_all(&self, browser: &mut Browser, name: &str) {
        if self.folder.is_none() {
            return;
        }
        let Options { scheme, width, .. } = browser.options;
        for one_scheme in [Scheme::Light, Scheme::Dark] {
            browser.set_scheme(one_scheme).await;
            for one_width in WIDTHS {
                browser.set_width(one_width).await;
                self.take(browser, name).await;
            }
        }
        browser.set_scheme(scheme).await;
        browser.set_width(width).await;
    }
}
