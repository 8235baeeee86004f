//! How people come in, stay in, bring others in and are shown out: told through [`People`], on a SQLite file and on a
//! PostgreSQL database of each story's own.
//!
//! Never: a wait for a quarter of an hour to pass, let alone a month: what is stored is made older instead; an assertion that
//! a slow machine would fail.

use std::{net::IpAddr, path::PathBuf, sync::Arc, time::Duration};

use sqlx::{
    AssertSqlSafe, Connection, PgConnection, SqliteConnection, sqlite::SqliteConnectOptions,
};
use tempfile::TempDir;
use truckradar::{
    accounts::{
        Email, Role,
        passwords::{Password, PasswordError},
        people::{People, PersonError, Visitor},
        sellers::create_seller,
        sessions::{Admitted, Member, Session, Use},
        tokens::Token,
    },
    audit::Act,
    clock::Clock,
    db::{Db, DbError, DbUrl},
    ids::UserId,
    keys::scope::{OperatorAuthority, SellerScope},
};

use crate::support::postgres;

/// The stories, as sentences; each becomes a test of each engine.
macro_rules! stories {
    ($($sentence:ident)+) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $sentence() {
                super::$sentence(super::House::on_sqlite().await).await;
            })+
        }
        mod postgresql {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $sentence() {
                super::$sentence(super::House::on_postgres().await).await;
            })+
        }
    };
}

stories! {
    whoever_knows_the_password_comes_in
    a_wrong_password_and_an_unknown_address_are_the_same_error
    the_tenth_failure_waits_and_nobody_else_waits_with_it

    a_session_that_is_idle_or_old_is_none
    a_sessions_use_is_noted_once_a_minute
    signing_in_ends_the_session_that_the_browser_had
    giving_the_password_again_renews_the_token
    another_password_ends_every_other_session
    no_session_of_the_old_password_outlives_it
    of_two_who_change_a_password_at_once_one_is_too_late
    a_person_ends_their_own_sessions_only
    what_counts_no_more_is_forgotten

    whoever_was_invited_comes_in_once
    of_two_who_follow_a_link_at_once_one_comes_in
    a_link_taken_back_replaced_or_run_out_is_dead
    a_user_accepts_with_the_password_they_have
    two_invitations_may_make_somebody_a_user_at_the_same_time
    an_admin_manages_everybody_but_owners
    a_viewer_changes_nothing
    the_last_owner_stays
    nobody_comes_back_by_an_invitation_they_left_behind
    a_reset_works_once_and_ends_every_session
}

// ---------------------------------------------------------------------------------------------------------------------
// How stories begin.

const SELLER: &str = "lone-star";
/// The Seller's owner from the beginning.
const ANN: &str = "ann@lone.example";
const ANNS: &str = "correct horse battery";
/// A password that whoever is new chooses.
const CHOSEN: &str = "seven lorries at dawn";
const ANOTHER: &str = "gravel under the wheels";

/// One Seller and its owner.
struct House {
    people: Arc<People>,
    db: Db,
    /// The operator's right to act on the Seller.
    operator: SellerScope,
    place: Place,
}

/// Where the database is, for whoever wants to look past the product. It lasts as long as this does.
enum Place {
    Sqlite(PathBuf, #[expect(dead_code, reason = "held")] TempDir),
    Postgres(postgres::Database),
}

fn email(text: &str) -> Email {
    text.parse().expect("an address")
}

/// The session's token of somebody who has no second factor.
fn inside(admitted: Admitted) -> Token {
    match admitted {
        Admitted::In(token) => token,
        Admitted::HalfWay(_) => panic!("a code is awaited"),
    }
}

/// A client at an address of the documentation's.
fn visitor(last: u8) -> Visitor {
    Visitor {
        address: IpAddr::from([192, 0, 2, last]),
        user_agent: format!("browser {last}"),
    }
}

impl House {
    async fn on_sqlite() -> Self {
        let folder = tempfile::Builder::new()
            .prefix("tr-")
            .tempdir()
            .expect("a temporary folder");
        let file = folder.path().join("t.db");
        let url = DbUrl::Sqlite(file.clone());
        Self::open(&url, Place::Sqlite(file, folder)).await
    }

    async fn on_postgres() -> Self {
        let database = postgres::Database::create().await;
        let url = DbUrl::Postgres(database.url());
        Self::open(&url, Place::Postgres(database)).await
    }

    async fn open(url: &DbUrl, place: Place) -> Self {
        let db = Db::open(url).await.expect("opens");
        db.migrate().await.expect("migrates");
        let operator = seller(&db, SELLER, ANN, ANNS).await;
        Self {
            people: Arc::new(People::new(db.clone(), Clock::system())),
            db,
            operator,
            place,
        }
    }

    /// Changes what is stored, on a connection that the product does not know of; how many rows.
    async fn alter(&self, sql: &str) -> u64 {
        let sql = AssertSqlSafe(sql.to_owned());
        match &self.place {
            Place::Sqlite(file, _) => {
                let options = SqliteConnectOptions::new().filename(file);
                let mut own = SqliteConnection::connect_with(&options)
                    .await
                    .expect("opens");
                let done = sqlx::query(sql).execute(&mut own).await.expect(ALTERS);
                own.close().await.expect("closes");
                done.rows_affected()
            }
            Place::Postgres(database) => {
                let mut own = PgConnection::connect(&database.url()).await.expect("opens");
                let done = sqlx::query(sql).execute(&mut own).await.expect(ALTERS);
                own.close().await.expect("closes");
                done.rows_affected()
            }
        }
    }

