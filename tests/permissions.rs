//! The zero-window rule for what a good key may do, checked on a recorded history: a grant is withdrawn and given again, an account
//! suspended and resumed, a Platform's plan taken and given back, while clients call; afterwards every call is held against the
//! rule. On PostgreSQL the clients call two nodes, and the acts are done at one of them or beside both.
//!
//! Never: a call judged by what the server says of itself; one host's clock orders everything.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};

use reqwest::Method;
use serde_json::json;
use truckradar::{
    control,
    operator::{self, AccountCommand, Command},
};

use crate::support::{
    binary::{Place, Served},
    client::Client,
    fixtures::{record, vin},
    full,
    person::{Form, Person},
};

/// How often each permission goes and comes back.
fn rounds() -> usize {
    if full() { 300 } else { 25 }
}

/// Calls awaited after each act.
const CALLS_AFTER_EACH_ACT: u64 = 6;

/// One change of what may be done: from when to when it was under way, and whether it gave or took.
#[derive(Clone, Copy, Debug)]
struct Turn {
    began: Instant,
    returned: Instant,
    gives: bool,
}

/// One call: whether it was let in, and the status if it was neither that nor refused as it should be.
#[derive(Clone, Copy, Debug)]
struct Call {
    began: Instant,
    ended: Instant,
    status: u16,
}

/// What is wrong with a history that begins with the permission given; nothing is well.
fn judge(turns: &[Turn], calls: &[Call], taken: u16) -> Vec<String> {
    let mut wrong = Vec::new();
    let (mut let_in, mut refused) = (0, 0);
    for call in calls {
        // The last turn that had returned when the call began, and whether another began before it ended.
        let before = turns.iter().rev().find(|turn| turn.returned < call.began);
        let gives = before.is_none_or(|turn| turn.gives);
        let since = before.map(|turn| turn.returned);
        let is_disputed = turns
            .iter()
            .any(|turn| turn.began < call.ended && since.is_none_or(|since| turn.returned > since));
        match call.status {
            200 => let_in += 1,
            status if status == taken => refused += 1,
            status => wrong.push(format!("status {status}: {call:?}")),
        }
        // While a permission is being given, whoever does not have it yet may be refused or let in; while it is taken, likewise.
        if is_disputed {
            continue;
        }
        match (gives, call.status) {
            (false, 200) => wrong.push(format!("let in after the permission was taken: {call:?}")),
            (true, status) if status == taken => {
                wrong.push(format!("refused after the permission was given: {call:?}"));
            }
            _ => {}
        }
    }
    if let_in < 10 || refused < 10 {
        wrong.push(format!(
            "{let_in} let in and {refused} refused show nothing"
        ));
    }
    wrong
}

#[test]
fn a_history_that_breaks_the_rule_is_told() {
    let start = Instant::now();
    let at = |ms| start + std::time::Duration::from_millis(ms);
    let turn = |began, returned, gives| Turn {
        began: at(began),
        returned: at(returned),
        gives,
    };
    let call = |began, ended, status| Call {
        began: at(began),
        ended: at(ended),
        status,
    };
    let turns = [turn(100, 110, false), turn(200, 210, true)];
    let mut well: Vec<Call> = (0..10).map(|n| call(n, n + 1, 200)).collect();
    well.extend((0..10).map(|n| call(120 + n, 121 + n, 403)));
    // In the midst of a turn both may be.
    well.extend([call(99, 105, 403), call(105, 106, 200), call(205, 207, 403)]);
    assert_eq!(judge(&turns, &well, 403), [""; 0]);
    for broken in [
        call(111, 112, 200),
        call(150, 199, 200),
        call(50, 60, 403),
        call(211, 212, 403),
        call(120, 121, 401),
        call(120, 121, 503),
    ] {
        let mut history = well.clone();
        history.push(broken);
        assert_eq!(judge(&turns, &history, 403).len(), 1, "{broken:?}");
    }
    assert_eq!(judge(&turns, &well[..10], 403).len(), 1, "nothing refused");
}

