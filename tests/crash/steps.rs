//! A crash at every step of every act on keys, each time at that very step.
//!
//! An act is stopped by a trigger that the test puts into the database: after the statement in question it begins to count
//! and never ends. First it fills more pages than the server keeps in memory, so that the log beside the database grows by
//! what is not committed: the sign that the act has come this far, and more for the restart to throw away.
//!
//! Between a commit and its publication there is no statement to stop at. What a crash there leaves behind is what one leaves
//! before the receipt, since publishing writes nothing; and a server killed the moment its commit can be seen is often there.
//!
//! Never: a state after a crash that is asked of the dead server's memory.

use std::{
    fs,
    sync::Arc,
    time::{Duration, Instant},
};

use sqlx::AssertSqlSafe;

use crate::support::{
    binary::{Place, Served},
    client::Client,
    full,
    key_act::KeyAct::{self, CutOver, Discard, Expire, Generate, Prepare},
};

/// Bytes that the log has when a stopped act is seen: more than whole acts write, less than the trigger does.
const LOG_BYTES: u64 = 4 << 20;
/// How long an act may take to get to where it is stopped, on a machine busy with other tests.
const PATIENCE: Duration = Duration::from_secs(60);

/// A statement inside an act, as a trigger names it.
#[derive(Debug)]
struct Step {
    after: &'static str,
    /// Whether the act has been committed and published by then, and only its receipt is being filed.
    done: bool,
}

const fn before_the_commit(after: &'static str) -> Step {
    Step { after, done: false }
}

const fn filing_the_receipt(after: &'static str) -> Step {
    Step { after, done: true }
}

const OLD_KEY_MARKED: Step =
    before_the_commit("UPDATE OF state ON api_keys WHEN NEW.state = 'replaced'");
const MADE_LIVE: Step = before_the_commit("INSERT ON api_keys WHEN NEW.state = 'live'");
const DISCARDED: Step = before_the_commit("INSERT ON api_keys WHEN NEW.state = 'replaced'");
const STAGING_ENDED: Step = before_the_commit("DELETE ON staged_keys");
const STAGED: Step = before_the_commit("INSERT ON staged_keys");
const OLD_KEY_EXPIRED: Step =
    before_the_commit("UPDATE OF state ON api_keys WHEN NEW.state = 'expired'");
const WRITTEN_DOWN: Step = before_the_commit("INSERT ON audit_log");
const MAILED: Step = before_the_commit("INSERT ON outbox");
const VERSION_COUNTED: Step = before_the_commit("UPDATE OF key_version ON sellers");
const EPOCH_COUNTED: Step = before_the_commit("UPDATE OF epoch ON key_epoch");
const STAMPED: Step =
    before_the_commit("UPDATE OF changed_epoch ON api_keys WHEN NEW.changed_epoch > 0");
const STAGED_STAMPED: Step =
    before_the_commit("UPDATE OF changed_epoch ON staged_keys WHEN NEW.changed_epoch > 0");
const SHOWING_NOTED: Step = filing_the_receipt("UPDATE OF shown_us ON api_keys");
const STAGED_SHOWING_NOTED: Step = filing_the_receipt("UPDATE OF shown_us ON staged_keys");
const RECEIPT_FILED: Step = filing_the_receipt("UPDATE OF receipt ON audit_log");

/// The steps of each act, in their order, of a Seller that has a live key and a staged one.
const ACTS: [(KeyAct, &[Step]); 5] = [
    (
        Generate,
        &[
            DISCARDED,
            STAGING_ENDED,
            OLD_KEY_MARKED,
            MADE_LIVE,
            WRITTEN_DOWN,
            MAILED,
            VERSION_COUNTED,
            EPOCH_COUNTED,
            STAMPED,
            SHOWING_NOTED,
            RECEIPT_FILED,
        ],
    ),
    (
        Prepare,
        &[
            DISCARDED,
            STAGING_ENDED,
            STAGED,
            WRITTEN_DOWN,
            MAILED,
            VERSION_COUNTED,
            EPOCH_COUNTED,
            STAMPED,
            STAGED_STAMPED,
            STAGED_SHOWING_NOTED,
            RECEIPT_FILED,
        ],
    ),
    (
        CutOver,
        &[
            OLD_KEY_MARKED,
            MADE_LIVE,
            STAGING_ENDED,
            WRITTEN_DOWN,
            MAILED,
            VERSION_COUNTED,
            EPOCH_COUNTED,
            STAMPED,
            RECEIPT_FILED,
        ],
    ),
    (
        Discard,
        &[
            DISCARDED,
            STAGING_ENDED,
            WRITTEN_DOWN,
            MAILED,
            VERSION_COUNTED,
            EPOCH_COUNTED,
            STAMPED,
            RECEIPT_FILED,
        ],
    ),
    (
        Expire,
        &[
            DISCARDED,
            STAGING_ENDED,
            OLD_KEY_EXPIRED,
            WRITTEN_DOWN,
            MAILED,
            VERSION_COUNTED,
            EPOCH_COUNTED,
            STAMPED,
            RECEIPT_FILED,
        ],
    ),
];