    /// Makes what a column holds this much older, in every row.
    async fn age(&self, table: &str, column: &str, by: Duration) {
        let by = by.as_micros();
        self.alter(&format!("UPDATE {table} SET {column} = {column} - {by}"))
            .await;
    }

    /// How many rows a table has.
    async fn count(&self, table: &str) -> i64 {
        let sql = AssertSqlSafe(format!("SELECT COUNT(*) FROM {table}"));
        match &self.place {
            Place::Sqlite(file, _) => {
                let options = SqliteConnectOptions::new().filename(file).read_only(true);
                let mut own = SqliteConnection::connect_with(&options)
                    .await
                    .expect("opens");
                let count = sqlx::query_scalar(sql).fetch_one(&mut own).await;
                own.close().await.expect("closes");
                count.expect("counts")
            }
            Place::Postgres(database) => {
                let mut own = PgConnection::connect(&database.url()).await.expect("opens");
                let count = sqlx::query_scalar(sql).fetch_one(&mut own).await;
                own.close().await.expect("closes");
                count.expect("counts")
            }
        }
    }

    /// Waits until so many failures are on record; each is there twice, once for the account and once for the client.
    async fn failures_reach(&self, failures: i64) {
        while self.count("sign_in_failures").await < 2 * failures {
            tokio::task::yield_now().await;
        }
    }

    async fn sign_in(&self, address: &str, password: &str) -> Result<Token, PersonError> {
        let from = visitor(1);
        let signed_in = self.people.sign_in(address, password, &from, None);
        signed_in.await.map(inside)
    }

    /// The session that a token stands for now, asked for from the first client.
    async fn session(&self, token: &Token) -> Option<Session> {
        let found = self.people.session(token, &visitor(1), Use::Counts).await;
        found.expect("the database answers")
    }

    /// The session that a right password gives.
    async fn signed_in(&self, address: &str, password: &str) -> (Token, Session) {
        let token = self.sign_in(address, password).await.expect("comes in");
        let session = self.session(&token).await.expect("is signed in");
        (token, session)
    }

    async fn invite(&self, address: &str, role: Role) -> Token {
        let address = email(address);
        let made = self.people.invite(self.operator, &address, role).await;
        made.expect("the operator may invite anybody")
    }

    async fn accept(&self, link: &Token, password: &str) -> Result<Token, PersonError> {
        let accepted = self.people.accept(link, password, &visitor(1), None).await;
        accepted.map(|(admitted, _)| inside(admitted))
    }

    /// Somebody new who becomes a member of the Seller.
    async fn joins(&self, address: &str, role: Role) -> Member {
        let link = self.invite(address, role).await;
        let token = self.accept(&link, CHOSEN).await.expect("joins");
        let session = self.session(&token).await.expect("is signed in");
        session.member_by_slug(Some(SELLER)).expect("is a member")
    }

    async fn id_of(&self, address: &str) -> UserId {
        let found = self.db.user_by_email(&email(address)).await;
        found.expect("answers").expect("is a User").id
    }

    async fn ann(&self) -> SellerScope {
        SellerScope::by_membership(self.operator.seller(), self.id_of(ANN).await)
    }

    /// The Seller's members: address and role, owners first.
    async fn members(&self) -> Vec<(String, Role)> {
        let members = self.db.members(self.operator).await.expect("answers");
        members.into_iter().map(|m| (m.email, m.role)).collect()
    }

    /// Whom the Seller's invitations are for.
    async fn invited(&self) -> Vec<String> {
        let now = Clock::system().now();
        let links = self.db.invitations(self.operator, now).await;
        let links = links.expect("answers").into_iter();
        links.map(|link| link.email).collect()
    }
}

const ALTERS: &str = "the statement fits the schema";
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);
const MINUTE: Duration = Duration::from_secs(60);
const SECOND: Duration = Duration::from_secs(1);

async fn seller(db: &Db, slug: &str, owner: &str, password: &str) -> SellerScope {
    let slug_ = slug.parse().expect("a slug");
    let password = Password::new(password, &[]).expect("may be set");
    let clock = Clock::system();
    let made = create_seller(db, &clock, slug_, slug, email(owner), password).await;
    OperatorAuthority::assume().scope(made.expect("is new").seller)
}

fn row(address: &str, role: Role) -> (String, Role) {
    (address.to_owned(), role)
}

/// That an act was refused for this reason, by its pattern.
macro_rules! assert_refused {
    ($result:expr, $reason:pat) => {
        let refusal = $result.err();
        assert!(matches!(refusal, Some($reason)), "{refusal:?}");
    };
}

// ---------------------------------------------------------------------------------------------------------------------
// Signing in.

async fn whoever_knows_the_password_comes_in(house: House) {
    let from = visitor(7);
    // People do not remember how they wrote their address.
    let shouted = house
        .people
        .sign_in(" Ann@LONE.example ", ANNS, &from, None);
    let token = inside(shouted.await.expect("comes in"));
    let session = house
        .people
        .session(&token, &from, Use::Counts)
        .await
        .expect("answers");
    let session = session.expect("is signed in");
    assert_eq!(session.email(), ANN);
    assert!(session.is_recent(Clock::system().now()));
    let member = session.member_by_slug(None).expect("is a member");
    assert_eq!((member.slug(), member.role()), (SELLER, Role::Owner));
    assert_eq!(member.seller(), house.operator.seller());
    assert!(session.member_by_id(member.seller()).is_some());
    assert!(session.member_by_slug(Some("great-lakes")).is_none());
    // What they are a member of is theirs to act for.
    let write = house.db.begin_write(member.scope()).await;
    drop(write.expect("an owner may act"));

    let rows = house.people.sessions_of(session.user()).await;
    let rows = rows.expect("answers");
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].id, session.id());
    assert_eq!(
        (&*rows[0].address, &*rows[0].user_agent),
        ("192.0.2.7", "browser 7")
    );
    let made_up = Token::generate().expect("randomness");
    assert!(house.session(&made_up).await.is_none());
    assert_eq!(
        house.count("sign_in_failures").await,
        0,
        "only failures count"
    );
}

