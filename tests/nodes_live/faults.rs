//! What goes wrong: which fault, at which node, for how long, all drawn from one seed; and when it was.
//!
//! The seed fixes the faults and their order, and not what the clients were doing at that moment.
//!
//! Never: a fault that ends before a change has begun and ended under it; the next one before every node is ready again.

use std::{
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use rand::{RngExt, rngs::StdRng, seq::SliceRandom};
use sqlx::{Connection, Executor, PgConnection};
use tokio::sync::watch;

use super::link::Link;
use crate::support::{
    binary::{Place, Served, program},
    client::Client,
    own_postgres::{Halt, OwnPostgres},
};

/// The longest that a node is frozen or cut off, once in each of the long runs.
pub const LONGEST: Duration = Duration::from_secs(30);
/// A node that was let go must be ready again within this, on a machine busy with other tests.
const RECOVERED: Duration = Duration::from_secs(20);

/// What is done to one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// SIGSTOP, at whatever moment.
    Freeze,
    /// SIGSTOP between the statements of a write, while it holds the Seller's lock.
    FreezeInWrite,
    /// SIGKILL, and a new process.
    Kill,
    /// SIGTERM, and a new process.
    Stop,
    /// Nothing gets through between it and the database; what was held back comes late.
    SilenceThenLate,
    /// The same, and what was held back never comes.
    SilenceThenCut,
    /// The database hangs up on it.
    HangUp,
}

/// What is done to the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outage {
    /// Stopped in good order, away for some seconds, started.
    Fast,
    /// As by a power cut, and started at once.
    Immediate,
}

/// One thing that goes wrong, or two at two nodes at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Trouble {
    OneNode(Fault),
    TwoNodes(Fault, Fault),
    Database(Outage),
}

pub const NODE_FAULTS: [Fault; 7] = [
    Fault::Freeze,
    Fault::FreezeInWrite,
    Fault::Kill,
    Fault::Stop,
    Fault::SilenceThenLate,
    Fault::SilenceThenCut,
    Fault::HangUp,
];

/// Every kind of trouble once, in a drawn order, and two nodes in trouble at once.
pub fn round(random: &mut StdRng) -> Vec<Trouble> {
    let mut round: Vec<_> = NODE_FAULTS.map(Trouble::OneNode).into();
    round.push(Trouble::Database(Outage::Fast));
    round.push(Trouble::Database(Outage::Immediate));
    let mut pair = NODE_FAULTS;
    pair.shuffle(random);
    round.push(Trouble::TwoNodes(pair[0], pair[1]));
    round.shuffle(random);
    round
}

/// When something was wrong, at one node or at all of them.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// `None` for all.
    pub node: Option<usize>,
    pub from: Instant,
    pub until: Instant,
}

impl Window {
    pub fn is_at(&self, node: usize) -> bool {
        self.node.is_none_or(|own| own == node)
    }
}

/// All that went wrong.
#[derive(Default)]
pub struct Log {
    pub troubles: Vec<Trouble>,
    /// From the first sign of a trouble until every node was ready again.
    pub troubled: Vec<Window>,
    /// While nothing got through to the database.
    pub isolated: Vec<Window>,
    /// How long each took to be ready, once it was let go.
    pub recoveries: Vec<(String, Duration)>,
}

/// One node: its process, if it has one, and its road to the database.
pub struct Node {
    number: usize,
    served: Option<Served>,
    link: Link,
    address: watch::Sender<Option<std::net::SocketAddr>>,
    place: Arc<Place>,
}

impl Node {
    pub async fn start(number: usize, server: &OwnPostgres, place: Arc<Place>) -> Self {
        let mut node = Self {
            number,
            served: None,
            link: Link::to(server.port()).await,
            address: watch::Sender::default(),
            place,
        };
        node.start_process();
        node
    }

    /// Where it is, now and later.
    pub fn address(&self) -> super::clients::Address {
        self.address.subscribe()
    }

    fn start_process(&mut self) {
        let mut command = Command::new(program());
        command
            .args(["serve", "--listen", "127.0.0.1:0"])
            .args(["--admin-listen", "127.0.0.1:0"])
            .args(["--node-name", ["a", "b", "c"][self.number]])
            .args(["--database", &OwnPostgres::url_by(self.link.port)])
            .current_dir(self.place.path())
            .stdin(Stdio::null());
        let served = tokio::task::block_in_place(|| self.place.serve_by(command));
        self.address.send_replace(Some(served.api));
        self.served = Some(served);
    }

    /// Clients begin no more calls; the process is the caller's to end.
    fn take_process(&mut self) -> Served {
        self.address.send_replace(None);
        self.served.take().expect("has a process")
    }

    fn process(&self) -> &Served {
        self.served.as_ref().expect("has a process")
    }

    async fn is_ready(&self) -> bool {
        let client = Client::new(self.process().api, None);
        let request = client.request(reqwest::Method::GET, "/readyz");
        let asked = tokio::time::timeout(Duration::from_secs(2), client.try_send(request)).await;
        matches!(asked, Ok(Ok(answer)) if answer.status == 200)
    }

