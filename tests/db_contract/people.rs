//! The contracts of people: Users and what they are members of; and how contracts about people begin.
//!
//! Never: a row reached through anything but what it is meant to be found by.

use truckradar::{
    accounts::{AccountKind, AccountStatus, Email, Role},
    db::{LinkRow, MemberRow, MembershipRow, SessionRow},
    ids::{SessionId, UserId},
};

use super::*;

contracts! {
    users_and_memberships_are_unique_and_owners_come_first: contract_users;
    a_person_sees_what_they_are_a_member_of_by_name: contract_memberships_of;
    a_password_is_replaced_while_it_is_the_one_that_was_compared: contract_replace_password;
    a_role_is_changed_and_a_membership_ended_at_one_seller_only: contract_roles;
}

// ---------------------------------------------------------------------------------------------------------------------
// How these contracts begin.

pub fn email(text: &str) -> Email {
    text.parse().expect("an address")
}

/// A User with this address, who is a member of nothing yet.
pub async fn user(db: &Db, address: &str) -> UserId {
    let id = UserId::new();
    let mut tx = db.begin().await.expect("begins");
    let hash = format!("hash of {address}");
    tx.insert_user(id, &email(address), &hash, T)
        .await
        .expect("is new");
    tx.commit().await.expect("commits");
    id
}

/// A User who is a member of the scope's Seller, and what they may do as such.
pub async fn member(
    db: &Db,
    scope: SellerScope,
    address: &str,
    role: Role,
) -> (UserId, SellerScope) {
    let id = user(db, address).await;
    let mut tx = db.begin().await.expect("begins");
    tx.insert_membership(id, scope.seller(), role, T)
        .await
        .expect("is new");
    tx.commit().await.expect("commits");
    (id, SellerScope::by_membership(scope.seller(), id))
}

pub async fn roles(db: &Db, scope: SellerScope) -> Vec<(String, Role)> {
    let members = db.members(scope).await.expect("answers").into_iter();
    members.map(|m| (m.email, m.role)).collect()
}

pub fn digest(n: u8) -> TokenDigest {
    TokenDigest([n; 32])
}

/// A session that began, was seen and was confirmed at times of its own, so that none can be taken for another.
pub fn session(user: UserId, began: i64) -> SessionRow {
    SessionRow {
        id: SessionId::new(),
        user_id: user,
        email: "is not stored here".into(),
        created_us: after(began),
        seen_us: after(began + 200),
        confirmed_us: after(began + 100),
        address: "2001:db8::1".into(),
        user_agent: "agent \"é🚛\" \\ '".into(),
    }
}

pub async fn begin_session(db: &Db, session: &SessionRow, digest: TokenDigest) {
    let mut tx = db.begin_in_turn().await.expect("begins");
    tx.insert_session(session, digest).await.expect("is new");
    tx.commit().await.expect("commits");
}

/// Everything that a session is, to be compared whole.
pub fn whole_session(row: &SessionRow) -> (SessionId, UserId, String, [Time; 3], String, String) {
    let SessionRow {
        id,
        user_id,
        email,
        created_us,
        seen_us,
        confirmed_us,
        address,
        user_agent,
    } = row.clone();
    let times = [created_us, seen_us, confirmed_us];
    (id, user_id, email, times, address, user_agent)
}

pub async fn found(db: &Db, digest: TokenDigest) -> Option<SessionRow> {
    db.session(digest).await.expect("answers")
}

pub async fn ids_of(db: &Db, user: UserId) -> Vec<SessionId> {
    let rows = db.sessions_of(user).await.expect("answers");
    rows.iter().map(|row| row.id).collect()
}

pub fn invitation(address: &str, scope: SellerScope, made: i64) -> LinkRow {
    LinkRow {
        email: address.to_owned(),
        seller_id: Some(scope.seller()),
        role: Some(Role::Admin),
        made_by: "operator".into(),
        created_us: after(made),
        expires_us: after(made + 100),
    }
}

pub fn reset(address: &str, made: i64) -> LinkRow {
    LinkRow {
        email: address.to_owned(),
        seller_id: None,
        role: None,
        made_by: format!("user:{}", UserId::new()),
        created_us: after(made),
        expires_us: after(made + 100),
    }
}

pub async fn insert_links(db: &Db, links: &[(LinkKind, TokenDigest, &LinkRow)]) {
    let mut tx = db.begin_in_turn().await.expect("begins");
    for (kind, digest, link) in links {
        tx.insert_link(*kind, *digest, link).await.expect("is new");
    }
    tx.commit().await.expect("commits");
}

