//! A dealer's system keeps what the dealer says of itself in step.

use serde_json::json;

use crate::support::{binary::Place, client::Client};

#[tokio::test]
async fn a_dealer_describes_itself_and_nobody_else() {
    let place = Place::new();
    let served = place.serve(&[]);
    place.create_seller("lone-star");
    place.create_seller("great-lakes");
    let client = Client::new(served.api, Some(&place.generate("lone-star")));

    let whole = json!({
        "slug": "lone-star", "name": "Lone Star Trucks", "phone": "+1 214 555 0100", "email": "sales@lonestar.example",
        "website": "https://lonestar.example", "description": "Since 1988.",
        "locations": [
            {"name": "Dallas", "street": "1 Yard Rd", "city": "Dallas", "state": "tx", "postal_code": "75201"},
            {"name": "Waco", "phone": "+1 254 555 0100"},
        ],
    });
    let answer = client.post("/api/v1/dealers", &whole).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let shown = client.get("/api/v1/dealers/lone-star").await.json();
    assert_eq!(shown, answer.json());
    assert_eq!(shown["data"]["name"], "Lone Star Trucks");
    assert_eq!(shown["data"]["locations"][0]["state"], "TX");
    assert_eq!(shown["data"]["locations"][1]["name"], "Waco");

    // A part is changed, a part is cleared, the rest stays.
    let answer = client
        .patch(
            "/api/v1/dealers",
            &json!({"slug": "lone-star", "phone": "+1 214 555 0199", "website": null}),
        )
        .await;
    let data = &answer.json()["data"];
    assert_eq!(data["phone"], "+1 214 555 0199");
    assert_eq!(data["website"], json!(null));
    assert_eq!(data["description"], "Since 1988.");
    assert_eq!(data["locations"].as_array().map(Vec::len), Some(2));

    // What GET shows may be sent back, but for what only the server sets.
    let answer = client
        .post(
            "/api/v1/dealers",
            &json!({"slug": "lone-star", "name": "Lone Star", "locations": data["locations"]}),
        )
        .await;
    assert_eq!(
        answer.json()["data"]["phone"],
        json!(null),
        "an upsert is the whole record"
    );
    assert_eq!(
        answer.json()["data"]["locations"].as_array().map(Vec::len),
        Some(2)
    );

    for (body, status, code) in [
        (json!({"name": "x"}), 400, "INVALID_PAYLOAD"),
        (json!({"slug": "lone-star"}), 400, "INVALID_PAYLOAD"),
        (
            json!({"slug": "lone-star", "name": 7}),
            400,
            "VALIDATION_ERROR",
        ),
        (
            json!({"slug": "lone-star", "name": "x", "colour": "red"}),
            400,
            "VALIDATION_ERROR",
        ),
        (
            json!({"slug": "great-lakes", "name": "Mine now"}),
            403,
            "FORBIDDEN",
        ),
        (
            json!({"slug": "brand-new", "name": "Brand New"}),
            403,
            "FORBIDDEN",
        ),
    ] {
        let answer = client.post("/api/v1/dealers", &body).await;
        assert_eq!(
            (answer.status.as_u16(), answer.code().as_str()),
            (status, code),
            "{body}"
        );
    }
    for (body, status) in [
        (json!({"phone": "1"}), 400),
        (json!({"slug": "great-lakes", "phone": "1"}), 403),
        (json!({"slug": "nobody-here", "phone": "1"}), 404),
        (json!({"slug": "lone-star", "locations": []}), 400),
    ] {
        assert_eq!(
            client.patch("/api/v1/dealers", &body).await.status,
            status,
            "{body}"
        );
    }
    assert_eq!(client.get("/api/v1/dealers/great-lakes").await.status, 403);
    assert_eq!(client.get("/api/v1/dealers/nobody-here").await.status, 404);
    assert_eq!(client.get("/api/v1/dealers/No%20Slug").await.status, 404);
    let untouched = place.json(&["seller", "show", "--seller", "great-lakes"], "");
    assert_eq!(untouched["seller"]["name"], "great-lakes");
}