async fn a_wrong_password_and_an_unknown_address_are_the_same_error(house: House) {
    let huge = "x".repeat(100_000);
    let mut said = Vec::new();
    for (address, password) in [
        (ANN, "correct horse batterz"),
        (ANN, ""),
        (ANN, &huge),
        ("nobody@lone.example", ANNS),
        ("no address", ANNS),
        ("", ""),
    ] {
        let refusal = house.sign_in(address, password).await.err();
        let refusal = refusal.expect("nobody comes in so");
        assert!(matches!(refusal, PersonError::WrongPassword), "{refusal:?}");
        said.push(refusal.to_string());
    }
    said.dedup();
    assert_eq!(said.len(), 1, "{said:?}");
    // Each counts, and none tells who was tried from where.
    assert_eq!(house.count("sign_in_failures").await, 12);
    let told = "sign_in_failures WHERE subject LIKE '%ann%' OR subject LIKE '%192.0%'";
    assert_eq!(house.count(told).await, 0);
    assert_eq!(house.count("sessions").await, 0);
}

/// Doubles the failures of every subject that has eight or fewer: a hash for each would take long.
const DOUBLE_THE_FEW: &str = "INSERT INTO sign_in_failures SELECT subject, at_us FROM sign_in_failures \
     WHERE subject IN (SELECT subject FROM sign_in_failures GROUP BY subject HAVING COUNT(*) <= 8)";

/// Has the account and the client fail sixteen times: each further failure is answered after eight seconds.
async fn fails_often(house: &House, address: &str, from: &Visitor) {
    let failed = house.people.sign_in(address, "wrong", from, None).await;
    assert_refused!(failed, PersonError::WrongPassword);
    for doubled in [2, 4, 8, 16] {
        assert_eq!(house.alter(DOUBLE_THE_FEW).await, doubled);
    }
}

async fn the_tenth_failure_waits_and_nobody_else_waits_with_it(house: House) {
    let (guesser, other) = (visitor(1), visitor(2));
    fails_often(&house, ANN, &guesser).await;
    let people = Arc::clone(&house.people);
    let guess = tokio::spawn(async move {
        let failed = people.sign_in(ANN, "wrong", &visitor(1), None).await;
        assert_refused!(failed, PersonError::WrongPassword);
    });
    house.failures_reach(17).await;

    // While that answer is kept back, Ann comes in from where nobody guesses: her account is not locked.
    let ann = house.people.sign_in(ANN, ANNS, &other, None).await;
    ann.expect("comes in");
    // So does she from where somebody guesses: only failures wait.
    let ann = house.people.sign_in(ANN, ANNS, &guesser, None).await;
    ann.expect("comes in");
    // And the first nine failures of somebody else's are answered at once.
    let zoe = "zoe@lone.example";
    let fail = async || {
        let failed = house.people.sign_in(zoe, "wrong", &other, None).await;
        assert_refused!(failed, PersonError::WrongPassword);
    };
    fail().await;
    for doubled in [2, 4, 8] {
        assert_eq!(house.alter(DOUBLE_THE_FEW).await, doubled);
    }
    fail().await;
    assert!(!guess.is_finished(), "it was not kept back");

    let began = tokio::time::Instant::now();
    fail().await;
    assert!(began.elapsed() >= SECOND, "the tenth is kept back");
    // A quarter of an hour later it is forgotten.
    house.age("sign_in_failures", "at_us", 15 * MINUTE).await;
    fail().await;
    assert!(!guess.is_finished(), "it was not kept back for long");
    guess.abort();
}

/// It takes eight seconds, and turns are no matter of the database: one engine is enough.
#[tokio::test(flavor = "multi_thread")]
async fn hanging_up_does_not_free_the_turn_of_a_client_that_guesses() {
    let house = House::on_sqlite().await;
    fails_often(&house, ANN, &visitor(1)).await;
    let guesses: Vec<_> = (0..4)
        .map(|n| {
            let people = Arc::clone(&house.people);
            tokio::spawn(async move {
                let address = format!("guess-{n}@lone.example");
                drop(people.sign_in(&address, "wrong", &visitor(1), None).await);
            })
        })
        .collect();
    house.failures_reach(20).await;
    for guess in guesses {
        guess.abort();
        assert!(guess.await.is_err_and(|end| end.is_cancelled()));
    }
    // Its fifth attempt, even a right one, waits until one of the four has been answered to nobody.
    let people = Arc::clone(&house.people);
    let fifth = tokio::spawn(async move { people.sign_in(ANN, ANNS, &visitor(1), None).await });
    for _ in 0..3 {
        let ann = house.people.sign_in(ANN, ANNS, &visitor(2), None).await;
        ann.expect("comes in from elsewhere");
    }
    assert!(!fifth.is_finished(), "it did not wait for its turn");
    let fifth = fifth.await.expect("does not panic");
    fifth.expect("its turn comes");
}

// ---------------------------------------------------------------------------------------------------------------------
// Sessions.

