//! The Rust example of docs/authentication.md: what follows these lines is the block there, to the letter.
//!
//! Never: a line that the document does not have.

use reqwest::{Client, RequestBuilder, Response, Result, StatusCode};

pub struct TruckRadar {
    http: Client,
    keys: Vec<String>,
    working: usize,
}

impl TruckRadar {
    /// The key, and the next one if there is one, from your secret manager.
    pub fn new(keys: Vec<String>) -> Self {
        Self {
            http: Client::new(),
            keys,
            working: 0,
        }
    }

    /// `api.call(|http| http.get("https://truckradar.example/api/v1/key")).await?`
    pub async fn call(&mut self, request: impl Fn(&Client) -> RequestBuilder) -> Result<Response> {
        let mut attempt = 1;
        loop {
            let key = &self.keys[self.working];
            let response = request(&self.http).bearer_auth(key).send().await?;
            if response.status() != StatusCode::UNAUTHORIZED || attempt == 3 {
                return Ok(response);
            }
            self.working = (self.working + 1) % self.keys.len();
            attempt += 1;
        }
    }
}