/// A live key and a staged one.
struct Pair {
    live: String,
    staged: String,
}

impl Pair {
    /// Whatever there was before, now there are these two.
    async fn make(place: &Place) -> Self {
        let mut made = Vec::new();
        for act in [Generate, Prepare] {
            let answer = act.by_socket(place).await;
            made.push(answer["key"].as_str().expect("a key").to_owned());
        }
        let [live, staged] = made.try_into().expect("two");
        Self { live, staged }
    }

    /// What the two are answered: 200, or the reason of a 401.
    async fn answers(&self, served: &Served) -> [String; 2] {
        let mut told = Vec::new();
        for key in [&self.live, &self.staged] {
            let answer = Client::new(served.api, Some(key)).get("/api/v1/key").await;
            told.push(match answer.status.as_u16() {
                401 => answer.reason(),
                status => status.to_string(),
            });
        }
        told.try_into().expect("two")
    }
}

const BEFORE: [&str; 2] = ["200", "staged"];

/// What [`Pair::answers`] tells after an act.
fn after(act: KeyAct) -> [&'static str; 2] {
    match act {
        Generate | Expire => ["revoked", "revoked"],
        Prepare | Discard => ["200", "revoked"],
        CutOver => ["revoked", "200"],
    }
}

/// Has the next act stop after this statement, for good.
async fn stop_after(place: &Place, step: &Step) {
    let sql = format!(
        "CREATE TABLE filling (page);
         CREATE VIEW forty AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 40) SELECT i FROM n;
         CREATE VIEW endless AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n;
         CREATE TRIGGER stop AFTER {} BEGIN
             INSERT INTO filling SELECT zeroblob(1000000) FROM forty;
             SELECT COUNT(*) FROM endless;
         END;",
        step.after
    );
    place.change(AssertSqlSafe(sql)).await;
    // A log that was long once is written from its beginning, and would not grow.
    until("the log is short", async || {
        place.change("PRAGMA wal_checkpoint(TRUNCATE)").await;
        log_bytes(place) < LOG_BYTES
    })
    .await;
}

/// Lets acts go on to their end again.
async fn let_go(place: &Place) {
    let sql = "DROP TRIGGER stop; DROP VIEW forty; DROP VIEW endless; DROP TABLE filling;";
    place.change(sql).await;
}

fn log_bytes(place: &Place) -> u64 {
    let log = place.database_file().with_extension("db-wal");
    fs::metadata(log).map_or(0, |log| log.len())
}

async fn until(told: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so().await {
        assert!(Instant::now() < end, "never came to be: {told}");
        tokio::task::yield_now().await;
    }
}

/// What the operator is told of the two keys: each one's state as `key show` has it, and whether it was shown.
fn shown(place: &Place) -> [Option<bool>; 2] {
    let shown = place.json(&["key", "show", "--seller", "lone-star"], "");
    ["key", "staged"].map(|key| shown[key]["shown"].as_bool())
}

