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
// After the macros, which they use.
mod members;
mod sessions;

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
