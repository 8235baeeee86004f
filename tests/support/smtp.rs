//! An SMTP server on loopback, of a test's own: the other side of the program's mails. It keeps what it takes.
//!
//! Never: a mail kept that did not come by the rules: greeting, sender, recipient, data, and what else it was told to want.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// How long a mail may take, on a machine busy with other tests.
const PATIENCE: Duration = Duration::from_secs(40);

/// What the server wants of whoever hands mails in.
#[derive(Clone, Default)]
pub struct Wants {
    /// This name and password.
    pub login: Option<(String, String)>,
    /// STARTTLS, which it then offers with this certificate.
    pub tls: Option<Arc<ServerConfig>>,
}

/// How it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    /// It takes what comes.
    Takes,
    /// It answers each recipient with this.
    Refuses(&'static str),
    /// It accepts connections and says nothing.
    Hangs,
    /// It takes what comes and does not say so.
    Scans,
}

/// A mail that was taken.
#[derive(Clone, Debug)]
pub struct Mail {
    pub from: String,
    pub to: String,
    pub is_encrypted: bool,
    pub login: Option<(String, String)>,
    /// Header and body as they came, with line ends of one character.
    pub raw: String,
}

impl Mail {
    /// The header's lines, and the body without its encoding.
    fn parts(&self) -> (&str, String) {
        let (head, body) = self.raw.split_once("\n\n").expect("a header and a body");
        assert!(
            head.contains("Content-Transfer-Encoding: quoted-printable"),
            "{head}"
        );
        (head, quoted_printable(body))
    }

    /// A header's value as it stands there, unfolded.
    pub fn header(&self, name: &str) -> String {
        let unfolded = self.parts().0.replace("\n ", " ");
        let prefix = format!("{name}: ");
        let values: Vec<_> = unfolded
            .lines()
            .filter_map(|line| line.strip_prefix(&prefix))
            .collect();
        assert_eq!(values.len(), 1, "{name} in {unfolded}");
        values[0].to_owned()
    }

    /// The names of its headers.
    pub fn header_names(&self) -> Vec<&str> {
        let lines = self.parts().0.lines().filter(|line| !line.starts_with(' '));
        lines.filter_map(|line| line.split(':').next()).collect()
    }

    pub fn text(&self) -> String {
        self.parts().1
    }
}

fn quoted_printable(text: &str) -> String {
    let joined = text.replace("=\n", "");
    let mut bytes = Vec::new();
    let mut rest = joined.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'=' {
            bytes.push(byte);
            continue;
        }
        let digits = [rest.next(), rest.next()].map(|digit| digit.expect("two digits"));
        let digits = std::str::from_utf8(&digits).expect("digits").to_owned();
        bytes.push(u8::from_str_radix(&digits, 16).expect("hexadecimal"));
    }
    String::from_utf8(bytes).expect("UTF-8")
}

struct State {
    mood: Mood,
    wants: Wants,
    mails: Vec<Mail>,
    connections: usize,
    is_closed: bool,
}

#[derive(Clone)]
struct Shared(Arc<(Mutex<State>, Condvar)>);

impl Shared {
    /// A test that failed while it waited still closes its server.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.0.1.notify_all();
    }

    fn look<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.lock())
    }

    /// Waits until it is so, or patience ends.
    fn wait(&self, told: &str, is_so: impl Fn(&State) -> bool) {
        let waited = self
            .0
            .1
            .wait_timeout_while(self.lock(), PATIENCE, |state| !is_so(state));
        let (state, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        let mails: Vec<_> = state.mails.iter().map(|mail| mail.raw.clone()).collect();
        drop(state);
        assert!(!waited.timed_out(), "{told}, but only {mails:#?}");
    }
}

/// See the module. Closed when dropped.
pub struct Smtp {
    pub address: SocketAddr,
    shared: Shared,
    accepts: Option<std::thread::JoinHandle<()>>,
}

impl Smtp {
    pub fn start() -> Self {
        Self::that_wants(Wants::default())
    }

    pub fn that_wants(wants: Wants) -> Self {
        Self::at("127.0.0.1:0".parse().expect("an address"), wants)
    }

    /// On an address that another one had before.
    pub fn at(address: SocketAddr, wants: Wants) -> Self {
        let listener = TcpListener::bind(address).expect("binds");
        let address = listener.local_addr().expect("is bound");
        let state = State {
            mood: Mood::Takes,
            wants,
            mails: Vec::new(),
            connections: 0,
            is_closed: false,
        };
        let shared = Shared(Arc::new((Mutex::new(state), Condvar::new())));
        let own = shared.clone();
        let accepts = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if own.look(|state| state.is_closed) {
                    return;
                }
                own.change(|state| state.connections += 1);
                let (own, stream) = (own.clone(), stream.expect("a connection"));
                // Whoever hangs up in between handed nothing in.
                std::thread::spawn(move || serve(&own, &stream));
            }
        });
        Self {
            address,
            shared,
            accepts: Some(accepts),
        }
    }

    /// What `--smtp-url` is given.
    pub fn url(&self) -> String {
        format!("smtp://{}", self.address)
    }

    pub fn be(&self, mood: Mood) {
        self.shared.change(|state| state.mood = mood);
    }

    /// Waits until this many mails were taken; all of them.
    pub fn wait_for(&self, count: usize) -> Vec<Mail> {
        let told = format!("{count} mails should have come");
        self.shared.wait(&told, |state| state.mails.len() >= count);
        self.mails()
    }

    /// Waits until somebody has connected.
    pub fn wait_for_connection(&self) {
        let told = "somebody should have connected";
        self.shared.wait(told, |state| state.connections > 0);
    }

    pub fn mails(&self) -> Vec<Mail> {
        self.shared.look(|state| state.mails.clone())
    }
}