/// After all, the Seller gets a key that works, and the two are dead.
async fn assert_goes_on(place: &Place, served: &Served, pair: &Pair, told: &str) {
    let made = Generate.by_socket(place).await;
    let key = made["key"].as_str().expect("a key");
    let answer = Client::new(served.api, Some(key)).get("/api/v1/key").await;
    assert_eq!(answer.status, 200, "{told}");
    assert_eq!(pair.answers(served).await, ["revoked"; 2], "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_step_an_act_on_keys_has_happened_or_has_not() {
    let place = Arc::new(Place::on_file());
    let mut served = place.serve(&[]);
    place.create_seller("lone-star");
    let mut crashes = 0;
    for (act, steps) in ACTS {
        for (number, step) in steps.iter().enumerate() {
            // The short form: the first step, the last one before the commit, and those after it.
            let is_last = steps.get(number + 1).is_none_or(|next| next.done);
            if !(full() || number == 0 || is_last) {
                continue;
            }
            let told = format!("{act:?}, after {}", step.after);
            let pair = Pair::make(&place).await;
            stop_after(&place, step).await;
            let before = place.everything().await;
            let (asked, at) = (Arc::clone(&place), act);
            let asked = tokio::spawn(async move { at.try_by_socket(&asked).await });
            until(&told, async || log_bytes(&place) > LOG_BYTES).await;
            let expected = if step.done { after(act) } else { BEFORE };
            assert_eq!(pair.answers(&served).await, expected, "{told}: stopped");

            served.kill();
            let answer = asked.await.expect("no panic");
            assert!(!matches!(answer, Ok(Some(_))), "{told}: {answer:?}");
            served = place.serve(&[]);
            assert_eq!(pair.answers(&served).await, expected, "{told}: killed");
            if step.done {
                assert_nobody_has_the_new_key(&place, &served, act, &pair, &told).await;
            } else {
                place.assert_unchanged(&before, &told).await;
            }
            let_go(&place).await;
            assert_goes_on(&place, &served, &pair, &told).await;
            crashes += 1;
        }
    }
    println!("{crashes} crashes, each at a step of its own");
}

/// What is known of an act that was committed and whose receipt was never filed.
async fn assert_nobody_has_the_new_key(
    place: &Place,
    served: &Served,
    act: KeyAct,
    pair: &Pair,
    told: &str,
) {
    let expected = match act {
        Generate => [Some(false), None],
        Prepare => [Some(true), Some(false)],
        CutOver | Discard => [Some(true), None],
        Expire => [None, None],
    };
    assert_eq!(shown(place), expected, "{told}");
    let mut inside = place.look_inside().await;
    let last = "SELECT receipt FROM audit_log WHERE key_id IS NOT NULL ORDER BY at_us DESC, id DESC LIMIT 1";
    let receipt: Option<String> = sqlx::query_scalar(last)
        .fetch_one(&mut inside)
        .await
        .expect("reads");
    assert_eq!(receipt, None, "{told}");
    if act == Prepare {
        let out = place.run(&["key", "cut-over", "--seller", "lone-star"], "");
        assert_eq!(out.status.code(), Some(1), "{told}");
        assert_eq!(pair.answers(served).await, after(act), "{told}");
    }
}

/// What can be seen from outside at the moment of the kill.
#[derive(Clone, Copy, Debug)]
enum Seen {
    /// The commit: the server may have published it or not.
    TheCommit,
    /// The receipt's: the answer may have gone out or not.
    TheReceipt,
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_the_moment_its_commit_can_be_seen_an_act_on_keys_has_happened() {
    let rounds = if full() { 25 } else { 2 };
    let place = Arc::new(Place::on_file());
    let mut served = place.serve(&[]);
    place.create_seller("lone-star");
    let mut inside = place.look_inside().await;
    let (mut unanswered, mut kills) = (0, 0);
    for (act, seen) in ACTS
        .iter()
        .flat_map(|(act, _)| [(*act, Seen::TheCommit), (*act, Seen::TheReceipt)])
        .flat_map(|case| std::iter::repeat_n(case, rounds))
    {
        let told = format!("{act:?}, when {seen:?} was seen");
        let pair = Pair::make(&place).await;
        let sql = match seen {
            Seen::TheCommit => "SELECT epoch FROM key_epoch",
            Seen::TheReceipt => "SELECT COUNT(receipt) FROM audit_log",
        };
        let mut look = async || -> i64 {
            let number = sqlx::query_scalar(sql).fetch_one(&mut inside).await;
            number.expect("reads")
        };
        let before = look().await;
        let asked = Arc::clone(&place);
        let asked = tokio::spawn(async move { act.try_by_socket(&asked).await });
        until(&told, async || look().await != before).await;
        served.kill();
        let answer = asked.await.expect("no panic");
        unanswered += usize::from(!matches!(answer, Ok(Some(Ok(_)))));
        kills += 1;
        served = place.serve(&[]);
        assert_eq!(pair.answers(&served).await, after(act), "{told}");
        if let Ok(Some(Ok(made))) = answer
            && let Some(key) = made["key"].as_str()
        {
            // What was acknowledged holds.
            let answer = Client::new(served.api, Some(key)).get("/api/v1/key").await;
            let expected = if act == Generate { 200 } else { 401 };
            assert_eq!(answer.status, expected, "{told}");
        }
        assert_goes_on(&place, &served, &pair, &told).await;
    }
    // How many is luck, and none on a slow machine. Those of the steps that file a receipt are all before the answer.
    println!("{kills} kills, {unanswered} of them before the answer");
}