async fn a_session_that_is_idle_or_old_is_none(house: House) {
    for (column, limit) in [("seen_us", 12 * HOUR), ("created_us", 30 * DAY)] {
        let (token, session) = house.signed_in(ANN, ANNS).await;
        // Neither the other time is past then, nor this one yet.
        house.age("sessions", column, limit - 5 * MINUTE).await;
        let rows = house.people.sessions_of(session.user()).await;
        assert_eq!(rows.expect("answers").len(), 1, "{column}");
        house.age("sessions", column, 5 * MINUTE).await;
        let rows = house.people.sessions_of(session.user()).await;
        assert!(rows.expect("answers").is_empty(), "{column}");
        assert!(house.session(&token).await.is_none(), "{column}");
        // Being asked for does not bring it back.
        assert!(house.session(&token).await.is_none(), "{column}");
    }
    // Use keeps a session from being idle, but not from growing old.
    let (token, _) = house.signed_in(ANN, ANNS).await;
    for _ in 0..2 {
        house.age("sessions", "seen_us", 12 * HOUR - MINUTE).await;
        assert!(house.session(&token).await.is_some());
    }
    house.age("sessions", "created_us", 30 * DAY).await;
    assert!(house.session(&token).await.is_none());
}

async fn a_sessions_use_is_noted_once_a_minute(house: House) {
    let (token, session) = house.signed_in(ANN, ANNS).await;
    let stored = async || {
        let rows = house.db.sessions_of(session.user()).await;
        let row = rows.expect("answers").remove(0);
        (row.seen_us, row.address, row.user_agent)
    };
    let use_it = async || {
        let found = house.people.session(&token, &visitor(9), Use::Counts).await;
        found.expect("answers").expect("is signed in");
    };
    // Ten seconds to spare, so that a slow machine does not make it a minute.
    house.age("sessions", "seen_us", 50 * SECOND).await;
    let before = stored().await;
    assert_eq!(before.1, "192.0.2.1");
    for _ in 0..3 {
        use_it().await;
        assert_eq!(stored().await, before);
    }
    house.age("sessions", "seen_us", 10 * SECOND).await;
    use_it().await;
    let after = stored().await;
    assert!(after.0 > before.0);
    assert_eq!((&*after.1, &*after.2), ("192.0.2.9", "browser 9"));
    use_it().await;
    assert_eq!(stored().await, after);
}

async fn signing_in_ends_the_session_that_the_browser_had(house: House) {
    house.joins("zoe@lone.example", Role::Viewer).await;
    let (elsewhere, _) = house.signed_in(ANN, ANNS).await;
    let (old, before) = house.signed_in(ANN, ANNS).await;
    let from = visitor(1);
    let failed = house
        .people
        .sign_in(ANN, "wrong", &from, Some(&before))
        .await;
    assert_refused!(failed, PersonError::WrongPassword);
    assert!(house.session(&old).await.is_some(), "a failure ends none");

    let new = house.people.sign_in(ANN, ANNS, &from, Some(&before)).await;
    let new = inside(new.expect("comes in"));
    assert!(house.session(&old).await.is_none());
    // Even when the browser was another person's.
    let before = house.session(&new).await.expect("is signed in");
    let zoe = "zoe@lone.example";
    let zoes = house.people.sign_in(zoe, CHOSEN, &from, Some(&before));
    let zoes = inside(zoes.await.expect("comes in"));
    assert!(house.session(&new).await.is_none());
    let zoes = house.session(&zoes).await.expect("is signed in");
    assert_eq!(zoes.email(), zoe);
    assert!(house.session(&elsewhere).await.is_some(), "another browser");
}

async fn giving_the_password_again_renews_the_token(house: House) {
    let (other, _) = house.signed_in(ANN, ANNS).await;
    let (old, _) = house.signed_in(ANN, ANNS).await;
    house.age("sessions", "confirmed_us", 15 * MINUTE).await;
    let session = house.session(&old).await.expect("is signed in");
    assert!(!session.is_recent(Clock::system().now()));
    let failed = house.people.confirm(&session, CHOSEN, &visitor(1)).await;
    assert_refused!(failed, PersonError::WrongPassword);
    let still = house.session(&old).await.expect("is signed in");
    assert!(!still.is_recent(Clock::system().now()));

    let new = house.people.confirm(&session, ANNS, &visitor(1)).await;
    let new = new.expect("is right");
    assert!(house.session(&old).await.is_none(), "the old token works");
    let renewed = house.session(&new).await.expect("is signed in");
    assert_eq!(renewed.id(), session.id());
    assert!(renewed.is_recent(Clock::system().now()));
    // What was given in one browser was not given in another.
    let other = house.session(&other).await.expect("is signed in");
    assert!(!other.is_recent(Clock::system().now()));

    let ended = house.people.end_session(&session, session.id()).await;
    ended.expect("ends");
    let late = house.people.confirm(&session, ANNS, &visitor(1)).await;
    assert_refused!(late, PersonError::SignedOut);
    assert!(house.session(&new).await.is_none());
}

async fn another_password_ends_every_other_session(house: House) {
    house.joins("zoe@lone.example", Role::Viewer).await;
    let (zoes, _) = house.signed_in("zoe@lone.example", CHOSEN).await;
    let (one, _) = house.signed_in(ANN, ANNS).await;
    let (two, _) = house.signed_in(ANN, ANNS).await;
    let (mine, session) = house.signed_in(ANN, ANNS).await;
    let change = async |old: &str, new: &str| {
        let (people, from) = (&house.people, visitor(1));
        people.change_password(&session, old, new, &from).await
    };
    assert_refused!(
        change(ANNS, "elevenchars").await,
        PersonError::Password(PasswordError::Length)
    );
    assert_refused!(
        change(ANNS, "password1234").await,
        PersonError::Password(PasswordError::Common)
    );
    assert_refused!(change(CHOSEN, ANOTHER).await, PersonError::WrongPassword);
    for token in [&one, &two, &mine, &zoes] {
        assert!(house.session(token).await.is_some(), "a refusal ends none");
    }
    // The session goes on under a new token, as whenever the password is given.
    let renewed = change(ANNS, ANOTHER).await.expect("changes");
    assert!(house.session(&renewed).await.is_some());
    assert!(house.session(&zoes).await.is_some());
    for token in [&one, &two, &mine] {
        assert!(house.session(token).await.is_none());
    }
    assert_refused!(house.sign_in(ANN, ANNS).await, PersonError::WrongPassword);
    house.sign_in(ANN, ANOTHER).await.expect("comes in");
}