/// What the clients share.
struct Stage {
    over: AtomicBool,
    /// What is checked, in one word: writes are marked with it, so that none is taken for another check's.
    mark: String,
    /// Which time the permission is there: writes are marked with that too.
    generation: AtomicU64,
    made: AtomicU64,
    next_vin: AtomicU64,
    calls: Mutex<Vec<Call>>,
}

impl Stage {
    fn mark_of(&self, generation: u64) -> String {
        format!("{}-{generation}-", self.mark)
    }
}

async fn hammer(stage: Arc<Stage>, client: Client, named: Option<&'static str>, number: u64) {
    let mut own = Vec::new();
    let mut turn = number;
    while !stage.over.load(Ordering::Acquire) {
        turn += 1;
        let mut request = if turn.is_multiple_of(2) {
            let n = stage.next_vin.fetch_add(1, Ordering::Relaxed);
            let mut record = record(&vin(n));
            let generation = stage.generation.load(Ordering::Acquire);
            record["source_provider_id"] = json!(stage.mark_of(generation));
            client
                .request(Method::POST, "/api/v1/inventory")
                .json(&record)
        } else {
            client.request(Method::GET, "/api/v1/inventory?limit=1")
        };
        if let Some(named) = named {
            request = request.header("truckradar-seller", named);
        }
        let began = Instant::now();
        let answer = client.send(request).await;
        own.push(Call {
            began,
            ended: Instant::now(),
            status: answer.status.as_u16(),
        });
        stage.made.fetch_add(1, Ordering::Release);
    }
    stage.calls.lock().expect("not poisoned").extend(own);
}

/// A marketplace with a dealer, its key, a Platform with access, and its key.
struct Market {
    nodes: Vec<Served>,
    place: Place,
    own_key: String,
    platform_key: String,
    platform: String,
    owner: Mutex<Option<Person>>,
}

impl Market {
    async fn open() -> Self {
        let place = Place::new();
        let count = if place.is_on_postgres() { 2 } else { 1 };
        let nodes: Vec<Served> = (0..count).map(|_| place.serve(&[])).collect();
        place.create_seller("lone-star");
        let own_key = place.generate("lone-star");
        let args = [
            "platform", "create", "--name", "Feedhub", "--slug", "feedhub",
        ];
        let made = place.json(&args, "");
        let platform = made["platform"]["id"].as_str().expect("an id").to_owned();
        let made = place.json(&["platform", "key", "--platform", "feedhub"], "");
        let platform_key = made["key"].as_str().expect("a key").to_owned();
        let owner = Person::owner_of(nodes[0].api, "lone-star").await;
        let market = Self {
            nodes,
            place,
            own_key,
            platform_key,
            platform,
            owner: Mutex::new(Some(owner)),
        };
        market.access(true).await;
        market
    }

    /// The owner gives or takes the Platform's access, by the dashboard.
    async fn access(&self, gives: bool) {
        let taken = self.owner.lock().expect("not poisoned").take();
        let mut owner = taken.expect("one act at a time");
        let page = owner.get("/dashboard/settings?seller=lone-star").await;
        let what = if gives { "grant" } else { "withdraw" };
        let form: Form = page.form(&format!("/dashboard/settings/platforms/{what}"));
        let done = owner.send(&form.with("platform", &self.platform)).await;
        done.led_to();
        *self.owner.lock().expect("not poisoned") = Some(owner);
    }

    /// The operator's act, without the start of a process.
    async fn account(&self, act: AccountCommand) {
        let command = Command::Account(act);
        let answer = if self.place.is_on_postgres() {
            operator::perform(self.place.services().await, command).await
        } else {
            let asked = control::ask(&self.place.database_file(), &command).await;
            asked.expect("can be asked").expect("a server answers")
        };
        answer.expect("is done");
    }

