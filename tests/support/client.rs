//! HTTP as clients speak it: politely through a library, and byte by byte where the bytes are the point.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use reqwest::{Method, StatusCode, header::HeaderMap};
use serde_json::Value;

/// An answer, read whole.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text)
            .unwrap_or_else(|error| panic!("not JSON ({error}): {}", self.text))
    }

    pub fn code(&self) -> String {
        self.json()["error"]["code"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    pub fn reason(&self) -> String {
        self.json()["error"]["details"]["reason"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap_or(""))
    }
}

/// A client with a key, or without.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    base: String,
    key: Option<String>,
}

impl Client {
    pub fn new(api: SocketAddr, key: Option<&str>) -> Self {
        Self {
            http: reqwest::Client::builder()
                .no_proxy()
                .redirect(reqwest::redirect::Policy::none())
                // The server closes what is idle for long, perhaps in the moment in which it is used again.
                .pool_idle_timeout(Duration::from_secs(5))
                .build()
                .expect("a client"),
            base: format!("http://{api}"),
            key: key.map(str::to_owned),
        }
    }

    /// The same connections with another key.
    pub fn with_key(&self, key: &str) -> Self {
        Self {
            key: Some(key.to_owned()),
            ..self.clone()
        }
    }

    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base));
        match &self.key {
            Some(key) => request.header("authorization", format!("Bearer {key}")),
            None => request,
        }
    }

    pub async fn send(&self, request: reqwest::RequestBuilder) -> Answer {
        self.try_send(request).await.expect("an answer")
    }

    /// Sends a request that was built already.
    pub async fn execute(&self, request: reqwest::Request) -> Answer {
        let response = self.http.execute(request).await.expect("an answer");
        read(response).await.expect("a whole answer")
    }

    pub async fn try_send(&self, request: reqwest::RequestBuilder) -> reqwest::Result<Answer> {
        read(request.send().await?).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(self.request(Method::GET, path)).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(self.request(Method::POST, path).json(body)).await
    }

    pub async fn patch(&self, path: &str, body: &Value) -> Answer {
        self.send(self.request(Method::PATCH, path).json(body))
            .await
    }
}

async fn read(response: reqwest::Response) -> reqwest::Result<Answer> {
    let (status, headers) = (response.status(), response.headers().clone());
    let is_stream = headers
        .get("content-type")
        .is_some_and(|kind| kind == "text/event-stream");
    let text = if is_stream {
        // It has no end of its own: what is asked for is its first event.
        Events::of(response).next().await?.unwrap_or_default()
    } else {
        response.text().await?
    };
    Ok(Answer {
        status,
        headers,
        text,
    })
}

/// A stream of server-sent events.
pub struct Events {
    response: reqwest::Response,
    unread: String,
}

impl Events {
    pub fn of(response: reqwest::Response) -> Self {
        Self {
            response,
            unread: String::new(),
        }
    }

    /// The data of the next event; `None` at the stream's end.
    pub async fn next(&mut self) -> reqwest::Result<Option<String>> {
        loop {
            if let Some((event, rest)) = self.unread.split_once("\n\n") {
                let data = event.lines().filter_map(|line| line.strip_prefix("data:"));
                let data: Vec<&str> = data
                    .map(|line| line.strip_prefix(' ').unwrap_or(line))
                    .collect();
                let data = data.join("\n");
                self.unread = rest.to_owned();
                return Ok(Some(data));
            }
            let Some(chunk) = self.response.chunk().await? else {
                return Ok(None);
            };
            self.unread.push_str(&String::from_utf8_lossy(&chunk));
        }
    }
}

/// Sends bytes and reads until the server closes or falls silent; the whole answer as text.
pub fn raw(api: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(api).expect("connects");
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .expect("a timeout");
    // The server may answer and close before it has read everything.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        match stream.read(&mut chunk) {
            Ok(0) | Err(_) => break,
            Ok(n) => answer.extend_from_slice(&chunk[..n]),
        }
    }
    String::from_utf8_lossy(&answer).into_owned()
}

/// A GET with these header lines, on a connection of its own; the status of its answer, and the answer.
pub fn raw_get(api: SocketAddr, path: &str, header_lines: &str) -> (u16, String) {
    raw_request(api, "GET", path, header_lines)
}

/// The same with any method.
pub fn raw_request(api: SocketAddr, method: &str, path: &str, header_lines: &str) -> (u16, String) {
    let request =
        format!("{method} {path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n{header_lines}\r\n");
    let answer = raw(api, request.as_bytes());
    let status = answer
        .get(9..12)
        .and_then(|status| status.parse().ok())
        .unwrap_or(0);
    (status, answer)
}
