//! A person with a browser that runs no script: cookies, pages, and the forms on them.
//!
//! Never: a field sent that the page's form does not have, unless a test says so.

use std::{collections::BTreeMap, net::SocketAddr};

use reqwest::{Method, header};

use super::{
    binary::{PASSWORD, Place},
    client::{Answer, Client, Events},
};

/// See the module.
#[derive(Clone)]
pub struct Person {
    client: Client,
    cookies: BTreeMap<String, String>,
}

/// A form of a page, with the values that a browser would send.
#[derive(Clone, Debug)]
pub struct Form {
    pub action: String,
    pub button: String,
    pub fields: Vec<(String, String)>,
}

impl Person {
    pub fn at(address: SocketAddr) -> Self {
        Self {
            client: Client::new(address, None),
            cookies: BTreeMap::new(),
        }
    }

    /// Signed in as the owner of a Seller that [`super::binary::Place::create_seller`] made.
    pub async fn owner_of(address: SocketAddr, slug: &str) -> Self {
        Self::signed_in(address, &format!("owner@{slug}.example"), PASSWORD).await
    }

    pub async fn signed_in(address: SocketAddr, email: &str, password: &str) -> Self {
        let mut person = Self::at(address);
        let answer = person.sign_in(email, password).await;
        assert_eq!(answer.status, 303, "{}", answer.text);
        assert_eq!(answer.header("location"), "/dashboard");
        person
    }

    /// Somebody who accepted an invitation by the command line's link.
    pub async fn invited(
        place: &Place,
        at: SocketAddr,
        slug: &str,
        email: &str,
        role: &str,
    ) -> Self {
        let args = [
            "user", "invite", "--seller", slug, "--email", email, "--role", role,
        ];
        let invited = place.json(&args, "");
        let link = invited["link"].as_str().expect("a link");
        let mut person = Self::at(at);
        let page = person.get(path_in(link)).await;
        assert_eq!(page.status, 200, "{}", page.text);
        let form = page.form("/invitation").with("password", PASSWORD);
        let joined = person.send(&form).await;
        assert_eq!(joined.status, 303, "{}", joined.text);
        person
    }

    /// Fills the form of `/login` and sends it.
    pub async fn sign_in(&mut self, email: &str, password: &str) -> Answer {
        let page = self.get("/login").await;
        let form = page
            .form("/login")
            .with("email", email)
            .with("password", password);
        self.send(&form).await
    }

    pub async fn get(&mut self, path: &str) -> Answer {
        let request = self.request(Method::GET, path);
        self.ask(request).await
    }

    /// Watches a page that changes by itself.
    pub async fn watch(&self, path: &str) -> Events {
        let answer = self.request(Method::GET, path).send().await;
        let answer = answer.expect("an answer");
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        Events::of(answer)
    }

    /// Sends a form as a browser does from a page of the same site.
    pub async fn send(&mut self, form: &Form) -> Answer {
        let request = self.post(form);
        self.ask(request).await
    }

    /// The request that sends a form, for headers to be added.
    pub fn post(&self, form: &Form) -> reqwest::RequestBuilder {
        self.request(Method::POST, &form.action).form(&form.fields)
    }

    /// A request with this person's cookies.
    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let request = self
            .client
            .request(method, path)
            .header(header::ACCEPT, "text/html,application/xhtml+xml");
        if self.cookies.is_empty() {
            return request;
        }
        let pairs: Vec<String> = self
            .cookies
            .iter()
            .map(|(n, v)| format!("{n}={v}"))
            .collect();
        request.header(header::COOKIE, pairs.join("; "))
    }

    /// Sends a request and keeps the cookies of its answer.
    pub async fn ask(&mut self, request: reqwest::RequestBuilder) -> Answer {
        let answer = self.client.send(request).await;
        self.keep_cookies(&answer);
        answer
    }

    /// The same with a request that was changed after it was built.
    pub async fn execute(&mut self, request: reqwest::Request) -> Answer {
        let answer = self.client.execute(request).await;
        self.keep_cookies(&answer);
        answer
    }

    fn keep_cookies(&mut self, answer: &Answer) {
        for value in answer.headers.get_all(header::SET_COOKIE) {
            let text = value.to_str().expect("text");
            let (pair, attributes) = text.split_once(';').unwrap_or((text, ""));
            let (name, value) = pair.split_once('=').expect("a cookie");
            if attributes.contains("Max-Age=0") {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
    }

    /// The token in the session's cookie.
    pub fn session_token(&self) -> Option<&str> {
        self.cookies.get("truckradar_session").map(String::as_str)
    }

    pub fn set_session_token(&mut self, token: &str) {
        let name = "truckradar_session".to_owned();
        self.cookies.insert(name, token.to_owned());
    }

    /// The token in the cookie of a sign-in that waits for a code.
    pub fn half_token(&self) -> Option<&str> {
        self.cookies.get("truckradar_sign_in").map(String::as_str)
    }

    pub fn set_half_token(&mut self, token: &str) {
        let name = "truckradar_sign_in".to_owned();
        self.cookies.insert(name, token.to_owned());
    }

    /// Fills the form of `/login/code` and sends it.
    pub async fn give_code(&mut self, code: &str) -> Answer {
        let page = self.get("/login/code").await;
        let form = page.form("/login/code").with("code", code);
        self.send(&form).await
    }

    /// Presses the button of Settings → API Key, and the one of the page that asks whether to.
    pub async fn generate(&mut self, slug: &str) -> Answer {
        let page = self
            .get(&format!("/dashboard/settings?seller={slug}"))
            .await;
        let answer = self.send(&page.form_with_id("generate-api-key")).await;
        if answer.status == 200 && answer.shown_key().is_none() {
            return self.send(&answer.form_with_id("generate-api-key")).await;
        }
        answer
    }
}

/// The path of a link to this server, with its query.
pub fn path_in(link: &str) -> &str {
    let (_, rest) = link.split_once("://").expect("a link");
    &rest[rest.find('/').expect("a path")..]
}

impl Form {
    /// A form that no page offered.
    pub fn made_up<'a>(action: &str, fields: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let fields = fields.into_iter();
        Self {
            action: action.to_owned(),
            button: String::new(),
            fields: fields.map(|(n, v)| (n.to_owned(), v.to_owned())).collect(),
        }
    }

    /// With a field filled in; a form that has no such field gets it.
    pub fn with(mut self, name: &str, text: &str) -> Self {
        match self.fields.iter_mut().find(|(field, _)| field == name) {
            Some((_, value)) => *value = text.to_owned(),
            None => self.fields.push((name.to_owned(), text.to_owned())),
        }
        self
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        let found = self.fields.iter().find(|(field, _)| field == name);
        found.map(|(_, value)| value.as_str())
    }
}

