//! Sessions: how long they last, whose they are, and what ends them.
//!
//! Never: a wait for one to grow old.

use super::*;

stories! {
    a_session_that_is_idle_or_old_is_none
    a_sessions_use_is_noted_once_a_minute
    signing_in_ends_the_session_that_the_browser_had
    giving_the_password_again_renews_the_token
    another_password_ends_every_other_session
    no_session_of_the_old_password_outlives_it
    of_two_who_change_a_password_at_once_one_is_too_late
    a_person_ends_their_own_sessions_only
    what_counts_no_more_is_forgotten
}

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
