//! The way to the database over TLS: nodes and commands on a PostgreSQL that speaks nothing else.
//!
//! Never: a certificate believed that nobody vouched for, where the operator wants it checked.

use crate::support::{binary::Place, own_postgres::OwnPostgres, tls::Authority};

use super::status;

#[tokio::test(flavor = "multi_thread")]
async fn nodes_and_commands_reach_the_database_by_tls_and_check_its_certificate_where_told_to() {
    let authority = Authority::new();
    let mut server = OwnPostgres::start().await;
    server.speak_tls_only(&authority.issue()).await;
    let plain = OwnPostgres::url_by(server.port());

    let clear = Place::on_database(format!("{plain}?sslmode=disable"));
    let refused = clear.run(&["migrate"], "");
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");

    let trusted = clear.path().join("authority.pem");
    let others = clear.path().join("another.pem");
    std::fs::write(&trusted, authority.pem()).expect("writes");
    std::fs::write(&others, Authority::new().pem()).expect("writes");
    let checked = |root: &std::path::Path| {
        format!("{plain}?sslmode=verify-full&sslrootcert={}", root.display())
    };
    let wrong = Place::on_database(checked(&others));
    let refused = wrong.run(&["migrate"], "");
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");

    let place = Place::on_database(checked(&trusted));
    let node = place.serve(&[]);
    place.create_seller("lone-star");
    let first = place.generate("lone-star");
    let second = place.generate("lone-star");
    assert_eq!(status(&node, &first).await, (401, "revoked".to_owned()));
    assert_eq!(status(&node, &second).await.0, 200);
    let mut inside = server.connect().await.expect("connects");
    let clear: i64 = sqlx::query_scalar(
        "SELECT COUNT(*) FROM pg_stat_ssl s JOIN pg_stat_activity a ON a.pid = s.pid \
         WHERE a.application_name = 'truckradar' AND NOT s.ssl",
    )
    .fetch_one(&mut inside)
    .await
    .expect("answers");
    assert_eq!(clear, 0, "no session of ours is in the clear");
}
