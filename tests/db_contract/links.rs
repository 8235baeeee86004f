//! The contracts of links: invitations, and those by which a password is set.
//!
//! Never: a link that works twice.

use truckradar::{accounts::Role, db::LinkRow};

use super::{people::*, *};

contracts! {
    a_link_is_found_by_its_kind_and_digest_until_it_is_taken: contract_link;
    a_link_is_taken_once_even_by_two_at_the_same_moment: contract_take_link;
    links_are_taken_back_by_kind_address_and_seller: contract_take_links_back;
    an_invitation_stands_until_it_runs_out_or_a_newer_one_comes: contract_invitations;
    invitations_are_taken_back_by_whoever_made_them: contract_take_back_invitations_by;
}

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