    /// Takes and gives a permission again and again under load, and judges.
    async fn check(
        &self,
        told: &str,
        key: &str,
        named: Option<&'static str>,
        taken: u16,
        act: impl AsyncFn(bool),
    ) {
        let stage = Arc::new(Stage {
            over: AtomicBool::new(false),
            mark: told.replace(' ', "-"),
            generation: AtomicU64::new(0),
            made: AtomicU64::new(0),
            next_vin: AtomicU64::new(0),
            calls: Mutex::default(),
        });
        let mut clients = Vec::new();
        for (node, number) in self.nodes.iter().cycle().zip(0..4) {
            let client = Client::new(node.api, Some(key));
            clients.push(tokio::spawn(hammer(
                Arc::clone(&stage),
                client,
                named,
                number,
            )));
        }
        let calls = async || {
            let wanted = stage.made.load(Ordering::Acquire) + CALLS_AFTER_EACH_ACT;
            while stage.made.load(Ordering::Acquire) < wanted {
                tokio::task::yield_now().await;
            }
        };
        let mut inside = self.place.look_inside().await;
        let mut turns = Vec::new();
        for round in 0..rounds() as u64 {
            calls().await;
            for gives in [false, true] {
                if gives {
                    stage.generation.fetch_add(1, Ordering::Release);
                }
                let rows = "SELECT COUNT(*) FROM listings WHERE fields LIKE $1";
                let mark = format!("%\"{}\"%", stage.mark_of(round));
                let mut landed = async || {
                    let count = sqlx::query_scalar(rows).bind(&mark).fetch_one(&mut inside);
                    count.await.expect("answers")
                };
                let began = Instant::now();
                act(gives).await;
                turns.push(Turn {
                    began,
                    returned: Instant::now(),
                    gives,
                });
                if !gives {
                    let at_return: i64 = landed().await;
                    calls().await;
                    let later: i64 = landed().await;
                    assert_eq!(at_return, later, "{told}: a write landed after return");
                }
            }
        }
        calls().await;
        stage.over.store(true, Ordering::Release);
        for client in clients {
            client.await.expect("no panic");
        }
        let calls = std::mem::take(&mut *stage.calls.lock().expect("not poisoned"));
        let wrong = judge(&turns, &calls, taken);
        assert!(wrong.is_empty(), "{told}: {wrong:#?}");
        println!("{told}: {} calls, {} turns", calls.len(), turns.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_key_may_not_do_any_more_is_not_done_from_the_moment_that_the_act_returns() {
    let market = Market::open().await;
    let slug = |text: &str| text.parse().expect("a slug");
    let (dealer, hub) = ("lone-star", "feedhub");
    let kind = |text: &str| match text {
        "lone-star" => truckradar::accounts::AccountKind::Seller,
        _ => truckradar::accounts::AccountKind::Platform,
    };
    let standing = async |name: &'static str, gives: bool| {
        let (kind, slug) = (kind(name), slug(name));
        let reason = "unpaid".to_owned();
        market
            .account(match gives {
                true => AccountCommand::Resume { kind, slug },
                false => AccountCommand::Suspend { kind, slug, reason },
            })
            .await;
    };
    let platform_key = market.platform_key.as_str();
    let own_key = market.own_key.as_str();
    let named = Some(dealer);
    let access = async |gives| market.access(gives).await;
    market
        .check(
            "access given and withdrawn",
            platform_key,
            named,
            403,
            access,
        )
        .await;
    let suspends = async |gives| standing(dealer, gives).await;
    market
        .check(
            "the dealer suspended and resumed",
            own_key,
            None,
            403,
            suspends,
        )
        .await;
    market
        .check(
            "the same under the platform's key",
            platform_key,
            named,
            403,
            suspends,
        )
        .await;
    let suspends = async |gives| standing(hub, gives).await;
    market
        .check(
            "the platform suspended and resumed",
            platform_key,
            named,
            403,
            suspends,
        )
        .await;
    let plan = async |gives: bool| {
        let (kind, slug) = (kind(hub), slug(hub));
        let plan = match gives {
            true => truckradar::accounts::Plan::Enterprise,
            false => truckradar::accounts::Plan::Pro,
        };
        market
            .account(AccountCommand::Plan { kind, slug, plan })
            .await;
    };
    market
        .check(
            "the plan taken and given back",
            platform_key,
            named,
            403,
            plan,
        )
        .await;
    let networks = async |gives: bool| {
        let networks = (!gives).then(|| "203.0.113.0/24".to_owned());
        let slug = slug(dealer);
        market
            .account(AccountCommand::Networks { slug, networks })
            .await;
    };
    market
        .check("networks set and lifted", own_key, None, 403, networks)
        .await;
}
