//! GitHub's secret scanning as the program meets it: a server on loopback that publishes keys, and the key pair with which
//! what was found is signed. A key pair of the test's own, over a real connection.
//!
//! Never: a signature by anything but the pair that is published, unless a test forges one.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use reqwest::{Method, RequestBuilder};
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair},
};
use serde_json::{Value, json};

use super::client::Client;

/// Where the program takes what GitHub found.
pub const PATH: &str = "/secret-scanning/github";
pub const IDENTIFIER: &str = "Github-Public-Key-Identifier";
pub const SIGNATURE: &str = "Github-Public-Key-Signature";

/// What a public key on P-256 begins with in DER.
const SPKI: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// A key pair with the name under which it is published.
pub struct Signer {
    pub identifier: String,
    pair: EcdsaKeyPair,
}

impl Signer {
    pub fn new(identifier: &str) -> Self {
        let random = SystemRandom::new();
        let pair = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random);
        let pair = pair.expect("a key pair");
        let pair =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pair.as_ref(), &random);
        Self {
            identifier: identifier.to_owned(),
            pair: pair.expect("a key pair"),
        }
    }

    /// As it stands in the published list.
    pub fn published(&self, is_current: bool) -> Value {
        let der = [&SPKI[..], self.pair.public_key().as_ref()].concat();
        let pem = format!(
            "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
            STANDARD.encode(der)
        );
        json!({"key_identifier": self.identifier, "key": pem, "is_current": is_current})
    }

    pub fn sign(&self, body: &str) -> String {
        let signature = self.pair.sign(&SystemRandom::new(), body.as_bytes());
        STANDARD.encode(signature.expect("signs"))
    }

    /// What GitHub would send about this.
    pub fn request(&self, client: &Client, body: &str) -> RequestBuilder {
        signed(client, &self.identifier, &self.sign(body), body)
    }
}

/// A request with these two headers.
pub fn signed(client: &Client, identifier: &str, signature: &str, body: &str) -> RequestBuilder {
    client
        .request(Method::POST, PATH)
        .header("content-type", "application/json")
        .header(IDENTIFIER, identifier)
        .header(SIGNATURE, signature)
        .body(body.to_owned())
}

/// One match, as GitHub tells of it.
pub fn alert(token: &str, url: &str) -> Value {
    json!({"token": token, "type": "truckradar_api_key", "url": url, "source": "commit"})
}

/// How the server answers.
#[derive(Clone, Debug)]
pub enum Mood {
    /// With this list of keys.
    Publishes(Vec<Value>),
    /// With these bytes after the head.
    Says(&'static str, String),
    /// Not at all: it takes the connection and keeps it.
    Hangs,
    /// Not before it is of another mood, and then by that one.
    Ponders,
}

/// See the module. Closed when dropped.
pub struct GitHub {
    pub address: SocketAddr,
    pub signer: Signer,
    mood: Arc<(Mutex<Mood>, Condvar)>,
    asked: Arc<AtomicUsize>,
    is_closed: Arc<AtomicBool>,
    accepts: Option<JoinHandle<()>>,
}

impl GitHub {
    /// One that publishes its key.
    pub fn start() -> Self {
        let signer = Signer::new("0123456789abcdef");
        let mood = Mood::Publishes(vec![signer.published(true)]);
        let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
        let address = listener.local_addr().expect("is bound");
        let mood = Arc::new((Mutex::new(mood), Condvar::new()));
        let asked = Arc::new(AtomicUsize::new(0));
        let is_closed = Arc::new(AtomicBool::new(false));
        let (own_mood, own_asked, own_closed) = (
            Arc::clone(&mood),
            Arc::clone(&asked),
            Arc::clone(&is_closed),
        );
        let accepts = std::thread::spawn(move || {
            let mut kept = Vec::new();
            for stream in listener.incoming() {
                if own_closed.load(Ordering::SeqCst) {
                    return;
                }
                let mut stream = stream.expect("a connection");
                if !has_asked(&mut stream) {
                    continue;
                }
                own_asked.fetch_add(1, Ordering::SeqCst);
                match mood_at_last(&own_mood, &own_closed) {
                    Mood::Publishes(keys) => {
                        let body = json!({"public_keys": keys}).to_string();
                        answer(&mut stream, "HTTP/1.1 200 OK", &body);
                    }
                    Mood::Says(head, body) => answer(&mut stream, head, &body),
                    Mood::Hangs | Mood::Ponders => kept.push(stream),
                }
            }
        });
        Self {
            address,
            signer,
            mood,
            asked,
            is_closed,
            accepts: Some(accepts),
        }
    }

    /// What `--github-keys-url` is given.
    pub fn url(&self) -> String {
        format!("http://{}/meta/public_keys/secret_scanning", self.address)
    }

    pub fn be(&self, mood: Mood) {
        *held(&self.mood.0) = mood;
        self.mood.1.notify_all();
    }

    /// How often the keys were asked for.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Drop for GitHub {
    fn drop(&mut self) {
        {
            // Under the lock, or whoever is about to wait would miss it.
            let _mood = held(&self.mood.0);
            self.is_closed.store(true, Ordering::SeqCst);
        }
        self.mood.1.notify_all();
        let _ = TcpStream::connect(self.address);
        if let Some(accepts) = self.accepts.take() {
            let _ = accepts.join();
        }
    }
}

fn held(mood: &Mutex<Mood>) -> MutexGuard<'_, Mood> {
    mood.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The mood in which it answers. It ponders with one caller at a time, as everything here is one caller after another.
fn mood_at_last((mood, changed): &(Mutex<Mood>, Condvar), is_closed: &AtomicBool) -> Mood {
    let ponders =
        |now: &mut Mood| matches!(now, Mood::Ponders) && !is_closed.load(Ordering::SeqCst);
    let mood = changed.wait_while(held(mood), ponders);
    mood.unwrap_or_else(PoisonError::into_inner).clone()
}

/// Whether the whole head of a request came.
fn has_asked(stream: &mut TcpStream) -> bool {
    let _ = stream.set_read_timeout(Some(Duration::from_secs(20)));
    let (mut head, mut chunk) = (Vec::new(), [0; 1024]);
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut chunk) {
            Ok(0) | Err(_) => return false,
            Ok(n) => head.extend_from_slice(&chunk[..n]),
        }
    }
    let head = String::from_utf8_lossy(&head).to_lowercase();
    // GitHub refuses whoever does not say their name.
    head.starts_with("get ") && head.contains("\r\nuser-agent: truckradar/")
}

fn answer(stream: &mut TcpStream, head: &str, body: &str) {
    let length = body.len();
    let text = format!(
        "{head}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
    // Whoever has heard enough hangs up.
    let _ = stream.write_all(text.as_bytes());
}
