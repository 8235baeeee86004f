//! Somebody sends a form that is too long, no form at all, or never to its end.
//!
//! Never: a part of a form taken for the whole.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use crate::support::{
    client::Answer,
    dealership::{Asked, Dealership, OWN, page_routes},
    person::Person,
};

/// The forms that are read; the one to sign out has nothing in it.
async fn forms(dealership: &Dealership) -> Vec<Asked> {
    let account = dealership.account(OWN, "owner").await;
    let asked = page_routes()
        .into_iter()
        .filter(|route| route.method == reqwest::Method::POST && route.path != "/logout")
        .map(|route| account.request(&route));
    asked.collect()
}

fn assert_is_page(answer: &Answer, status: u16, told: &str) {
    assert_eq!(answer.status, status, "{told}: {}", answer.text);
    let words = answer.words();
    assert!(
        words.contains(answer.header("x-request-id")),
        "{told}: {words}"
    );
    assert_eq!(answer.header("set-cookie"), "", "{told}");
}

#[tokio::test]
async fn a_form_that_is_too_long_has_too_many_fields_or_is_none_changes_nothing() {
    let dealership = Dealership::new().await;
    let mut owner = dealership.person("owner", OWN).await;
    let before = dealership.place.everything().await;
    for asked in forms(&dealership).await {
        let told = asked.to_string();
        let mut long = asked.form();
        long.fields.push(("x".to_owned(), "x".repeat(65 << 10)));
        assert_is_page(&owner.send(&long).await, 413, &told);
        // The same where nothing says beforehand how long it will be.
        let body = {
            let mut body = form_urlencoded::Serializer::new(String::new());
            body.extend_pairs(&long.fields);
            body.finish()
        };
        let (status, said) = chunked(dealership.served.api, &owner, &asked.path, &body);
        assert_eq!(status, 413, "{told}: {said}");

        // What stands behind the hundredth field would be lost, and a form without it means something else.
        let mut many = asked.form();
        let fill = 101 - many.fields.len();
        let filling = (0..fill).map(|n| (format!("x{n}"), String::new()));
        many.fields.splice(0..0, filling);
        assert_eq!(many.fields.len(), 101);
        assert_is_page(&owner.send(&many).await, 413, &told);

        for media_type in [
            "application/json",
            "text/plain",
            "multipart/form-data; boundary=x",
            "application/x-www-form-urlencoded-not",
            "",
        ] {
            let request = owner.post(&asked.form()).header("content-type", media_type);
            // The library adds a header to the one that it sets; a request has one.
            let mut request = request.build().expect("a request");
            let value = media_type.parse().expect("a value");
            request.headers_mut().insert("content-type", value);
            let answer = owner.execute(request).await;
            assert_is_page(&answer, 415, &format!("{told} as {media_type:?}"));
        }
        let mut request = owner.post(&asked.form()).build().expect("a request");
        request.headers_mut().remove("content-type");
        assert_is_page(&owner.execute(request).await, 415, &told);
        dealership.place.assert_unchanged(&before, &told).await;
    }
    // A hundred fields are read to the last, whatever parameters the media type has.
    let asked = forms(&dealership).await.into_iter();
    let profile = asked
        .into_iter()
        .find(|asked| asked.path.ends_with("/profile"));
    let mut form = profile.expect("the profile").form();
    let fill = 100 - form.fields.len();
    form.fields
        .splice(0..0, (0..fill).map(|n| (format!("x{n}"), String::new())));
    let mut request = owner.post(&form).build().expect("a request");
    let value = "Application/X-WWW-Form-URLEncoded; charset=UTF-8";
    request
        .headers_mut()
        .insert("content-type", value.parse().expect("a value"));
    assert_eq!(owner.execute(request).await.status, 303);
}

/// A request's first lines, with a person's cookie.
fn head(at: SocketAddr, person: &Person, path: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: {at}\r\nCookie: truckradar_session={}\r\nAccept: text/html\r\n\
         Content-Type: application/x-www-form-urlencoded\r\n",
        person.session_token().unwrap_or_default()
    )
}

fn chunked(at: SocketAddr, person: &Person, path: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(at).expect("connects");
    let head = head(at, person, path) + "Transfer-Encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).expect("is sent");
    for part in body.as_bytes().chunks(4096) {
        let mut chunk = format!("{:x}\r\n", part.len()).into_bytes();
        chunk.extend_from_slice(part);
        chunk.extend_from_slice(b"\r\n");
        // The server may answer and close before it has read everything.
        if stream.write_all(&chunk).is_err() {
            break;
        }
    }
    read_answer(&mut stream)
}

/// Reads until there is a whole head and a part of the page behind it.
fn read_answer(stream: &mut TcpStream) -> (u16, String) {
    let patience = Some(Duration::from_secs(60));
    stream.set_read_timeout(patience).expect("a timeout");
    let mut said = Vec::new();
    let mut part = [0; 4096];
    while !String::from_utf8_lossy(&said).contains("</html>") {
        match stream.read(&mut part) {
            Ok(n) if n > 0 => said.extend_from_slice(&part[..n]),
            _ => break,
        }
    }
    let said = String::from_utf8_lossy(&said).into_owned();
    let status = said.get(9..12).and_then(|status| status.parse().ok());
    (status.unwrap_or(0), said)
}

#[tokio::test]
async fn a_form_that_never_ends_is_given_up_and_changes_nothing() {
    let dealership = Dealership::new().await;
    let owner = dealership.person("owner", OWN).await;
    let at = dealership.served.api;
    let before = dealership.place.everything().await;
    // All at once, since each is waited for.
    let mut waiting = Vec::new();
    for asked in forms(&dealership).await {
        let mut body = form_urlencoded::Serializer::new(String::new());
        body.extend_pairs(&asked.fields);
        let body = body.finish();
        // Everything is there but the end: one byte is promised that does not come.
        let head = head(at, &owner, &asked.path);
        let request = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len() + 1);
        let mut stream = TcpStream::connect(at).expect("connects");
        stream.write_all(request.as_bytes()).expect("is sent");
        waiting.push((asked, stream));
    }
    for (asked, mut stream) in waiting {
        let (status, said) = read_answer(&mut stream);
        assert_eq!(status, 408, "{asked}: {said}");
        assert!(said.contains("The form did not arrive"), "{asked}: {said}");
        assert!(!said.contains("set-cookie"), "{asked}: {said}");
        // The rest is not waited for: the connection's place is free.
        assert!(said.contains("connection: close\r\n"), "{asked}: {said}");
        let mut rest = Vec::new();
        match stream.read_to_end(&mut rest) {
            Ok(_) => assert_eq!(String::from_utf8_lossy(&rest), "", "{asked}"),
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{asked}"),
        }
    }
    dealership
        .place
        .assert_unchanged(&before, "half a form")
        .await;
}