/// Which of the links with these digests are there.
pub async fn links_left(db: &Db, links: &[(LinkKind, u8)]) -> Vec<u8> {
    let mut left = Vec::new();
    for (kind, n) in links {
        let link = db.link(*kind, digest(*n)).await.expect("answers");
        left.extend(link.map(|_| *n));
    }
    left
}

// ---------------------------------------------------------------------------------------------------------------------
// Users and memberships.

async fn contract_users(db: &Db) {
    let (scope, other) = two_sellers(db).await;
    let ann = UserId::new();
    let nobody = db.user_by_email(&email("ann@lone.example")).await;
    assert!(nobody.expect("answers").is_none());

    let mut tx = db.begin().await.expect("begins");
    for (id, address) in [
        (ann, "Ann@Lone.example"),
        (UserId::new(), "zoe@lone.example"),
        (UserId::new(), "ann_b@lone.example"),
        (UserId::new(), "eve@lone.example"),
    ] {
        let role = match address {
            "zoe@lone.example" => Role::Owner,
            "ann_b@lone.example" => Role::Viewer,
            "eve@lone.example" => Role::Admin,
            _ => Role::Viewer,
        };
        tx.insert_user(id, &email(address), &format!("hash of {address}"), T)
            .await
            .expect("is new");
        tx.insert_membership(id, scope.seller(), role, T)
            .await
            .expect("is new");
    }
    tx.insert_membership(ann, other.seller(), Role::Owner, after(1))
        .await
        .expect("a person may act for many");
    tx.commit().await.expect("commits");

    let found = db.user_by_email(&email("ANN@lone.example")).await;
    let found = found.expect("answers").expect("is there");
    assert_eq!(found.id, ann);
    assert_eq!(found.password_hash, "hash of Ann@Lone.example");
    let by_id = db.user(ann).await.expect("answers").expect("is there");
    assert_eq!(by_id.id, ann);
    assert_eq!(by_id.email, "ann@lone.example");
    assert_eq!(by_id.password_hash, found.password_hash);
    let nobody = db.user(UserId::new()).await.expect("answers");
    assert!(nobody.is_none());
    let members = [
        ("zoe@lone.example", Role::Owner),
        ("eve@lone.example", Role::Admin),
        ("ann@lone.example", Role::Viewer),
        ("ann_b@lone.example", Role::Viewer),
    ];
    let members = members.map(|(email, role)| (email.to_owned(), role));
    assert_eq!(roles(db, scope).await, members);
    let others = db.members(other).await.expect("answers");
    let anns = MemberRow {
        user_id: ann,
        email: "ann@lone.example".into(),
        role: Role::Owner,
        created_us: after(1),
        has_factor: 0,
    };
    assert_eq!(others, [anns]);

    let mut tx = db.begin().await.expect("begins");
    let shouted = email("ANN@LONE.example");
    assert_unique(tx.insert_user(UserId::new(), &shouted, "h", T).await);
    drop(tx);
    let mut tx = db.begin().await.expect("begins");
    let again = tx.insert_membership(ann, scope.seller(), Role::Owner, T);
    assert_unique(again.await);
    drop(tx);
    // A member of nothing is our defect, not a row that exists.
    let mut tx = db.begin().await.expect("begins");
    let nowhere = tx.insert_membership(ann, SellerId::new(), Role::Owner, T);
    let nowhere = nowhere.await.err();
    assert!(matches!(nowhere, Some(DbError::Internal(_))), "{nowhere:?}");
}

async fn contract_memberships_of(db: &Db) {
    let (scope, other) = two_sellers(db).await;
    let ann = user(db, "ann@lone.example").await;
    let nothing = db.memberships_of(ann).await.expect("answers");
    assert_eq!(nothing, []);
    // Names decide the order, by their bytes; of equal ones the slug.
    let twin = |slug: &str| NewSeller {
        name: "Zz Trucks".into(),
        ..new_seller(slug)
    };
    let (second, first) = (twin("z9"), twin("a9"));
    let mut tx = db.begin().await.expect("begins");
    for (seller, role) in [
        (&second, Role::Owner),
        (&first, Role::Viewer),
        (&new_seller("not-mine"), Role::Owner),
    ] {
        tx.insert_seller(seller, T).await.expect("is new");
        if seller.slug.as_str() != "not-mine" {
            tx.insert_membership(ann, seller.id, role, T)
                .await
                .expect("is new");
        }
    }
    tx.insert_membership(ann, other.seller(), Role::Admin, T)
        .await
        .expect("is new");
    tx.commit().await.expect("commits");
    member(db, scope, "zoe@lone.example", Role::Owner).await;

    let mine = db.memberships_of(ann).await.expect("answers");
    let expected = [
        (first.id, "a9", "Zz Trucks", Role::Viewer),
        (second.id, "z9", "Zz Trucks", Role::Owner),
        (other.seller(), "other", "other, Inc.", Role::Admin),
    ];
    let expected = expected.map(|(seller_id, slug, name, role)| MembershipRow {
        seller_id,
        slug: slug.into(),
        name: name.into(),
        kind: AccountKind::Seller,
        status: AccountStatus::Active,
        role,
        factor_required: 0,
        has_factor: 0,
    });
    assert_eq!(mine, expected);
}

