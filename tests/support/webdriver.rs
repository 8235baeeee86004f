//! As much of the WebDriver protocol as a browser for tests needs: JSON over HTTP to a chromedriver, and through it the
//! browser's own DevTools.
//!
//! Written out instead of taken from a library: `thirtyfour`, the one for it, makes serde_json keep the order of members
//! in everything that is built together with the tests. The program under test would then print another JSON than the
//! one that is shipped.
//!
//! Never: a waiting of its own, which would hide what a page makes a person wait for; a proxy.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

/// The member by which the standard marks an element in an answer.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";
/// How long a page or a script may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the driver answers, or its complaint.
pub type Answer = Result<Value, String>;

/// One browser with its tabs.
#[derive(Clone)]
pub struct Session {
    http: reqwest::Client,
    driver: String,
    id: String,
}

impl Session {
    /// Starts a browser by the driver at this address. `options` are chromium's: its arguments and preferences.
    pub async fn open(driver: String, options: Value) -> Result<Self, String> {
        let http = reqwest::Client::builder()
            .no_proxy()
            // The driver itself gives up earlier, and says why.
            .timeout(PATIENCE * 2)
            .build()
            .map_err(|error| error.to_string())?;
        let mut session = Self {
            http,
            driver,
            id: String::new(),
        };
        let patience_ms = PATIENCE.as_millis() as u64;
        let wanted = json!({
            "browserName": "chrome",
            "timeouts": {"pageLoad": patience_ms, "script": patience_ms},
            "goog:loggingPrefs": {"browser": "SEVERE"},
            "goog:chromeOptions": options,
        });
        let wanted = json!({"capabilities": {"alwaysMatch": wanted}});
        let opened = session
            .send(Method::POST, "/session", Some(&wanted))
            .await?;
        let id = opened["sessionId"].as_str();
        session.id = id.ok_or("no session")?.to_owned();
        Ok(session)
    }

    pub fn id(&self) -> &str {
        &self.id
    }

    /// Asks for something of the session, such as `url`.
    pub async fn get(&self, what: &str) -> Answer {
        let path = format!("/session/{}/{what}", self.id);
        self.send(Method::GET, &path, None).await
    }

    /// Has something done in the session.
    pub async fn post(&self, what: &str, how: Value) -> Answer {
        let path = format!("/session/{}/{what}", self.id);
        self.send(Method::POST, &path, Some(&how)).await
    }

    /// A command of the DevTools protocol, to the tab that is in front.
    pub async fn devtools(&self, command: &str, parameters: Value) -> Answer {
        let command = json!({"cmd": command, "params": parameters});
        self.post("goog/cdp/execute", command).await
    }

    /// Runs the body of a function in the page, which no policy of the page forbids; what it returns.
    pub async fn execute(&self, script: &str) -> Answer {
        let script = json!({"script": script, "args": []});
        self.post("execute/sync", script).await
    }

    /// The same, with what it gives to the function that is its last argument.
    pub async fn execute_async(&self, script: &str) -> Answer {
        let script = json!({"script": script, "args": []});
        self.post("execute/async", script).await
    }

    /// Every element that fits, in the order of the page.
    pub async fn find_all(&self, css: &str) -> Result<Vec<Element>, String> {
        let wanted = json!({"using": "css selector", "value": css});
        let found = self.post("elements", wanted).await?;
        let ids = found.as_array().into_iter().flatten();
        Ok(ids
            .filter_map(|element| element[ELEMENT].as_str())
            .map(|id| Element {
                session: self.clone(),
                id: id.to_owned(),
            })
            .collect())
    }

    async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Answer {
        let failed = |error: reqwest::Error| format!("the driver has gone: {error}");
        let mut request = self.http.request(method, format!("{}{path}", self.driver));
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.map_err(failed)?;
        let good = response.status().is_success();
        let mut answer: Value = response.json().await.map_err(failed)?;
        let value = answer["value"].take();
        match good {
            true => Ok(value),
            // The other members are a message once more and the driver's own call stack.
            false => Err(format!("{}: {}", value["error"], value["message"])),
        }
    }
}

/// An element of a page. It knows nothing after the page has gone.
pub struct Element {
    session: Session,
    id: String,
}

impl Element {
    /// Its visible text.
    pub async fn text(&self) -> String {
        self.ask("text").await
    }

    /// Such as `input`.
    pub async fn tag(&self) -> String {
        self.ask("name").await
    }

    /// What a screen reader calls it.
    pub async fn label(&self) -> String {
        self.ask("computedlabel").await
    }

    /// The value that a property of its style has in the end.
    pub async fn css(&self, property: &str) -> String {
        self.ask(&format!("css/{property}")).await
    }

    pub async fn attribute(&self, name: &str) -> Option<String> {
        let value = self.get(&format!("attribute/{name}")).await;
        value.as_str().map(str::to_owned)
    }

    /// What a script would read, such as the present value of an input.
    pub async fn property(&self, name: &str) -> String {
        self.ask(&format!("property/{name}")).await
    }

    /// Its width in CSS pixels.
    pub async fn width(&self) -> f64 {
        let place = self.get("rect").await;
        place["width"].as_f64().expect("a width")
    }

    pub async fn is_displayed(&self) -> bool {
        self.get("displayed").await == true
    }

    pub async fn click(&self) -> Answer {
        self.act("click", json!({})).await
    }

    pub async fn clear(&self) -> Answer {
        self.act("clear", json!({})).await
    }

    pub async fn write(&self, text: &str) -> Answer {
        self.act("value", json!({"text": text})).await
    }

    async fn ask(&self, what: &str) -> String {
        let answer = self.get(what).await;
        answer.as_str().expect("text").to_owned()
    }

    async fn get(&self, what: &str) -> Value {
        let answer = self.session.get(&self.path(what)).await;
        answer.unwrap_or_else(|error| panic!("{what} of an element: {error}"))
    }

    async fn act(&self, what: &str, how: Value) -> Answer {
        self.session.post(&self.path(what), how).await
    }

    fn path(&self, what: &str) -> String {
        format!("element/{}/{what}", self.id)
    }
}