async fn no_session_of_the_old_password_outlives_it(house: House) {
    let mut password = ANNS;
    for round in 0..6 {
        let next = if round % 2 == 0 { ANOTHER } else { ANNS };
        let (_, session) = house.signed_in(ANN, password).await;
        // Somebody else who knows it is on the way in, several times over, while it is changed.
        let comes = async |n| {
            let (people, from) = (&house.people, visitor(n));
            let signed_in = people.sign_in(ANN, password, &from, None).await;
            signed_in.map(inside)
        };
        let from = visitor(1);
        let change = house
            .people
            .change_password(&session, password, next, &from);
        let (changed, ..) = tokio::join!(change, comes(2), comes(3), comes(4), comes(5), comes(6));
        changed.expect("changes");
        let left = house.people.sessions_of(session.user()).await;
        let left: Vec<_> = left.expect("answers").iter().map(|s| s.id).collect();
        assert_eq!(left, [session.id()], "round {round}");
        password = next;
    }
}

async fn of_two_who_change_a_password_at_once_one_is_too_late(house: House) {
    let (_, one) = house.signed_in(ANN, ANNS).await;
    let (_, two) = house.signed_in(ANN, ANNS).await;
    let (first, second) = (visitor(1), visitor(2));
    let (done, other) = tokio::join!(
        house.people.change_password(&one, ANNS, CHOSEN, &first),
        house.people.change_password(&two, ANNS, ANOTHER, &second),
    );
    let now = match (done, other) {
        (Ok(_), Err(PersonError::WrongPassword)) => CHOSEN,
        (Err(PersonError::WrongPassword), Ok(_)) => ANOTHER,
        both => panic!("{both:?}"),
    };
    house.sign_in(ANN, now).await.expect("comes in");
}

async fn a_person_ends_their_own_sessions_only(house: House) {
    house.joins("zoe@lone.example", Role::Admin).await;
    let (zoes, zoe) = house.signed_in("zoe@lone.example", CHOSEN).await;
    let (one, first) = house.signed_in(ANN, ANNS).await;
    let (two, second) = house.signed_in(ANN, ANNS).await;
    let (three, _) = house.signed_in(ANN, ANNS).await;
    let people = &house.people;
    let ended = people.end_session(&first, zoe.id()).await;
    ended.expect("there is none of hers");
    assert!(house.session(&zoes).await.is_some());
    let ended = people.end_session(&first, first.id()).await;
    ended.expect("ends");
    assert!(house.session(&one).await.is_none());
    let ended = people.end_other_sessions(&second, Some(second.id()));
    assert_eq!(ended.await.expect("ends"), 1);
    assert!(house.session(&three).await.is_none());
    assert!(house.session(&two).await.is_some());
    assert!(house.session(&zoes).await.is_some());
    let ended = people.end_other_sessions(&second, None).await;
    assert_eq!(ended.expect("ends"), 1);
    assert!(house.session(&two).await.is_none());
}

async fn what_counts_no_more_is_forgotten(house: House) {
    house.invite("new@lone.example", Role::Viewer).await;
    house.sign_in(ANN, ANNS).await.expect("comes in");
    let failed = house.sign_in(ANN, "wrong").await;
    assert_refused!(failed, PersonError::WrongPassword);
    let tables = ["sessions", "account_links", "sign_in_failures"];
    let left = async || {
        house.people.forget_past().await.expect("forgets");
        let mut left = Vec::new();
        for table in tables {
            left.push(house.count(table).await);
        }
        left
    };
    let spare = 5 * MINUTE;
    house.age("sessions", "seen_us", 12 * HOUR - spare).await;
    house
        .age("account_links", "expires_us", 7 * DAY - spare)
        .await;
    house.age("sign_in_failures", "at_us", 10 * MINUTE).await;
    assert_eq!(left().await, [1, 1, 2], "all of it counts yet");
    house.age("sessions", "seen_us", spare).await;
    assert_eq!(left().await, [0, 1, 2]);
    house.age("account_links", "expires_us", spare).await;
    assert_eq!(left().await, [0, 0, 2]);
    house.age("sign_in_failures", "at_us", spare).await;
    assert_eq!(left().await, [0, 0, 0]);
}

// ---------------------------------------------------------------------------------------------------------------------
// Members.