    /// Waits until it is ready; how long that took.
    async fn recovered(&self, after: &str) -> (String, Duration) {
        let began = Instant::now();
        while !self.is_ready().await {
            let waited = began.elapsed();
            assert!(waited < RECOVERED, "not ready {waited:?} after {after}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        (after.to_owned(), began.elapsed())
    }

    /// Stops it, in good order.
    pub fn end(mut self) {
        let (code, log) = self.take_process().terminate();
        assert!(!log.contains("ERROR"), "{log}");
        assert_eq!(code, Some(0), "{log}");
    }
}

/// Whoever makes trouble.
pub struct Troublemaker {
    pub nodes: Vec<Node>,
    pub server: OwnPostgres,
    /// Changes of all Sellers that have ended.
    pub ended: watch::Receiver<usize>,
    /// As many of those as may have been under way at any one time.
    pub changers: usize,
    pub random: StdRng,
    pub log: Log,
}

impl Troublemaker {
    /// Makes one trouble, and waits until it is over and a few changes were made without any.
    pub async fn make(&mut self, trouble: Trouble, longest: bool) {
        self.log.troubles.push(trouble);
        let began = Instant::now();
        let least = match longest {
            true => LONGEST,
            false => Duration::from_millis(self.random.random_range(500..2_000)),
        };
        let mut order: Vec<usize> = (0..self.nodes.len()).collect();
        order.shuffle(&mut self.random);
        let at = match trouble {
            Trouble::OneNode(fault) => {
                self.at_nodes(&[(order[0], fault)], least).await;
                Some(order[0])
            }
            Trouble::TwoNodes(one, other) => {
                let both = [(order[0], one), (order[1], other)];
                self.at_nodes(&both, least).await;
                None
            }
            Trouble::Database(outage) => {
                self.at_database(outage, least).await;
                None
            }
        };
        self.log.troubled.push(Window {
            node: at,
            from: began,
            until: Instant::now(),
        });
        changes_more(&self.ended, self.changers + 1).await;
    }

    async fn at_nodes(&mut self, faults: &[(usize, Fault)], least: Duration) {
        let mut silent_since = Vec::new();
        for &(node, fault) in faults {
            let own = &mut self.nodes[node];
            match fault {
                Fault::Freeze => own.process().signal("STOP"),
                Fault::FreezeInWrite => freeze_in_write(own, &self.server).await,
                Fault::Kill => drop(own.take_process().kill()),
                Fault::Stop => {
                    let process = own.take_process();
                    let (code, log) = tokio::task::block_in_place(|| process.terminate());
                    assert_eq!(code, Some(0), "{log}");
                }
                Fault::SilenceThenLate | Fault::SilenceThenCut => own.link.fall_silent().await,
                Fault::HangUp => own.link.hang_up().await,
            }
            silent_since.push(Instant::now());
        }
        let least = match faults.iter().any(|(_, fault)| fault.isolates()) {
            // Long enough for the trust to end and for some calls after that.
            true => least + Duration::from_millis(2_500),
            false => least,
        };
        let long_enough = tokio::time::sleep(least);
        tokio::join!(long_enough, changes_more(&self.ended, self.changers + 1));
        let until = Instant::now();
        for (&(node, fault), from) in faults.iter().zip(silent_since) {
            if fault.isolates() {
                self.log.isolated.push(Window {
                    node: Some(node),
                    from,
                    until,
                });
            }
            let own = &mut self.nodes[node];
            match fault {
                Fault::Freeze | Fault::FreezeInWrite => own.process().signal("CONT"),
                Fault::Kill | Fault::Stop => own.start_process(),
                Fault::SilenceThenLate => own.link.resume().await,
                Fault::SilenceThenCut | Fault::HangUp => own.link.renew().await,
            }
        }
        for &(node, fault) in faults {
            let recovery = self.nodes[node].recovered(&format!("{fault:?}")).await;
            self.log.recoveries.push(recovery);
        }
    }

    async fn at_database(&mut self, outage: Outage, least: Duration) {
        match outage {
            Outage::Fast => {
                tokio::task::block_in_place(|| self.server.halt(Halt::Fast));
                let from = Instant::now();
                tokio::time::sleep(least + Duration::from_millis(2_500)).await;
                self.log.isolated.push(Window {
                    node: None,
                    from,
                    until: Instant::now(),
                });
            }
            Outage::Immediate => {
                tokio::task::block_in_place(|| self.server.halt(Halt::Immediate));
            }
        }
        self.server.go().await;
        for node in &self.nodes {
            let recovery = node.recovered(&format!("{outage:?} outage")).await;
            self.log.recoveries.push(recovery);
        }
    }
}

impl Fault {
    /// Whether the node runs on and nothing gets through to the database.
    fn isolates(self) -> bool {
        matches!(
            self,
            Self::SilenceThenLate | Self::SilenceThenCut | Self::HangUp
        )
    }
}

/// Waits for so many more changes to end: more than may be under way, and one of them has begun since.
async fn changes_more(ended: &watch::Receiver<usize>, count: usize) {
    let mut ended = ended.clone();
    let until = *ended.borrow_and_update() + count;
    let _ = ended.wait_for(|ended| *ended >= until).await;
}

/// Freezes a node whose write waits for a table that somebody else has: its session holds the owner's lock. Then gives the
/// table back, so that the statement ends and nobody goes on.
async fn freeze_in_write(node: &Node, server: &OwnPostgres) {
    const WAITS: &str = "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid \
         WHERE NOT l.granted AND l.relation = 'listings'::regclass AND a.client_port = ANY($1)";
    let mut holder = server.connect().await.expect("connects");
    let mut watcher = server.connect().await.expect("connects");
    holder
        .execute("BEGIN; LOCK TABLE listings IN EXCLUSIVE MODE")
        .await
        .expect("is locked");
    let end = Instant::now() + RECOVERED;
    loop {
        let waiting: i64 = sqlx::query_scalar(WAITS)
            .bind(node.link.ports())
            .fetch_one(&mut watcher)
            .await
            .expect("answers");
        if waiting > 0 {
            break;
        }
        assert!(Instant::now() < end, "no write comes to wait");
    }
    node.process().signal("STOP");
    holder.execute("ROLLBACK").await.expect("is given back");
    close(holder).await;
    close(watcher).await;
}

async fn close(connection: PgConnection) {
    connection.close().await.expect("closes");
}