async fn contract_replace_password(db: &Db) {
    two_sellers(db).await;
    let ann = user(db, "ann@lone.example").await;
    let zoe = user(db, "zoe@lone.example").await;
    let replace = async |user, old: &str, new: &str| {
        let mut tx = db.begin_in_turn().await.expect("begins");
        let done = tx.replace_password(user, old, new).await.expect("answers");
        tx.commit().await.expect("commits");
        done
    };
    let hash_of = async |user| {
        let row = db.user(user).await.expect("answers").expect("is there");
        row.password_hash
    };
    let (old, new) = ("hash of ann@lone.example", "another");
    assert!(!replace(ann, "not theirs", new).await);
    assert!(!replace(UserId::new(), old, new).await);
    assert_eq!(hash_of(ann).await, old);
    assert!(replace(ann, old, new).await);
    assert_eq!(hash_of(ann).await, new);
    assert!(
        !replace(ann, old, "a third").await,
        "the old one is no more"
    );
    assert_eq!(hash_of(ann).await, new);
    assert_eq!(hash_of(zoe).await, "hash of zoe@lone.example");
}

async fn contract_roles(db: &Db) {
    let (scope, other) = two_sellers(db).await;
    let (ann, _) = member(db, scope, "ann@lone.example", Role::Owner).await;
    let (zoe, _) = member(db, scope, "zoe@lone.example", Role::Viewer).await;
    let mut tx = db.begin().await.expect("begins");
    tx.insert_membership(ann, other.seller(), Role::Viewer, T)
        .await
        .expect("is new");
    tx.commit().await.expect("commits");

    let mut tx = db.begin_change(scope).await.expect("begins");
    let stranger = tx.role_of(UserId::new()).await.expect("answers");
    assert_eq!(stranger, None);
    assert_eq!(tx.count_owners().await.expect("counts"), 1);
    tx.set_role(zoe, Role::Owner).await.expect("sets");
    assert_eq!(tx.role_of(zoe).await.expect("answers"), Some(Role::Owner));
    assert_eq!(tx.count_owners().await.expect("counts"), 2);
    tx.set_role(ann, Role::Admin).await.expect("sets");
    assert_eq!(tx.role_of(ann).await.expect("answers"), Some(Role::Admin));
    assert_eq!(tx.count_owners().await.expect("counts"), 1);
    // Nobody becomes a member by the way.
    tx.set_role(UserId::new(), Role::Owner)
        .await
        .expect("changes nothing");
    tx.commit().await.expect("commits");
    let row = |address: &str, role| (address.to_owned(), role);
    let mine = [
        row("zoe@lone.example", Role::Owner),
        row("ann@lone.example", Role::Admin),
    ];
    assert_eq!(roles(db, scope).await, mine);
    let theirs = [row("ann@lone.example", Role::Viewer)];
    assert_eq!(roles(db, other).await, theirs);

    let mut tx = db.begin_change(other).await.expect("begins");
    let mine_there = tx.role_of(ann).await.expect("answers");
    assert_eq!(mine_there, Some(Role::Viewer));
    assert_eq!(tx.count_owners().await.expect("counts"), 0);
    tx.delete_membership(zoe).await.expect("is none here");
    drop(tx);
    let mut tx = db.begin_change(scope).await.expect("begins");
    tx.delete_membership(ann).await.expect("ends");
    assert_eq!(tx.role_of(ann).await.expect("answers"), None);
    tx.commit().await.expect("commits");
    assert_eq!(roles(db, scope).await, mine[..1]);
    assert_eq!(roles(db, other).await, theirs, "another Seller's stay");
}
