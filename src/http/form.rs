//! What a page's form or a page's address says: names and texts, read within limits.
//!
//! Never: a value taken from a form in a log.

use axum::{
    extract::{FromRequest, Request},
    http::{StatusCode, header},
};
use http_body_util::{BodyExt, LengthLimitError, Limited};

use super::{State, problem::Problem};

/// Bytes of a form at most; the longest text in one is a dealer's description.
const FORM_BYTES_MAX: usize = 64 << 10;
/// Fields of a form at most; of a page's address, what stands behind them is not looked at.
const FIELDS_MAX: usize = 100;

/// The fields of a form or of a query string, in their order.
#[derive(Default)]
pub struct Fields(Vec<(String, String)>);

impl Fields {
    /// What stands in a page's address, behind the question mark.
    pub fn of_query(query: &str) -> Self {
        Self::parse(query.as_bytes(), FIELDS_MAX)
    }

    fn parse(bytes: &[u8], most: usize) -> Self {
        let fields = form_urlencoded::parse(bytes).take(most);
        Self(
            fields
                .map(|(name, text)| (name.into_owned(), text.into_owned()))
                .collect(),
        )
    }

    /// The first field of this name, if it says anything.
    pub fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(field, _)| field == name);
        found
            .map(|(_, text)| text.as_str())
            .filter(|t| !t.is_empty())
    }

    /// The same, with nothing as an empty text.
    pub fn text(&self, name: &str) -> &str {
        self.get(name).unwrap_or_default()
    }

    /// Every field but those of this name.
    pub fn without<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.0
            .iter()
            .filter(move |(field, _)| field != name)
            .map(|(field, text)| (field.as_str(), text.as_str()))
    }
}

/// A form that was posted.
pub struct Form(pub Fields);

impl FromRequest<std::sync::Arc<State>> for Form {
    type Rejection = Problem;

    async fn from_request(
        request: Request,
        state: &std::sync::Arc<State>,
    ) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        let media = parts
            .headers
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split(';').next())
            .unwrap_or_default();
        if !media
            .trim()
            .eq_ignore_ascii_case("application/x-www-form-urlencoded")
        {
            return Err(Problem::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "This is not a form",
                "This address takes the form of its page. Open the page and use its button.",
            ));
        }
        let reading = Limited::new(body, FORM_BYTES_MAX).collect();
        let limit = state.services.settings.limits.body_pause;
        let read = tokio::time::timeout(limit, reading).await;
        let bytes = match read {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(error)) if error.is::<LengthLimitError>() => {
                return Err(too_long());
            }
            _ => {
                return Err(Problem::new(
                    StatusCode::REQUEST_TIMEOUT,
                    "The form did not arrive",
                    "Nothing was changed. Go back and send it again.",
                ));
            }
        };
        let fields = Fields::parse(&bytes, FIELDS_MAX + 1);
        // A form without its last fields could mean something else.
        if fields.0.len() > FIELDS_MAX {
            return Err(too_long());
        }
        Ok(Self(fields))
    }
}

fn too_long() -> Problem {
    Problem::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "This form is too long",
        "Nothing was changed. Go back, write less, and send it again.",
    )
}

/// The query string of a page's address.
pub struct Query(pub Fields);

impl<S: Sync> axum::extract::FromRequestParts<S> for Query {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(
        parts: &mut axum::http::request::Parts,
        _: &S,
    ) -> Result<Self, Self::Rejection> {
        Ok(Self(Fields::of_query(
            parts.uri.query().unwrap_or_default(),
        )))
    }
}