async fn whoever_was_invited_comes_in_once(house: House) {
    let (ann, new) = (house.ann().await, email(" New@Lone.example "));
    let link = house.people.invite(ann, &new, Role::Admin).await;
    let link = link.expect("an owner may invite");
    let offer = house.people.invitation(&link).await.expect("stands");
    assert_eq!(offer.email, email("new@lone.example"));
    assert_eq!((offer.role, offer.is_user), (Role::Admin, false));
    assert_eq!(offer.seller, house.operator.seller());
    // Being looked at does not use it up, nor does a password that may not be set.
    for refused in ["", "elevenchars", "qwertyuiop123"] {
        let refused = house.accept(&link, refused).await;
        assert_refused!(refused, PersonError::Password(_));
    }
    assert_eq!(house.members().await, [row(ANN, Role::Owner)]);

    // Whoever was signed in in that browser is so no more.
    let (anns, before) = house.signed_in(ANN, ANNS).await;
    let from = visitor(1);
    let token = house.people.accept(&link, CHOSEN, &from, Some(&before));
    let (admitted, _) = token.await.expect("joins");
    let session = house
        .session(&inside(admitted))
        .await
        .expect("is signed in");
    assert_eq!(session.email(), "new@lone.example");
    let member = session.member_by_slug(None).expect("is a member");
    assert_eq!(member.role(), Role::Admin);
    assert!(house.session(&anns).await.is_none());
    let members = [row(ANN, Role::Owner), row("new@lone.example", Role::Admin)];
    assert_eq!(house.members().await, members);
    assert!(house.invited().await.is_empty());
    house.signed_in("new@lone.example", CHOSEN).await;

    let again = house.accept(&link, CHOSEN).await;
    assert_refused!(again, PersonError::DeadLink);
    assert_refused!(house.people.invitation(&link).await, PersonError::DeadLink);
    let twice = house.people.invite(house.operator, &new, Role::Owner);
    assert_refused!(twice.await, PersonError::IsMember(_));
    let acts = house.db.oldest_audit(house.operator, None, 10).await;
    let acts = acts.expect("answers");
    let told: Vec<_> = acts
        .iter()
        .map(|act| (act.act.as_str(), &*act.actor))
        .collect();
    let ann = ann.actor();
    let new = format!("user:{}", session.user());
    let expected = [
        (Act::SellerCreated, "operator"),
        (Act::MemberInvited, &ann),
        (Act::SessionBegan, &ann),
        (Act::MemberJoined, &new),
        // Ann's, in whose browser somebody signed in.
        (Act::SessionEnded, &ann),
        (Act::SessionBegan, &new),
        (Act::SessionBegan, &new),
    ];
    let expected = expected.map(|(act, actor): (Act, &str)| (act.as_str(), actor));
    assert_eq!(told, expected);
    assert_eq!(
        acts[4].user_id.as_ref().map(|user| format!("user:{user}")),
        Some(ann)
    );
}

async fn of_two_who_follow_a_link_at_once_one_comes_in(house: House) {
    let link = house.invite("new@lone.example", Role::Viewer).await;
    let (one, two) = tokio::join!(house.accept(&link, CHOSEN), house.accept(&link, ANOTHER));
    let (chosen, other) = match (one, two) {
        (Ok(_), Err(PersonError::DeadLink)) => (CHOSEN, ANOTHER),
        (Err(PersonError::DeadLink), Ok(_)) => (ANOTHER, CHOSEN),
        both => panic!("{both:?}"),
    };
    // Whoever was late has no password there.
    let new = "new@lone.example";
    house.sign_in(new, chosen).await.expect("comes in");
    assert_refused!(house.sign_in(new, other).await, PersonError::WrongPassword);
}

async fn a_link_taken_back_replaced_or_run_out_is_dead(house: House) {
    let new = email("new@lone.example");
    let dead = async |link: &Token| {
        assert_refused!(house.people.invitation(link).await, PersonError::DeadLink);
        let accepted = house.accept(link, CHOSEN).await;
        assert_refused!(accepted, PersonError::DeadLink);
    };
    let back = house.invite(new.as_str(), Role::Viewer).await;
    let taken = house.people.take_invitation_back(house.operator, &new);
    taken.await.expect("takes it back");
    dead(&back).await;

    let earlier = house.invite(new.as_str(), Role::Admin).await;
    let later = house.invite(new.as_str(), Role::Viewer).await;
    dead(&earlier).await;
    let spare = 5 * MINUTE;
    house
        .age("account_links", "expires_us", 7 * DAY - spare)
        .await;
    let offer = house.people.invitation(&later).await.expect("stands");
    assert_eq!(offer.role, Role::Viewer);
    house.age("account_links", "expires_us", spare).await;
    assert!(house.invited().await.is_empty());
    dead(&later).await;
    dead(&Token::generate().expect("randomness")).await;
    // A link to set a password lets nobody join.
    let reset = house.people.reset_link(&email(ANN)).await.expect("is made");
    dead(&reset).await;
    assert_eq!(house.members().await, [row(ANN, Role::Owner)]);
    assert!(
        house
            .db
            .user_by_email(&new)
            .await
            .expect("answers")
            .is_none()
    );
}

async fn a_user_accepts_with_the_password_they_have(house: House) {
    seller(&house.db, "great-lakes", "zoe@lakes.example", CHOSEN).await;
    let link = house.invite("zoe@lakes.example", Role::Viewer).await;
    let offer = house.people.invitation(&link).await.expect("stands");
    assert!(offer.is_user);
    for wrong in [ANOTHER, "", "short"] {
        let refused = house.accept(&link, wrong).await;
        assert_refused!(refused, PersonError::WrongPassword);
    }
    assert_eq!(
        house.count("sign_in_failures").await,
        6,
        "a link is no way around the count"
    );
    let token = house.accept(&link, CHOSEN).await.expect("joins");
    let session = house.session(&token).await.expect("is signed in");
    let of: Vec<_> = session
        .memberships()
        .iter()
        .map(|m| (&*m.slug, m.role))
        .collect();
    assert_eq!(of, [("great-lakes", Role::Owner), (SELLER, Role::Viewer)]);
}

async fn two_invitations_may_make_somebody_a_user_at_the_same_time(house: House) {
    let other = seller(&house.db, "great-lakes", "zoe@lakes.example", ANNS).await;
    let new = email("new@lone.example");
    let here = house.invite(new.as_str(), Role::Admin).await;
    let there = house.people.invite(other, &new, Role::Viewer).await;
    let there = there.expect("the operator may invite");
    let (one, two) = tokio::join!(house.accept(&here, CHOSEN), house.accept(&there, CHOSEN));
    one.expect("joins");
    two.expect("joins");
    let (_, session) = house.signed_in(new.as_str(), CHOSEN).await;
    assert_eq!(session.memberships().len(), 2);
}