impl Answer {
    /// Every form of the page.
    pub fn forms(&self) -> Vec<Form> {
        let parts = self.text.split("<form ").skip(1);
        parts
            .map(|part| part.split("</form>").next().unwrap_or_default())
            .map(form_in)
            .collect()
    }

    /// The first form that is posted to this path.
    pub fn form(&self, action: &str) -> Form {
        let found = self.forms().into_iter().find(|form| form.action == action);
        found.unwrap_or_else(|| panic!("no form to {action} on\n{}", self.text))
    }

    /// The form with this id.
    pub fn form_with_id(&self, id: &str) -> Form {
        let mark = format!("id=\"{id}\"");
        let found = self.text.split("<form ").skip(1).find(|part| {
            let opening = part.split('>').next().unwrap_or_default();
            opening.contains(&mark)
        });
        let found = found.unwrap_or_else(|| panic!("no form {id} on\n{}", self.text));
        form_in(found.split("</form>").next().unwrap_or_default())
    }

    pub fn has_form(&self, id: &str) -> bool {
        self.text.contains(&format!("id=\"{id}\""))
    }

    /// The key that the page shows.
    pub fn shown_key(&self) -> Option<String> {
        let (_, rest) = self.text.split_once("data-testid=\"api-key-value\"")?;
        let (_, rest) = rest.split_once('>')?;
        rest.split('<').next().map(str::to_owned)
    }

    /// Where a form led that was accepted: by a redirect, or, if its change waited for a node, by the link at the page's end.
    pub fn led_to(&self) -> String {
        if self.status == 303 {
            return self.header("location").to_owned();
        }
        let link = "<p><a class=\"button\" href=\"";
        let rest = self.text.rsplit_once(link).map(|(_, rest)| rest);
        let path = rest.and_then(|rest| rest.split('"').next());
        let path = path.unwrap_or_else(|| panic!("{}: {}", self.status, self.text));
        let path = unescaped(path);
        assert!(path.contains("&done="), "{path}: {}", self.text);
        path
    }

    /// What the page says, without its markup, with single spaces.
    pub fn words(&self) -> String {
        words_of(&self.text)
    }
}

/// What HTML says, without its markup, with single spaces.
pub fn words_of(html: &str) -> String {
    let mut words = String::new();
    let mut inside = false;
    for c in html.chars() {
        match c {
            '<' => inside = true,
            '>' => {
                inside = false;
                words.push(' ');
            }
            c if !inside => words.push(c),
            _ => {}
        }
    }
    let words = unescaped(&words);
    words.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn form_in(text: &str) -> Form {
    let mut fields = Vec::new();
    for part in text.split("<input").skip(1) {
        let tag = part.split('>').next().unwrap_or_default();
        // A box that is not ticked is not sent.
        if tag.contains("type=\"checkbox\"") && !tag.contains(" checked") {
            continue;
        }
        if let Some(name) = attribute(tag, "name") {
            fields.push((name, attribute(tag, "value").unwrap_or_default()));
        }
    }
    for part in text.split("<textarea").skip(1) {
        let (tag, rest) = part.split_once('>').unwrap_or_default();
        let value = unescaped(rest.split("</textarea>").next().unwrap_or_default());
        if let Some(name) = attribute(tag, "name") {
            fields.push((name, value));
        }
    }
    for part in text.split("<select").skip(1) {
        let (tag, rest) = part.split_once('>').unwrap_or_default();
        let options: Vec<&str> = rest.split("<option").skip(1).collect();
        let chosen = options.iter().find(|option| option.contains(" selected"));
        let value = chosen
            .or(options.first())
            .and_then(|o| attribute(o, "value"));
        if let (Some(name), Some(value)) = (attribute(tag, "name"), value) {
            fields.push((name, value));
        }
    }
    let button = text.split("<button").nth(1).unwrap_or_default();
    let button = button.split_once('>').map_or("", |(_, rest)| rest);
    Form {
        action: attribute(text, "action").unwrap_or_default(),
        button: unescaped(button.split("</button>").next().unwrap_or_default()),
        fields,
    }
}

fn attribute(tag: &str, name: &str) -> Option<String> {
    let (_, rest) = tag.split_once(&format!("{name}=\""))?;
    Some(unescaped(rest.split('"').next()?))
}

fn unescaped(text: &str) -> String {
    text.replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"")
        .replace("&#34;", "\"")
        .replace("&#39;", "'")
        .replace("&#60;", "<")
        .replace("&#62;", ">")
        .replace("&#38;", "&")
        .replace("&amp;", "&")
}
