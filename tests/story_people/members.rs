//! Members: how they are invited, managed and removed, and how they come back in.
//!
//! Never: a right that is checked only where it is offered.

use super::*;

stories! {
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