async fn an_admin_manages_everybody_but_owners(house: House) {
    let admin = house.joins("adm@lone.example", Role::Admin).await.scope();
    house.joins("own@lone.example", Role::Owner).await;
    house.joins("see@lone.example", Role::Viewer).await;
    let people = &house.people;
    let new = email("new@lone.example");
    let owner = house.id_of("own@lone.example").await;
    let viewer = house.id_of("see@lone.example").await;
    let before = house.members().await;

    let invited = people.invite(admin, &new, Role::Owner).await;
    assert_refused!(invited, PersonError::NotAllowed);
    for role in [Role::Owner, Role::Admin, Role::Viewer] {
        let changed = people.set_role(admin, owner, role).await;
        assert_refused!(changed, PersonError::NotAllowed);
    }
    let raised = people.set_role(admin, viewer, Role::Owner).await;
    assert_refused!(raised, PersonError::NotAllowed);
    let own = house.id_of("adm@lone.example").await;
    let raised = people.set_role(admin, own, Role::Owner).await;
    assert_refused!(raised, PersonError::NotAllowed);
    let removed = people.remove_member(admin, owner).await;
    assert_refused!(removed, PersonError::NotAllowed);
    let nobody = UserId::new();
    let removed = people.remove_member(admin, nobody).await;
    assert_refused!(removed, PersonError::NoSuchMember);
    let changed = people.set_role(admin, nobody, Role::Viewer).await;
    assert_refused!(changed, PersonError::NoSuchMember);
    assert_eq!(house.members().await, before);
    assert!(house.invited().await.is_empty());

    // The rest is theirs to do.
    let raised = people.set_role(admin, viewer, Role::Admin).await;
    raised.expect("an admin may make admins");
    for role in [Role::Admin, Role::Viewer] {
        let link = people.invite(admin, &new, role).await;
        let link = link.expect("an admin may invite");
        assert_eq!(people.invitation(&link).await.expect("stands").role, role);
    }
    let back = people.take_invitation_back(admin, &new).await;
    back.expect("an admin may take it back");
    // An owner's invitation to be owner is no admin's to take back or to replace.
    let ann = house.ann().await;
    let link = people
        .invite(ann, &new, Role::Owner)
        .await
        .expect("invites");
    let back = people.take_invitation_back(admin, &new).await;
    assert_refused!(back, PersonError::NotAllowed);
    let replaced = people.invite(admin, &new, Role::Viewer).await;
    assert_refused!(replaced, PersonError::NotAllowed);
    assert_eq!(
        people.invitation(&link).await.expect("stands").role,
        Role::Owner
    );
    let back = people.take_invitation_back(ann, &new).await;
    back.expect("an owner may");
    let removed = people.remove_member(admin, viewer).await;
    removed.expect("an admin may remove an admin");
    let gone = email("see@lone.example");
    let found = people.member_by_email(admin, &gone).await;
    assert_refused!(found, PersonError::NoSuchMember);
    // An owner is an owner's to change, and another Seller's member nobody's.
    let ann = house.ann().await;
    let lowered = people.set_role(ann, owner, Role::Viewer).await;
    lowered.expect("an owner may change an owner");
    let other = seller(&house.db, "great-lakes", "zoe@lakes.example", ANNS).await;
    let zoe = house.id_of("zoe@lakes.example").await;
    let removed = people.remove_member(ann, zoe).await;
    assert_refused!(removed, PersonError::NoSuchMember);
    let theirs = house.db.members(other).await.expect("answers");
    assert_eq!(theirs.len(), 1);
}

async fn a_viewer_changes_nothing(house: House) {
    let viewer = house.joins("see@lone.example", Role::Viewer).await;
    house.joins("more@lone.example", Role::Viewer).await;
    assert!(!viewer.role().may_act());
    let standing = house.invite("new@lone.example", Role::Viewer).await;
    let before = house.members().await;
    let scope = viewer.scope();
    let own = house.id_of("see@lone.example").await;
    let other = house.id_of("more@lone.example").await;
    let people = &house.people;
    let any = email("any@lone.example");
    let new = email("new@lone.example");
    let fenced = |result: Result<(), PersonError>| {
        assert_refused!(result, PersonError::Db(DbError::Fenced(_)));
    };
    fenced(people.invite(scope, &any, Role::Viewer).await.map(drop));
    fenced(people.take_invitation_back(scope, &new).await);
    fenced(people.set_role(scope, own, Role::Owner).await);
    fenced(people.set_role(scope, other, Role::Viewer).await);
    fenced(people.remove_member(scope, other).await);
    fenced(people.remove_member(scope, own).await);
    assert_eq!(house.members().await, before);
    people.invitation(&standing).await.expect("stands");
    // But a viewer looks.
    let found = people.member_by_email(scope, &email(ANN)).await;
    assert_eq!(found.expect("is there").role, Role::Owner);
}

