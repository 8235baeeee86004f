//! The contracts of people: Users and what they are members of, sessions, links, failures to sign in, and the fence that a
//! member's write meets.
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

    a_session_is_found_by_its_digest_only: contract_session;
    a_sessions_last_use_is_noted_and_the_list_begins_with_the_latest: contract_touch_session;
    a_confirmed_session_answers_to_its_new_digest_alone: contract_confirm_session;
    a_session_ended_is_gone_and_its_user_alone_ends_it: contract_end_session;
    of_too_many_sessions_those_used_last_are_kept: contract_keep_sessions;
    a_password_that_is_locked_is_changed_by_nobody_else_meanwhile: contract_locked_password;
    all_sessions_of_a_user_end_but_the_one_excepted: contract_end_sessions_of;

    a_link_is_found_by_its_kind_and_digest_until_it_is_taken: contract_link;
    a_link_is_taken_once_even_by_two_at_the_same_moment: contract_take_link;
    links_are_taken_back_by_kind_address_and_seller: contract_take_links_back;
    an_invitation_stands_until_it_runs_out_or_a_newer_one_comes: contract_invitations;
    invitations_are_taken_back_by_whoever_made_them: contract_take_back_invitations_by;

    failures_are_counted_since_a_time: contract_sign_in_failures;
    what_is_past_is_forgotten_and_nothing_else: contract_forget_past_sign_ins;

    a_write_of_a_member_who_may_not_act_is_fenced: contract_member_fence;
    a_change_of_members_waits_for_the_write_in_flight: contract_change_of_members_waits;
    a_write_that_waited_for_a_change_finds_its_member_gone: contract_write_finds_member_gone;
    what_comes_in_turn_is_a_transaction_like_any_other: contract_begin_in_turn;
}

// ---------------------------------------------------------------------------------------------------------------------
// How these contracts begin.

