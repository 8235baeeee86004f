//! The road between one node and the database: it can fall silent, and it can be hung up.
//!
//! Never: a byte let through after [`Link::fall_silent`] or [`Link::hang_up`] has returned.

use std::{
    collections::HashSet,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{RwLock, watch},
    task::{AbortHandle, JoinSet},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Everything goes through.
    Open,
    /// Connections stay, new ones are taken, and nothing goes through: a cable cut, or a firewall that drops.
    Silent,
    /// Connections are ended, and so is each new one.
    HungUp,
}

struct Road {
    to: SocketAddr,
    /// Read for as long as a piece is on its way, so that whoever writes it knows that none is.
    gate: RwLock<State>,
    /// The same for whoever waits for it to change.
    told: watch::Sender<State>,
    /// Counts how often all connections were cut.
    cuts: watch::Sender<u64>,
    /// The ports by which the database knows the connections.
    ports: Mutex<HashSet<u16>>,
}

/// See the module.
pub struct Link {
    /// Where the node finds the database.
    pub port: u16,
    road: Arc<Road>,
    accepting: AbortHandle,
}

impl Link {
    pub async fn to(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0))
            .await
            .expect("a free port");
        let road = Arc::new(Road {
            to: ([127, 0, 0, 1], port).into(),
            gate: RwLock::new(State::Open),
            told: watch::Sender::new(State::Open),
            cuts: watch::Sender::new(0),
            ports: Mutex::default(),
        });
        let port = listener.local_addr().expect("an address").port();
        let own = Arc::clone(&road);
        let accepting = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let cut = own.cuts.subscribe();
                connections.spawn(until_cut(cut, connect(stream, Arc::clone(&own))));
                while connections.try_join_next().is_some() {}
            }
        });
        Self {
            port,
            road,
            accepting: accepting.abort_handle(),
        }
    }

    /// From the return of this on nothing goes through, in either direction, and nobody is told.
    pub async fn fall_silent(&self) {
        self.road.set(State::Silent).await;
    }

    /// From the return of this on nothing goes through, and each connection is ended.
    pub async fn hang_up(&self) {
        self.road.set(State::HungUp).await;
        self.cut();
    }

    /// Lets through what was held back, late, and all that follows.
    pub async fn resume(&self) {
        self.road.set(State::Open).await;
    }

    /// Ends the connections with whatever was held back, as a firewall does that has forgotten them; new ones go through.
    pub async fn renew(&self) {
        self.cut();
        self.road.set(State::Open).await;
    }

    fn cut(&self) {
        self.road.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// The ports by which the database knows this node's connections at present.
    pub fn ports(&self) -> Vec<i32> {
        let ports = self.road.ports.lock().expect("unharmed");
        ports.iter().map(|port| i32::from(*port)).collect()
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Road {
    async fn set(&self, state: State) {
        *self.gate.write().await = state;
        self.told.send_replace(state);
    }

    async fn is_open(&self) {
        let mut told = self.told.subscribe();
        let _ = told.wait_for(|state| *state == State::Open).await;
    }
}

async fn until_cut(mut cuts: watch::Receiver<u64>, work: impl Future<Output = ()>) {
    tokio::select! {
        () = work => {}
        _ = cuts.changed() => {}
    }
}

async fn connect(near: TcpStream, road: Arc<Road>) {
    if *road.gate.read().await == State::HungUp {
        return;
    }
    road.is_open().await;
    let Ok(far) = TcpStream::connect(road.to).await else {
        return;
    };
    let _ = (near.set_nodelay(true), far.set_nodelay(true));
    let port = far.local_addr().expect("an address").port();
    let _listed = Listed::new(&road, port);
    let (near_in, near_out) = near.into_split();
    let (far_in, far_out) = far.into_split();
    // Whichever side ends ends both.
    tokio::select! {
        () = carry(near_in, far_out, &road) => {}
        () = carry(far_in, near_out, &road) => {}
    }
}

async fn carry(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, road: &Road) {
    let mut piece = vec![0; 16 << 10];
    loop {
        let length = from.read(&mut piece).await.unwrap_or(0);
        loop {
            road.is_open().await;
            let gate = road.gate.read().await;
            if *gate == State::Open {
                if length == 0 || to.write_all(&piece[..length]).await.is_err() {
                    return;
                }
                break;
            }
        }
    }
}

/// A connection's port, for as long as the connection lasts.
struct Listed<'a>(&'a Road, u16);

impl<'a> Listed<'a> {
    fn new(road: &'a Road, port: u16) -> Self {
        road.ports.lock().expect("unharmed").insert(port);
        Self(road, port)
    }
}

impl Drop for Listed<'_> {
    fn drop(&mut self) {
        self.0.ports.lock().expect("unharmed").remove(&self.1);
    }
}