async fn the_last_owner_stays(house: House) {
    let people = &house.people;
    let (ann, anns) = (house.id_of(ANN).await, house.ann().await);
    for scope in [anns, house.operator] {
        for role in [Role::Admin, Role::Viewer] {
            let lowered = people.set_role(scope, ann, role).await;
            assert_refused!(lowered, PersonError::LastOwner);
        }
        let removed = people.remove_member(scope, ann).await;
        assert_refused!(removed, PersonError::LastOwner);
    }
    let same = people.set_role(anns, ann, Role::Owner).await;
    same.expect("stays what she is");
    assert_eq!(house.members().await, [row(ANN, Role::Owner)]);

    // Two owners who show each other out at once: one of them was first.
    let zoe = house.joins("zoe@lone.example", Role::Owner).await;
    let zoes_id = house.id_of("zoe@lone.example").await;
    let (by_ann, by_zoe) = tokio::join!(
        people.remove_member(anns, zoes_id),
        people.remove_member(zoe.scope(), ann),
    );
    let left = match (by_ann, by_zoe) {
        (Ok(()), Err(PersonError::Db(DbError::Fenced(_)))) => ANN,
        (Err(PersonError::Db(DbError::Fenced(_))), Ok(())) => "zoe@lone.example",
        both => panic!("{both:?}"),
    };
    assert_eq!(house.members().await, [row(left, Role::Owner)]);
}

async fn nobody_comes_back_by_an_invitation_they_left_behind(house: House) {
    let owner = house.joins("own@lone.example", Role::Owner).await.scope();
    let admin = house.joins("adm@lone.example", Role::Admin).await.scope();
    let people = &house.people;
    let invite = async |by, address: &str, role| {
        let link = people.invite(by, &email(address), role).await;
        link.expect("may invite")
    };
    let mine = invite(house.ann().await, "new@lone.example", Role::Viewer).await;
    let theirs = invite(owner, "second-self@lone.example", Role::Owner).await;
    let admins = invite(admin, "friend@lone.example", Role::Admin).await;
    assert_eq!(house.invited().await.len(), 3);

    // An owner who is an admin from now on could not make an owner: what they made before is dead as well.
    let own = house.id_of("own@lone.example").await;
    let lowered = people.set_role(house.ann().await, own, Role::Admin).await;
    lowered.expect("an owner may");
    assert_refused!(house.accept(&theirs, CHOSEN).await, PersonError::DeadLink);
    // One who rises keeps what they made.
    let adm = house.id_of("adm@lone.example").await;
    let raised = people.set_role(house.ann().await, adm, Role::Owner).await;
    raised.expect("an owner may");
    people.invitation(&admins).await.expect("stands");
    let removed = people.remove_member(house.ann().await, adm).await;
    removed.expect("an owner may");
    assert_refused!(house.accept(&admins, CHOSEN).await, PersonError::DeadLink);
    people.invitation(&mine).await.expect("stands");

    // Nor does a session outlive the membership's right: it goes on, as a member of nothing.
    let (_, session) = house.signed_in("adm@lone.example", CHOSEN).await;
    assert!(session.memberships().is_empty());
    assert!(session.member_by_slug(None).is_none());
    let write = house.db.begin_write(admin).await.err();
    assert!(matches!(write, Some(DbError::Fenced(_))), "{write:?}");
}

async fn a_reset_works_once_and_ends_every_session(house: House) {
    let people = &house.people;
    house.joins("zoe@lone.example", Role::Viewer).await;
    let (zoes, _) = house.signed_in("zoe@lone.example", CHOSEN).await;
    let (one, _) = house.signed_in(ANN, ANNS).await;
    let (two, _) = house.signed_in(ANN, ANNS).await;
    let unknown = people.reset_link(&email("nobody@lone.example")).await;
    assert_refused!(unknown, PersonError::NoSuchUser(_));
    let dead = async |link: &Token| {
        assert_refused!(people.reset(link).await, PersonError::DeadLink);
        let reset = people.reset_password(link, ANOTHER, &visitor(1)).await;
        assert_refused!(reset, PersonError::DeadLink);
    };
    let make = async || people.reset_link(&email(ANN)).await.expect("is made");
    let (older, link) = (make().await, make().await);
    dead(&older).await;
    // Whoever asks for this may have lost the account to somebody, who is out at once.
    for token in [&one, &two] {
        assert!(house.session(token).await.is_none());
    }
    assert!(house.session(&zoes).await.is_some(), "hers is another");
    let (one, _) = house.signed_in(ANN, ANNS).await;
    let (two, _) = house.signed_in(ANN, ANNS).await;
    // An invitation sets no password.
    dead(&house.invite("new@lone.example", Role::Viewer).await).await;
    assert_eq!(people.reset(&link).await.expect("stands"), email(ANN));
    for refused in ["elevenchars", "password1234"] {
        let refused = people.reset_password(&link, refused, &visitor(1)).await;
        assert_refused!(refused, PersonError::Password(_));
    }
    for token in [&one, &two] {
        assert!(house.session(token).await.is_some(), "nothing happened yet");
    }
    house.sign_in(ANN, ANNS).await.expect("nor to the password");

    // Followed twice at once, it works once.
    let from = visitor(1);
    let (first, second) = tokio::join!(
        people.reset_password(&link, ANOTHER, &from),
        people.reset_password(&link, "harbour lights and tyres", &from),
    );
    let now = match (first, second) {
        (Ok(()), Err(PersonError::DeadLink)) => ANOTHER,
        (Err(PersonError::DeadLink), Ok(())) => "harbour lights and tyres",
        both => panic!("{both:?}"),
    };
    dead(&link).await;
    for token in [&one, &two] {
        assert!(house.session(token).await.is_none());
    }
    assert!(house.session(&zoes).await.is_some(), "hers is another");
    assert_refused!(house.sign_in(ANN, ANNS).await, PersonError::WrongPassword);
    house.sign_in(ANN, now).await.expect("comes in");

    let late = make().await;
    house.age("account_links", "expires_us", 55 * MINUTE).await;
    people.reset(&late).await.expect("stands for an hour");
    house.age("account_links", "expires_us", 5 * MINUTE).await;
    dead(&late).await;
    house.sign_in(ANN, now).await.expect("as before");
}