fn email(text: &str) -> Email {
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

async fn roles(db: &Db, scope: SellerScope) -> Vec<(String, Role)> {
    let members = db.members(scope).await.expect("answers").into_iter();
    members.map(|m| (m.email, m.role)).collect()
}

fn digest(n: u8) -> TokenDigest {
    TokenDigest([n; 32])
}

/// A session that began, was seen and was confirmed at times of its own, so that none can be taken for another.
fn session(user: UserId, began: i64) -> SessionRow {
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

async fn begin_session(db: &Db, session: &SessionRow, digest: TokenDigest) {
    let mut tx = db.begin_in_turn().await.expect("begins");
    tx.insert_session(session, digest).await.expect("is new");
    tx.commit().await.expect("commits");
}

/// Everything that a session is, to be compared whole.
fn whole(row: &SessionRow) -> (SessionId, UserId, String, [Time; 3], String, String) {
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

async fn found(db: &Db, digest: TokenDigest) -> Option<SessionRow> {
    db.session(digest).await.expect("answers")
}

async fn ids_of(db: &Db, user: UserId) -> Vec<SessionId> {
    let rows = db.sessions_of(user).await.expect("answers");
    rows.iter().map(|row| row.id).collect()
}

fn invitation(address: &str, scope: SellerScope, made: i64) -> LinkRow {
    LinkRow {
        email: address.to_owned(),
        seller_id: Some(scope.seller()),
        role: Some(Role::Admin),
        made_by: "operator".into(),
        created_us: after(made),
        expires_us: after(made + 100),
    }
}

fn reset(address: &str, made: i64) -> LinkRow {
    LinkRow {
        email: address.to_owned(),
        seller_id: None,
        role: None,
        made_by: format!("user:{}", UserId::new()),
        created_us: after(made),
        expires_us: after(made + 100),
    }
}

async fn insert_links(db: &Db, links: &[(LinkKind, TokenDigest, &LinkRow)]) {
    let mut tx = db.begin_in_turn().await.expect("begins");
    for (kind, digest, link) in links {
        tx.insert_link(*kind, *digest, link).await.expect("is new");
    }
    tx.commit().await.expect("commits");
}

/// Which of the links with these digests are there.
async fn links_left(db: &Db, links: &[(LinkKind, u8)]) -> Vec<u8> {
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

// ---------------------------------------------------------------------------------------------------------------------
// Sessions.

async fn contract_session(db: &Db) {
    two_sellers(db).await;
    let ann = user(db, "ann@lone.example").await;
    let zoe = user(db, "zoe@lone.example").await;
    let (mine, theirs) = (session(ann, 0), session(zoe, 7));
    let mut dropped = db.begin_in_turn().await.expect("begins");
    let done = dropped.insert_session(&mine, digest(1)).await;
    done.expect("is new");
    drop(dropped);
    assert!(found(db, digest(1)).await.is_none(), "not committed");
    begin_session(db, &mine, digest(1)).await;
    begin_session(db, &theirs, digest(2)).await;

    for (n, row, address) in [
        (1, &mine, "ann@lone.example"),
        (2, &theirs, "zoe@lone.example"),
    ] {
        let row = SessionRow {
            email: address.into(),
            ..row.clone()
        };
        let found = found(db, digest(n)).await.expect("is there");
        assert_eq!(whole(&found), whole(&row));
    }
    // Nearly is not at all, whichever the bit.
    for (byte, bit) in [(0, 0x80), (15, 0x20), (31, 1)] {
        let mut nearly = digest(1);
        nearly.0[byte] ^= bit;
        assert!(found(db, nearly).await.is_none(), "byte {byte}");
    }
    // A token is one session's, and a session has a User.
    let mut tx = db.begin_in_turn().await.expect("begins");
    assert_unique(tx.insert_session(&session(zoe, 0), digest(1)).await);
    drop(tx);
    let mut tx = db.begin_in_turn().await.expect("begins");
    let nobodys = session(UserId::new(), 0);
    let nobodys = tx.insert_session(&nobodys, digest(3)).await.err();
    assert!(matches!(nobodys, Some(DbError::Internal(_))), "{nobodys:?}");
}

async fn contract_touch_session(db: &Db) {
    two_sellers(db).await;
    let ann = user(db, "ann@lone.example").await;
    let zoe = user(db, "zoe@lone.example").await;
    let (first, second, theirs) = (session(ann, 0), session(ann, 1), session(zoe, 2));
    for (n, row) in [(1, &first), (2, &second), (3, &theirs)] {
        begin_session(db, row, digest(n)).await;
    }
    assert_eq!(ids_of(db, ann).await, [second.id, first.id]);
    assert_eq!(ids_of(db, zoe).await, [theirs.id]);
    assert_eq!(ids_of(db, UserId::new()).await, []);

    let mut tx = db.begin_in_turn().await.expect("begins");
    tx.touch_session(first.id, after(900), "192.0.2.9", "another „agent“")
        .await
        .expect("notes");
    tx.touch_session(SessionId::new(), after(901), "", "")
        .await
        .expect("an ended one is noted nowhere");
    tx.commit().await.expect("commits");
    assert_eq!(ids_of(db, ann).await, [first.id, second.id]);
    let touched = SessionRow {
        email: "ann@lone.example".into(),
        seen_us: after(900),
        address: "192.0.2.9".into(),
        user_agent: "another „agent“".into(),
        ..first
    };
    let rows = db.sessions_of(ann).await.expect("answers");
    assert_eq!(whole(&rows[0]), whole(&touched));
    let untouched = found(db, digest(2)).await.expect("is there");
    assert_eq!(untouched.seen_us, second.seen_us);
}

async fn contract_confirm_session(db: &Db) {
    two_sellers(db).await;
    let ann = user(db, "ann@lone.example").await;
    let (mine, other) = (session(ann, 0), session(ann, 1));
    begin_session(db, &mine, digest(1)).await;
    begin_session(db, &other, digest(2)).await;
    let mut tx = db.begin_in_turn().await.expect("begins");
    let confirmed = tx.confirm_session(mine.id, digest(3), after(500)).await;
    assert!(confirmed.expect("answers"));
    let nobodys = tx
        .confirm_session(SessionId::new(), digest(4), after(500))
        .await;
    assert!(!nobodys.expect("answers"));
    tx.commit().await.expect("commits");

    assert!(found(db, digest(1)).await.is_none(), "the old token works");
    assert!(found(db, digest(4)).await.is_none());
    let row = found(db, digest(3)).await.expect("is there");
    let expected = SessionRow {
        email: "ann@lone.example".into(),
        confirmed_us: after(500),
        ..mine.clone()
    };
    assert_eq!(whole(&row), whole(&expected));
    let untouched = found(db, digest(2)).await.expect("is there");
    assert_eq!(untouched.confirmed_us, other.confirmed_us);
    // Another session's token cannot become this one's.
    let mut tx = db.begin_in_turn().await.expect("begins");
    assert_unique(tx.confirm_session(mine.id, digest(2), T).await);
}

async fn contract_end_session(db: &Db) {
    two_sellers(db).await;
    let ann = user(db, "ann@lone.example").await;
    let zoe = user(db, "zoe@lone.example").await;
    let (mine, kept) = (session(ann, 0), session(ann, 1));
    begin_session(db, &mine, digest(1)).await;
    begin_session(db, &kept, digest(2)).await;
    let end = async |user, session| {
        let mut tx = db.begin_in_turn().await.expect("begins");
        let ended = tx.end_session(user, session).await.expect("answers");
        tx.commit().await.expect("commits");
        ended
    };
    assert!(!end(zoe, mine.id).await, "it is not hers");
    assert!(found(db, digest(1)).await.is_some());
    assert!(end(ann, mine.id).await);
    assert!(found(db, digest(1)).await.is_none());
    assert_eq!(ids_of(db, ann).await, [kept.id]);
    assert!(!end(ann, mine.id).await, "it ends once");
}

async fn contract_end_sessions_of(db: &Db) {
    two_sellers(db).await;
    let ann = user(db, "ann@lone.example").await;
    let zoe = user(db, "zoe@lone.example").await;
    let theirs = session(zoe, 0);
    begin_session(db, &theirs, digest(9)).await;
    let mine = [0, 1, 2].map(|began| session(ann, began));
    for (n, row) in (1..).zip(&mine) {
        begin_session(db, row, digest(n)).await;
    }
    let end = async |but| {
        let mut tx = db.begin_in_turn().await.expect("begins");
        let ended = tx.end_sessions_of(ann, but).await.expect("ends");
        tx.commit().await.expect("commits");
        ended
    };
    let ended = end(Some(mine[1].id)).await;
    let ended: BTreeSet<_> = ended.into_iter().collect();
    assert_eq!(ended, BTreeSet::from([mine[0].id, mine[2].id]));
    assert_eq!(ids_of(db, ann).await, [mine[1].id]);
    assert!(found(db, digest(2)).await.is_some());
    assert_eq!(end(Some(mine[1].id)).await, []);
    // Excepting another User's is excepting none.
    assert_eq!(end(Some(theirs.id)).await, [mine[1].id]);
    begin_session(db, &mine[0], digest(1)).await;
    begin_session(db, &mine[1], digest(2)).await;
    assert_eq!(end(None).await.len(), 2);
    assert_eq!(ids_of(db, ann).await, []);
    assert_eq!(ids_of(db, zoe).await, [theirs.id]);
}

// ---------------------------------------------------------------------------------------------------------------------
// Links.

async fn contract_link(db: &Db) {
    use LinkKind::{Invitation, Reset};
    let (scope, _) = two_sellers(db).await;
    let (invited, forgot) = (
        invitation("new@lone.example", scope, 0),
        reset("ann@lone.example", 5),
    );
    insert_links(
        db,
        &[
            (Invitation, digest(1), &invited),
            (Reset, digest(2), &forgot),
        ],
    )
    .await;
    for (kind, n, link) in [
        (Invitation, 1, Some(&invited)),
        (Reset, 2, Some(&forgot)),
        // Of the other kind, it is no link at all.
        (Reset, 1, None),
        (Invitation, 2, None),
        (Invitation, 3, None),
    ] {
        let found = db.link(kind, digest(n)).await.expect("answers");
        assert_eq!(found.as_ref(), link, "{kind:?} {n}");
        let mut tx = db.begin_in_turn().await.expect("begins");
        let taken = tx.take_link(kind, digest(n)).await.expect("answers");
        assert_eq!(taken.as_ref(), link, "{kind:?} {n}");
        drop(tx);
    }
    // Given up, it was not taken.
    let both = [(Invitation, 1), (Reset, 2)];
    assert_eq!(links_left(db, &both).await, [1, 2]);
    let mut tx = db.begin_in_turn().await.expect("begins");
    let taken = tx.take_link(Invitation, digest(1)).await;
    assert_eq!(taken.expect("answers"), Some(invited));
    let again = tx.take_link(Invitation, digest(1)).await;
    assert_eq!(again.expect("answers"), None);
    tx.commit().await.expect("commits");
    assert_eq!(links_left(db, &both).await, [2]);
    // A token is one link's, of whichever kind.
    let mut tx = db.begin_in_turn().await.expect("begins");
    let same = invitation("new@lone.example", scope, 0);
    assert_unique(tx.insert_link(Invitation, digest(2), &same).await);
}

async fn contract_take_link(db: &Db) {
    const RESET: LinkKind = LinkKind::Reset;
    two_sellers(db).await;
    let link = reset("ann@lone.example", 0);
    insert_links(db, &[(RESET, digest(1), &link)]).await;
    let take = async |db: Db| {
        let mut tx = db.begin_in_turn().await?;
        let taken = tx.take_link(RESET, digest(1)).await?;
        tx.commit().await?;
        Ok::<_, DbError>(taken)
    };
    // Whoever takes it first may yet give up; then it is the next one's.
    let mut first = db.begin_in_turn().await.expect("begins");
    let taken = first.take_link(RESET, digest(1)).await.expect("answers");
    assert_eq!(taken.as_ref(), Some(&link));
    let mut second = beside(db, take);
    still_waits(&mut second, &mut first).await;
    drop(first);
    assert_eq!(ended(second).await.expect("its turn"), Some(link.clone()));

    insert_links(db, &[(RESET, digest(1), &link)]).await;
    let mut first = db.begin_in_turn().await.expect("begins");
    let taken = first.take_link(RESET, digest(1)).await.expect("answers");
    assert_eq!(taken, Some(link));
    let mut second = beside(db, take);
    still_waits(&mut second, &mut first).await;
    first.commit().await.expect("commits");
    assert_eq!(ended(second).await.expect("its turn"), None);
}

async fn contract_take_links_back(db: &Db) {
    use LinkKind::{Invitation, Reset};
    let (scope, other) = two_sellers(db).await;
    let (ann, zoe) = ("ann@lone.example", "zoe@lone.example");
    let links = [
        (Invitation, 1, invitation(ann, scope, 0)),
        (Invitation, 2, invitation(ann, scope, 1)),
        (Invitation, 3, invitation(ann, other, 2)),
        (Invitation, 4, invitation(zoe, scope, 3)),
        (Reset, 5, reset(ann, 4)),
        (Reset, 6, reset(zoe, 5)),
    ];
    let rows: Vec<_> = links.iter().map(|(k, n, l)| (*k, digest(*n), l)).collect();
    insert_links(db, &rows).await;
    let back = async |kind, address, seller| {
        let mut tx = db.begin_in_turn().await.expect("begins");
        let taken = tx.take_links_back(kind, address, seller).await;
        tx.commit().await.expect("commits");
        taken.expect("takes them back")
    };
    let all: Vec<_> = links.iter().map(|(kind, n, _)| (*kind, *n)).collect();
    assert_eq!(back(Invitation, "ann", None).await, 0);
    assert_eq!(back(Invitation, ann, Some(SellerId::new())).await, 0);
    // A reset leads to no Seller.
    assert_eq!(back(Reset, ann, Some(scope.seller())).await, 0);
    assert_eq!(links_left(db, &all).await, [1, 2, 3, 4, 5, 6]);
    assert_eq!(back(Invitation, ann, Some(scope.seller())).await, 2);
    assert_eq!(links_left(db, &all).await, [3, 4, 5, 6]);
    assert_eq!(back(Reset, ann, None).await, 1);
    assert_eq!(links_left(db, &all).await, [3, 4, 6]);
    assert_eq!(back(Invitation, ann, None).await, 1);
    assert_eq!(links_left(db, &all).await, [4, 6]);
}

async fn contract_invitations(db: &Db) {
    use LinkKind::{Invitation, Reset};
    let (scope, other) = two_sellers(db).await;
    let (ann, zoe) = ("ann@lone.example", "zoe@lone.example");
    let invite = async |by: SellerScope, n, link: &LinkRow| {
        let mut tx = db.begin_change(by).await.expect("begins");
        tx.insert_invitation(digest(n), link).await.expect("is new");
        tx.commit().await.expect("commits");
    };
    let standing = async |scope, now| db.invitations(scope, after(now)).await.expect("answers");
    let (first, second) = (invitation(ann, scope, 0), invitation(zoe, scope, 10));
    invite(scope, 1, &first).await;
    invite(scope, 2, &second).await;
    // Whatever the row says, it leads to the scope's Seller.
    invite(other, 3, &first).await;
    let elsewhere = LinkRow {
        seller_id: Some(other.seller()),
        ..first.clone()
    };
    insert_links(db, &[(Reset, digest(4), &reset(ann, 20))]).await;
    assert_eq!(standing(scope, 0).await, [second.clone(), first.clone()]);
    assert_eq!(standing(other, 0).await, [elsewhere]);

    // They run out at their time, not after it.
    assert_eq!(standing(scope, 99).await, [second.clone(), first.clone()]);
    assert_eq!(standing(scope, 100).await, std::slice::from_ref(&second));
    assert_eq!(standing(scope, 110).await, []);

    let newer = LinkRow {
        role: Some(Role::Viewer),
        ..invitation(ann, scope, 30)
    };
    invite(scope, 5, &newer).await;
    assert_eq!(standing(scope, 0).await, [newer.clone(), second.clone()]);
    let all = [
        (Invitation, 1),
        (Invitation, 2),
        (Invitation, 3),
        (Reset, 4),
        (Invitation, 5),
    ];
    assert_eq!(links_left(db, &all).await, [2, 3, 4, 5]);

    let mut tx = db.begin_change(scope).await.expect("begins");
    let roles = tx.invited_roles(ann).await.expect("answers");
    assert_eq!(roles, [Role::Viewer], "this Seller's standing one alone");
    let taken = tx.take_invitations_back(ann).await;
    assert_eq!(taken.expect("takes it back"), 1);
    let taken = tx.take_invitations_back(ann).await;
    assert_eq!(taken.expect("finds none"), 0);
    assert_eq!(tx.invited_roles(ann).await.expect("answers"), []);
    tx.commit().await.expect("commits");
    assert_eq!(links_left(db, &all).await, [2, 3, 4]);
    assert_eq!(standing(scope, 0).await, [second]);
}

async fn contract_take_back_invitations_by(db: &Db) {
    use LinkKind::{Invitation, Reset};
    let (scope, other) = two_sellers(db).await;
    let by = |maker: &str, link| LinkRow {
        made_by: maker.to_owned(),
        ..link
    };
    let invited = |n: i64, scope| invitation(&format!("{n}@lone.example"), scope, n);
    let links = [
        (Invitation, 1, by("user:a", invited(1, scope))),
        (Invitation, 2, by("user:a", invited(2, scope))),
        (Invitation, 3, by("user:b", invited(3, scope))),
        (Invitation, 4, by("user:a", invited(4, other))),
        (Reset, 5, by("user:a", reset("1@lone.example", 5))),
    ];
    let rows: Vec<_> = links.iter().map(|(k, n, l)| (*k, digest(*n), l)).collect();
    insert_links(db, &rows).await;
    let all: Vec<_> = links.iter().map(|(kind, n, _)| (*kind, *n)).collect();
    for (maker, left) in [("user:", &[1, 2, 3, 4, 5][..]), ("user:a", &[3, 4, 5])] {
        let mut tx = db.begin_change(scope).await.expect("begins");
        let taken = tx.take_back_invitations_by(maker).await;
        let taken: BTreeSet<_> = taken.expect("takes them back").into_iter().collect();
        let whose = links.iter().filter(|(_, n, _)| !left.contains(n));
        let whose: BTreeSet<_> = whose.map(|(.., link)| link.email.clone()).collect();
        assert_eq!(taken, whose, "{maker}");
        tx.commit().await.expect("commits");
        assert_eq!(links_left(db, &all).await, left, "{maker}");
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Failures, and what is forgotten.

async fn contract_sign_in_failures(db: &Db) {
    two_sellers(db).await;
    let (account, client) = ("email:aa".to_owned(), "address:bb".to_owned());
    for (seconds, subjects) in [
        (0, &[account.clone(), client.clone()][..]),
        (0, std::slice::from_ref(&account)),
        (10, &[account.clone(), client.clone()]),
    ] {
        let mut tx = db.begin_in_turn().await.expect("begins");
        tx.insert_sign_in_failure(subjects, after(seconds))
            .await
            .expect("notes");
        tx.commit().await.expect("commits");
    }
    let mut dropped = db.begin_in_turn().await.expect("begins");
    let done = dropped.insert_sign_in_failure(std::slice::from_ref(&account), after(10));
    done.await.expect("notes");
    drop(dropped);
    for (subject, since, count) in [
        (&*account, -1, 3),
        (&account, 0, 3),
        (&account, 1, 1),
        (&account, 10, 1),
        (&account, 11, 0),
        (&client, 0, 2),
        (&client, 1, 1),
        ("email:", 0, 0),
        ("email:bb", 0, 0),
    ] {
        let found = db.sign_in_failures(subject, after(since)).await;
        assert_eq!(found.expect("counts"), count, "{subject} since {since}");
    }
}

async fn contract_forget_past_sign_ins(db: &Db) {
    use LinkKind::{Invitation, Reset};
    let (scope, _) = two_sellers(db).await;
    let ann = user(db, "ann@lone.example").await;
    // Begun, and seen last.
    let sessions = [(0, 900), (100, 500), (100, 501), (101, 501)].map(|(began, seen)| SessionRow {
        seen_us: after(seen),
        ..session(ann, began)
    });
    for (n, row) in (1..).zip(&sessions) {
        begin_session(db, row, digest(n)).await;
    }
    // Each works for 100 seconds.
    let links = [
        (Invitation, 11, invitation("a@lone.example", scope, 0)),
        (Reset, 12, reset("a@lone.example", 1)),
        (Invitation, 13, invitation("b@lone.example", scope, 2)),
        (Reset, 14, reset("b@lone.example", 2)),
    ];
    let rows: Vec<_> = links.iter().map(|(k, n, l)| (*k, digest(*n), l)).collect();
    insert_links(db, &rows).await;
    let all_links: Vec<_> = links.iter().map(|(kind, n, _)| (*kind, *n)).collect();
    let subject = ["email:aa".to_owned()];
    let mut tx = db.begin_in_turn().await.expect("begins");
    for seconds in [700, 701, 702] {
        tx.insert_sign_in_failure(&subject, after(seconds))
            .await
            .expect("notes");
    }
    tx.commit().await.expect("commits");

    let left = async || {
        let mut sessions_left = Vec::new();
        for n in 1..=4 {
            sessions_left.extend(found(db, digest(n)).await.map(|_| n));
        }
        let failures = db.sign_in_failures(&subject[0], after(0)).await;
        (
            sessions_left,
            links_left(db, &all_links).await,
            failures.expect("counts"),
        )
    };
    let forget = async |begun, seen, now, failed| {
        db.forget_past_sign_ins(after(begun), after(seen), after(now), after(failed))
            .await
            .expect("forgets");
    };
    let all = (vec![1, 2, 3, 4], vec![11, 12, 13, 14], 3);
    forget(0, 500, 99, 700).await;
    assert_eq!(left().await, all, "nothing is past");
    // A session is past when either of its times is; a link at its time; a failure before its.
    forget(1, 501, 101, 701).await;
    assert_eq!(left().await, (vec![3, 4], vec![13, 14], 2));
    forget(101, 0, 0, 0).await;
    assert_eq!(left().await, (vec![4], vec![13, 14], 2));
    forget(0, 0, 102, 0).await;
    assert_eq!(left().await, (vec![4], vec![], 2));
    forget(0, 0, 0, 703).await;
    assert_eq!(left().await, (vec![4], vec![], 0));
}

// ---------------------------------------------------------------------------------------------------------------------
// The fence, as a member meets it.

/// Ends a membership on the operator's behalf.
async fn remove(db: &Db, scope: SellerScope, user: UserId) {
    let mut tx = db.begin_change(scope).await.expect("begins");
    tx.delete_membership(user).await.expect("ends");
    tx.commit().await.expect("commits");
}

async fn contract_member_fence(db: &Db) {
    let (scope, other) = two_sellers(db).await;
    let (_, owner) = member(db, scope, "own@lone.example", Role::Owner).await;
    let (adam, admin) = member(db, scope, "adm@lone.example", Role::Admin).await;
    let (_, viewer) = member(db, scope, "see@lone.example", Role::Viewer).await;
    let (_, theirs) = member(db, other, "own@other.example", Role::Owner).await;
    let stranger = user(db, "no@lone.example").await;
    let one = [listing(scope, vin(1), "{}")];
    let fenced = async |by: SellerScope| {
        assert_fenced(db.begin_write(by).await);
        assert_fenced(db.begin_change(by).await);
    };
    let free = async |by: SellerScope| {
        upsert(db, by, &one).await.expect("may act");
        drop(db.begin_change(by).await.expect("may act"));
    };
    free(owner).await;
    free(admin).await;
    fenced(viewer).await;
    // Members of nothing, of another Seller, and nobody.
    fenced(SellerScope::by_membership(scope.seller(), stranger)).await;
    fenced(SellerScope::by_membership(other.seller(), adam)).await;
    fenced(SellerScope::by_membership(scope.seller(), UserId::new())).await;
    fenced(SellerScope::by_membership(SellerId::new(), adam)).await;
    drop(db.begin_write(theirs).await.expect("may act there"));

    // Made a viewer, and back; removed.
    for (role, may_act) in [(Role::Viewer, false), (Role::Admin, true)] {
        let mut tx = db.begin_change(scope).await.expect("begins");
        tx.set_role(adam, role).await.expect("sets");
        tx.commit().await.expect("commits");
        if may_act {
            free(admin).await;
        } else {
            fenced(admin).await;
        }
    }
    remove(db, scope, adam).await;
    fenced(admin).await;
    // A fence that fell leaves no lock behind, and a key that dies takes no member with it.
    let (key, _) = rotate(db, scope, T).await;
    expire(db, scope, T).await;
    assert_fenced(db.begin_change(key.scope(scope.seller())).await);
    free(owner).await;
}

async fn contract_change_of_members_waits(db: &Db) {
    let (scope, _) = two_sellers(db).await;
    let (adam, by_adam) = member(db, scope, "adm@lone.example", Role::Admin).await;
    let mut write = db.begin_write(by_adam).await.expect("may act");
    let mut change = beside(db, async move |db| {
        let mut tx = db.begin_change(scope).await?;
        tx.delete_membership(adam).await?;
        let seen = tx.listings_of(&[vin(1)]).await?.len();
        tx.commit().await?;
        Ok::<_, DbError>(seen)
    });
    still_waits(&mut change, &mut write).await;
    write
        .upsert_listings(&[listing(scope, vin(1), "{}")])
        .await
        .expect("the write is in order");
    write.commit().await.expect("lands");
    // It comes after the write, and sees it.
    assert_eq!(ended(change).await.expect("its turn"), 1);
    assert_fenced(db.begin_write(by_adam).await);
}

async fn contract_write_finds_member_gone(db: &Db) {
    let (scope, _) = two_sellers(db).await;
    let (adam, by_adam) = member(db, scope, "adm@lone.example", Role::Admin).await;
    // A change that is given up removes nobody.
    let mut change = db.begin_change(scope).await.expect("begins");
    change.delete_membership(adam).await.expect("ends");
    let mut write = beside(db, async move |db| db.begin_write(by_adam).await);
    still_waits(&mut write, &mut change).await;
    drop(change);
    drop(ended(write).await.expect("may act"));

    let mut change = db.begin_change(scope).await.expect("begins");
    change.set_role(adam, Role::Viewer).await.expect("sets");
    let mut write = beside(db, async move |db| db.begin_write(by_adam).await);
    let mut other_change = beside(db, async move |db| db.begin_change(by_adam).await);
    still_waits(&mut write, &mut change).await;
    still_waits(&mut other_change, &mut change).await;
    change.commit().await.expect("commits");
    assert_fenced(ended(write).await);
    assert_fenced(ended(other_change).await);
}

// ---------------------------------------------------------------------------------------------------------------------
// In turn.

async fn contract_begin_in_turn(db: &Db) {
    let (scope, _) = two_sellers(db).await;
    let mut dropped = db.begin_in_turn().await.expect("begins");
    let new = new_seller("in-turn");
    dropped.insert_seller(&new, T).await.expect("is new");
    drop(dropped);
    let none = db.seller_by_slug(&new.slug).await.expect("answers");
    assert!(none.is_none(), "not committed");
    let mut tx = db.begin_in_turn().await.expect("its turn");
    tx.insert_seller(&new, T).await.expect("is new");
    tx.commit().await.expect("commits");
    let row = db.seller_by_slug(&new.slug).await.expect("answers");
    assert_eq!(row.expect("is there").id, new.id);
    // Either way its place is free again.
    upsert(db, scope, &[listing(scope, vin(1), "{}")])
        .await
        .expect("its turn");
}

/// PostgreSQL has no such queue: there they do not wait for one another.
#[tokio::test]
async fn on_sqlite_a_change_overtakes_whatever_waits_for_its_turn() {
    on_sqlite(async |db: &Db| {
        let (scope, _) = two_sellers(db).await;
        let mut first = db.begin_in_turn().await.expect("begins");
        let waiting: Vec<_> = (0..20)
            .map(|_| {
                beside(db, async |db| {
                    // Whoever's turn it is keeps it for good: a change that stood behind them would never come.
                    let _turn = db.begin_in_turn().await;
                    std::future::pending::<()>().await;
                })
            })
            .collect();
        let mut change = beside(db, async move |db| db.begin_change(scope).await);
        still_waits(&mut change, &mut first).await;
        first.commit().await.expect("commits");
        let change = ended(change).await;
        drop(change.expect("stands behind one of them at most"));
        for waiting in waiting {
            waiting.abort();
            assert!(waiting.await.is_err_and(|end| end.is_cancelled()));
        }
    })
    .await;
}

async fn contract_keep_sessions(db: &Db) {
    db.migrate().await.expect("migrates");
    let (ann, zoe) = (
        user(db, "ann@lone.example").await,
        user(db, "zoe@lone.example").await,
    );
    let mut tx = db.begin().await.expect("begins");
    for n in 1..=5 {
        tx.insert_session(&session(ann, n), digest(n as u8))
            .await
            .expect("is new");
    }
    tx.insert_session(&session(zoe, 9), digest(9))
        .await
        .expect("is new");
    let ended = tx.keep_sessions(ann, 3).await.expect("ends the others");
    assert_eq!(ended.len(), 2);
    let ended = tx.keep_sessions(ann, 3).await.expect("ends none");
    assert_eq!(ended, []);
    tx.commit().await.expect("commits");
    let seen: Vec<_> = db
        .sessions_of(ann)
        .await
        .expect("answers")
        .iter()
        .map(|s| s.seen_us)
        .collect();
    let all: Vec<_> = (3..=5).rev().map(|n| session(ann, n).seen_us).collect();
    assert_eq!(seen, all, "the latest first");
    assert_eq!(db.sessions_of(zoe).await.expect("answers").len(), 1);
}

async fn contract_locked_password(db: &Db) {
    db.migrate().await.expect("migrates");
    let ann = user(db, "ann@lone.example").await;
    let mut holder = db.begin().await.expect("begins");
    let hash = holder.locked_password(ann).await.expect("answers");
    assert_eq!(hash.as_deref(), Some("hash of ann@lone.example"));
    let nobody = holder
        .locked_password(UserId::new())
        .await
        .expect("answers");
    assert_eq!(nobody, None);
    let other = db.clone();
    let changing = tokio::spawn(async move {
        let mut tx = other.begin().await?;
        let done = tx
            .replace_password(ann, "hash of ann@lone.example", "another")
            .await?;
        tx.commit().await.map(|()| done)
    });
    // The other one waits for the lock, so what was read holds until the end.
    for _ in 0..20 {
        let again = holder.locked_password(ann).await.expect("answers");
        assert_eq!(again, hash);
        tokio::task::yield_now().await;
    }
    assert!(!changing.is_finished());
    holder.commit().await.expect("commits");
    assert!(ended(changing).await.expect("changes"));
}