impl Drop for Smtp {
    fn drop(&mut self) {
        self.shared.change(|state| state.is_closed = true);
        // So that the thread that accepts finds out.
        let _ = TcpStream::connect(self.address);
        if let Some(accepts) = self.accepts.take() {
            let _ = accepts.join();
        }
    }
}

trait Duplex: Read + Write {}
impl<T: Read + Write> Duplex for T {}

struct Session {
    stream: Box<dyn Duplex>,
    is_encrypted: bool,
}

impl Session {
    /// A line without its end; nothing if the client has gone.
    fn line(&mut self) -> Option<String> {
        let mut line = Vec::new();
        let mut byte = [0];
        loop {
            match self.stream.read(&mut byte) {
                Ok(1) if byte[0] == b'\n' => break,
                Ok(1) => line.push(byte[0]),
                _ => return None,
            }
        }
        assert_eq!(line.pop(), Some(b'\r'), "a bare line feed");
        Some(String::from_utf8(line).expect("text"))
    }

    fn say(&mut self, line: &str) -> Option<()> {
        self.stream.write_all(line.as_bytes()).ok()?;
        self.stream.write_all(b"\r\n").ok()?;
        self.stream.flush().ok()
    }
}

/// One connection. Ends with nothing when the client hangs up.
fn serve(shared: &Shared, tcp: &TcpStream) -> Option<()> {
    tcp.set_read_timeout(Some(PATIENCE)).ok()?;
    let plain = || tcp.try_clone().expect("another handle");
    let mut session = Session {
        stream: Box::new(plain()),
        is_encrypted: false,
    };
    if shared.look(|state| state.mood == Mood::Hangs) {
        shared.wait("it should have been closed", |state| state.is_closed);
        return None;
    }
    let wants = shared.look(|state| state.wants.clone());
    session.say("220 loopback.example ESMTP")?;
    let (mut greeted, mut login, mut from, mut to) = (false, None, None, None);
    loop {
        let line = session.line()?;
        let verb = line.split([' ', ':']).next().unwrap_or_default();
        match verb.to_ascii_uppercase().as_str() {
            "EHLO" => {
                greeted = true;
                session.say("250-loopback.example")?;
                if wants.tls.is_some() && !session.is_encrypted {
                    session.say("250-STARTTLS")?;
                }
                if wants.login.is_some() {
                    session.say("250-AUTH PLAIN")?;
                }
                session.say("250 8BITMIME")?;
            }
            "STARTTLS" => {
                let Some(config) = &wants.tls else {
                    session.say("502 not here")?;
                    continue;
                };
                session.say("220 go ahead")?;
                let tls = ServerConnection::new(Arc::clone(config)).expect("a session");
                session.stream = Box::new(StreamOwned::new(tls, plain()));
                session.is_encrypted = true;
                greeted = false;
            }
            "AUTH" => {
                let given = line.strip_prefix("AUTH PLAIN ").and_then(plain_login);
                if given.is_some() && given == wants.login {
                    login = given;
                    session.say("235 welcome")?;
                } else {
                    session.say("535 no")?;
                }
            }
            "MAIL" if greeted && login == wants.login => {
                if wants.tls.is_some() && !session.is_encrypted {
                    session.say("530 STARTTLS first")?;
                    continue;
                }
                from = Some(address_in(&line));
                session.say("250 ok")?;
            }
            "RCPT" if from.is_some() => match shared.look(|state| state.mood) {
                Mood::Refuses(answer) => session.say(answer)?,
                _ => {
                    to = Some(address_in(&line));
                    session.say("250 ok")?;
                }
            },
            "DATA" if to.is_some() => {
                session.say("354 go ahead")?;
                let mut raw = String::new();
                loop {
                    let line = session.line()?;
                    if line == "." {
                        break;
                    }
                    raw.push_str(line.strip_prefix('.').unwrap_or(&line));
                    raw.push('\n');
                }
                let mail = Mail {
                    from: from.take().expect("a sender"),
                    to: to.take().expect("a recipient"),
                    is_encrypted: session.is_encrypted,
                    login: login.clone(),
                    raw,
                };
                shared.change(|state| state.mails.push(mail));
                if shared.look(|state| state.mood == Mood::Scans) {
                    shared.wait("it should have been closed", |state| {
                        state.is_closed || state.mood != Mood::Scans
                    });
                    return None;
                }
                session.say("250 taken")?;
            }
            "QUIT" => {
                session.say("221 bye")?;
                return Some(());
            }
            _ => session.say("503 not now")?,
        }
    }
}

fn plain_login(encoded: &str) -> Option<(String, String)> {
    let bytes = STANDARD.decode(encoded).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let (user, password) = text.strip_prefix('\0')?.split_once('\0')?;
    Some((user.to_owned(), password.to_owned()))
}

fn address_in(line: &str) -> String {
    let (_, rest) = line.split_once('<').expect("an address");
    let (address, _) = rest.split_once('>').expect("an address");
    address.to_owned()
}
