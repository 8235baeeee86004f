//! The only place that turns errors into responses.
//!
//! Every failure is `{"error":{"code","message","details"}}`. Codes are stable and for programs; messages are for people and
//! say what was wrong and what to do; `details.docs` is where the documentation says more.
//!
//! Never: an inner error's text in a response; 401 for a fault of ours.

mod forbidden;

use std::{borrow::Cow, sync::LazyLock, time::Duration};

use axum::{
    body::Bytes,
    http::{HeaderValue, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use super::{problem::Problem, routes};
use crate::{
    accounts::dealers::DealerError,
    db::DbError,
    inventory::{pipeline::Rejected, service::InventoryError, vin::VinError},
    services::Settings,
};

/// The page of the documentation that explains every error.
const DOCS: &str = "/docs/errors";

/// An enum that knows all its variants, so that what must hold for each of them can be checked.
macro_rules! listed {
    ($(#[$doc:meta])* $visible:vis enum $name:ident { $($(#[$of_one:meta])* $variant:ident,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        $visible enum $name {
            $($(#[$of_one])* $variant,)+
        }

        impl $name {
            /// Every one there is.
            #[allow(dead_code, reason = "of the codes, tests alone walk all")]
            pub const ALL: &[Self] = &[$(Self::$variant),+];
        }
    };
}

listed! {
    /// Every code that a response can carry.
    pub enum Code {
        /// 401: `details.reason` says which.
        Unauthorized,
        /// 403: another dealer's.
        Forbidden,
        /// 403: the plan does not have this.
        TierRestricted,
        /// 400: a Platform's key, and no Seller named.
        SellerRequired,
        /// 400: the envelope is not what it must be.
        ValidationError,
        /// 400: more than 500 records.
        BatchTooLarge,
        /// 400: a required top-level field is absent.
        InvalidPayload,
        /// 400: not a VIN.
        InvalidVin,
        /// 400: not a status that can be set.
        InvalidStatus,
        /// 400: query parameters that cannot be understood.
        InvalidParams,
        /// 422: the pipeline refused the record.
        PipelineRejected,
        /// 404.
        NotFound,
        /// 405, with `Allow`.
        MethodNotAllowed,
        /// 408: the body did not arrive in time.
        RequestTimeout,
        /// 413.
        PayloadTooLarge,
        /// 415.
        UnsupportedMediaType,
        /// 421: a page asked for under a name that is not ours.
        MisdirectedRequest,
        /// 429, with `Retry-After`.
        RateLimited,
        /// 431.
        HeadersTooLarge,
        /// 500: a defect of ours.
        Internal,
        /// 503, with `Retry-After`: this cannot be done or known at present.
        Unavailable,
    }
}

listed! {
    /// Why a request got 401.
    pub enum Reason {
        /// No Authorization header.
        Missing,
        /// Not exactly one well-formed key.
        Malformed,
        /// A well-formed key that is none of ours.
        Unknown,
        /// A key of ours that is dead.
        Revoked,
        /// A key of ours that waits for its cut-over.
        Staged,
    }
}

impl Code {
    /// Name and status.
    pub fn parts(self) -> (&'static str, StatusCode) {
        use StatusCode as S;
        match self {
            Self::Unauthorized => ("UNAUTHORIZED", S::UNAUTHORIZED),
            Self::Forbidden => ("FORBIDDEN", S::FORBIDDEN),
            Self::TierRestricted => ("TIER_RESTRICTED", S::FORBIDDEN),
            Self::SellerRequired => ("SELLER_REQUIRED", S::BAD_REQUEST),
            Self::ValidationError => ("VALIDATION_ERROR", S::BAD_REQUEST),
            Self::BatchTooLarge => ("BATCH_TOO_LARGE", S::BAD_REQUEST),
            Self::InvalidPayload => ("INVALID_PAYLOAD", S::BAD_REQUEST),
            Self::InvalidVin => ("INVALID_VIN", S::BAD_REQUEST),
            Self::InvalidStatus => ("INVALID_STATUS", S::BAD_REQUEST),
            Self::InvalidParams => ("INVALID_PARAMS", S::BAD_REQUEST),
            Self::PipelineRejected => ("PIPELINE_REJECTED", S::UNPROCESSABLE_ENTITY),
            Self::NotFound => ("NOT_FOUND", S::NOT_FOUND),
            Self::MethodNotAllowed => ("METHOD_NOT_ALLOWED", S::METHOD_NOT_ALLOWED),
            Self::RequestTimeout => ("REQUEST_TIMEOUT", S::REQUEST_TIMEOUT),
            Self::PayloadTooLarge => ("PAYLOAD_TOO_LARGE", S::PAYLOAD_TOO_LARGE),
            Self::UnsupportedMediaType => ("UNSUPPORTED_MEDIA_TYPE", S::UNSUPPORTED_MEDIA_TYPE),
            Self::MisdirectedRequest => ("MISDIRECTED_REQUEST", S::MISDIRECTED_REQUEST),
            Self::RateLimited => ("RATE_LIMITED", S::TOO_MANY_REQUESTS),
            Self::HeadersTooLarge => ("HEADERS_TOO_LARGE", S::REQUEST_HEADER_FIELDS_TOO_LARGE),
            Self::Internal => ("INTERNAL", S::INTERNAL_SERVER_ERROR),
            Self::Unavailable => ("UNAVAILABLE", S::SERVICE_UNAVAILABLE),
        }
    }

    /// Where the documentation explains it.
    pub fn docs(self) -> String {
        let (name, _) = self.parts();
        format!("{DOCS}#{}", name.to_ascii_lowercase())
    }
}

impl Reason {
    /// Its name in `details.reason`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Malformed => "malformed",
            Self::Unknown => "unknown",
            Self::Revoked => "revoked",
            Self::Staged => "staged",
        }
    }

    /// Where the documentation explains it.
    pub fn docs(self) -> String {
        format!("{}-{}", Code::Unauthorized.docs(), self.name())
    }

    /// What a person is told, and what a program is told in the challenge. No error code for a request that brought no
    /// credentials at all: RFC 6750 section 3.1.
    fn words(self) -> (&'static str, Option<&'static str>) {
        match self {
            Self::Missing => (
                "No API key was sent. Send it as: Authorization: Bearer tr_live_…",
                None,
            ),
            Self::Malformed => (
                "The Authorization header does not hold exactly one well-formed key. Send it once, as: Authorization: Bearer \
                 tr_live_… (46 characters, without quotes).",
                Some("the Authorization header does not hold exactly one well-formed key"),
            ),
            Self::Unknown => (
                "This key is not known here. Look for a copy that was cut or mistyped, or one from another marketplace.",
                Some("the key is not known"),
            ),
            Self::Revoked => (
                "This key was replaced or expired and works no more. Use the Seller's present key; whoever manages the dealer \
                 account knows when it was replaced.",
                Some("the key was replaced or expired"),
            ),
            Self::Staged => (
                "This key was prepared and is not live yet: it is accepted once somebody presses Cut over in Settings, API Key. \
                 Until then use the Seller's present key.",
                Some("the key is prepared and not live yet"),
            ),
        }
    }
}

/// A failure on its way to the caller.
#[derive(Debug)]
pub struct ApiError {
    code: Code,
    message: Cow<'static, str>,
    details: Option<Value>,
    headers: Vec<(header::HeaderName, HeaderValue)>,
    /// For a 401: which.
    reason: Option<Reason>,
    /// For a 403: whether the key was not let in at all.
    bars_key: bool,
}

/// On a response: the key was good and not let in.
#[derive(Clone, Copy, Debug)]
pub(super) struct KeyBarred;

impl ApiError {
    /// A failure with a message for people.
    pub fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            message: message.into(),
            details: None,
            headers: Vec::new(),
            reason: None,
            bars_key: false,
        }
    }

    /// What a program may want to know besides.
    pub fn with_details(mut self, details: Value) -> Self {
        self.details = Some(details);
        self
    }

    fn with_header(mut self, name: header::HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Something that may work again later. The cause goes to the log, not to the caller.
    pub fn unavailable() -> Self {
        Self::new(
            Code::Unavailable,
            "This cannot be done at present, through no fault of yours. Try again shortly; sending the same again is safe.",
        )
        .with_header(header::RETRY_AFTER, HeaderValue::from_static("1"))
    }

    /// A defect of ours. The cause goes to the log, not to the caller.
    pub fn internal() -> Self {
        Self::new(
            Code::Internal,
            "Something went wrong on our side. If it goes on, tell us the X-Request-Id of this response.",
        )
    }

    /// Over the rate limit.
    pub fn rate_limited(retry_after: Duration) -> Self {
        let seconds = retry_after.as_secs();
        Self::new(
            Code::RateLimited,
            "This key has made more requests than its fair use. Wait, then go on.",
        )
        .with_details(json!({"retry_after_seconds": seconds}))
        .with_header(header::RETRY_AFTER, HeaderValue::from(seconds))
    }

    /// Too much of what everybody may do, for now.
    pub fn too_many(message: &'static str, retry_after: Duration) -> Self {
        let seconds = retry_after.as_secs().max(1);
        Self::new(Code::RateLimited, message)
            .with_details(json!({"retry_after_seconds": seconds}))
            .with_header(header::RETRY_AFTER, HeaderValue::from(seconds))
    }

    /// Another dealer lists the VIN; says whom to ask.
    pub fn other_dealers_vin(settings: &Settings) -> Self {
        let contact = &settings.sales_contact;
        Self::new(
            Code::Forbidden,
            format!(
                "Another dealer lists this VIN. If the unit is yours, ask {contact} to release it, and quote the VIN."
            ),
        )
        .with_details(json!({"contact": contact}))
    }

    /// A key's write that found its key dead: the request is refused as if it had come a moment later.
    pub fn revoked() -> Self {
        Self::unauthorized(Reason::Revoked)
    }

    fn unauthorized(reason: Reason) -> Self {
        Self {
            reason: Some(reason),
            ..Self::new(Code::Unauthorized, "")
        }
    }
}

/// What a program may want to know besides the code: at least where the documentation explains it.
fn with_docs(code: Code, details: Option<Value>) -> Value {
    let mut details = details.unwrap_or_else(|| json!({}));
    details["docs"] = code.docs().into();
    details
}

/// A 401, written once: whoever floods a server with bad keys shall not make it work more than good ones do.
#[derive(Debug)]
struct Unauthorized {
    body: Bytes,
    challenge: HeaderValue,
}

impl Unauthorized {
    fn new(reason: Reason) -> Self {
        let (code, _) = Code::Unauthorized.parts();
        let (message, description) = reason.words();
        let details = json!({"reason": reason.name(), "docs": reason.docs()});
        let body = json!({"error": {"code": code, "message": message, "details": details}});
        let realm = r#"Bearer realm="truckradar""#;
        let challenge = match description {
            None => realm.to_owned(),
            Some(text) => format!(r#"{realm}, error="invalid_token", error_description="{text}""#),
        };
        Self {
            body: body.to_string().into(),
            challenge: HeaderValue::try_from(challenge)
                .unwrap_or(HeaderValue::from_static("Bearer")),
        }
    }
}

/// One for each reason, in their order.
static PREPARED: LazyLock<Vec<Unauthorized>> =
    LazyLock::new(|| Reason::ALL.iter().copied().map(Unauthorized::new).collect());

/// What an [`ApiError`] is to a person whose browser met it outside of the API.
#[derive(Clone, Debug)]
pub struct ApiProblem(pub Problem);

impl Code {
    /// The title of a page.
    fn title(self) -> &'static str {
        match self {
            Self::NotFound => "There is nothing here",
            Self::MethodNotAllowed => "This address cannot do that",
            Self::HeadersTooLarge | Self::PayloadTooLarge => "The request is too large",
            Self::RateLimited => "Too many at once",
            Self::Unavailable => "This cannot be done at present",
            _ => "Something went wrong",
        }
    }
}

impl ApiError {
    fn as_problem(&self, status: StatusCode) -> Problem {
        // What a program is told of a path helps no person.
        let text = match self.code {
            Code::NotFound => {
                "This address leads to no page. Look for a misspelling, or begin anew.".into()
            }
            _ => self.message.clone(),
        };
        Problem::new(status, self.code.title(), text)
            .with_way_on("/dashboard", "Go to the dashboard")
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (code, status) = self.code.parts();
        if let Some(prepared) = self.reason.and_then(|reason| PREPARED.get(reason as usize)) {
            let mut response = super::api::body(prepared.body.clone());
            *response.status_mut() = status;
            let headers = response.headers_mut();
            headers.insert(header::WWW_AUTHENTICATE, prepared.challenge.clone());
            return response;
        }
        let problem = self.as_problem(status);
        let details = with_docs(self.code, self.details);
        let error = json!({"code": code, "message": self.message, "details": details});
        let body = json!({ "error": error }).to_string();
        let mut response = super::api::body(body);
        *response.status_mut() = status;
        response.headers_mut().extend(self.headers);
        response.extensions_mut().insert(ApiProblem(problem));
        if self.bars_key {
            response.extensions_mut().insert(KeyBarred);
        }
        if self.code == Code::RequestTimeout {
            response
                .headers_mut()
                .insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

impl From<DbError> for ApiError {
    fn from(error: DbError) -> Self {
        match error {
            DbError::Fenced(fenced) => fenced.into(),
            // Somebody came to list one of the VINs between our look and our write; on another try the look sees it.
            DbError::Unique => Self::unavailable(),
            DbError::Unavailable(_) => {
                tracing::warn!(%error, "the database is not available");
                Self::unavailable()
            }
            DbError::Damaged(_) | DbError::Schema(_) | DbError::TooOld | DbError::Internal(_) => {
                tracing::error!(%error, "a database call failed");
                Self::internal()
            }
        }
    }
}

impl From<VinError> for ApiError {
    fn from(error: VinError) -> Self {
        Self::new(
            Code::InvalidVin,
            format!("A VIN {error}. Send all 17 characters in upper case."),
        )
    }
}

impl From<DealerError> for ApiError {
    fn from(error: DealerError) -> Self {
        match error {
            DealerError::Required(field) => {
                Self::new(Code::InvalidPayload, format!("The field {field} is required."))
                    .with_details(json!({"field": field}))
            }
            DealerError::Invalid(issues) => Self::new(
                Code::ValidationError,
                "Some fields cannot be accepted; details.issues says which and why. Nothing was changed.",
            )
            .with_details(json!({"issues": issues})),
            DealerError::NotYours(_) => Self::new(
                Code::Forbidden,
                "This dealer is not the one that your key acts for. A dealer's key acts for that dealer, a platform's for the one that \
                 the request names.",
            ),
            DealerError::NoSuchDealer(_) => Self::new(Code::NotFound, "No dealer has this slug."),
            DealerError::Db(error) => error.into(),
        }
    }
}

impl ApiError {
    /// An act on inventory that was not done.
    pub fn of_inventory(error: InventoryError, settings: &Settings) -> Self {
        match error {
            InventoryError::OtherDealers => Self::other_dealers_vin(settings),
            InventoryError::NotListed => Self::new(Code::NotFound, "This VIN is not listed."),
            InventoryError::Db(error) => error.into(),
            InventoryError::Died(_) => Self::internal(),
        }
    }

    /// A record that the pipeline refused, as a response of its own.
    pub fn of_rejected(rejected: &Rejected, settings: &Settings) -> Self {
        if rejected.is_other_dealers() {
            return Self::other_dealers_vin(settings);
        }
        Self::new(
            Code::PipelineRejected,
            format!(
                "The record was refused in stage {}; details.issues says why. Nothing was stored.",
                stage_name(rejected)
            ),
        )
        .with_details(json!({"stage": rejected.stage, "issues": rejected.issues}))
    }

    /// A refused record as it stands in a batch's results.
    pub fn in_batch(rejected: &Rejected, settings: &Settings) -> Value {
        let error = Self::of_rejected(rejected, settings);
        json!({"code": error.code.parts().0, "message": error.message, "details": with_docs(error.code, error.details)})
    }
}

fn stage_name(rejected: &Rejected) -> String {
    let name = json!(rejected.stage);
    name.as_str().unwrap_or_default().to_owned()
}

/// What every path outside the table is answered.
pub async fn not_found() -> ApiError {
    ApiError::new(
        Code::NotFound,
        "There is nothing here. The API's endpoints are under /api/v1/; look for a misspelt path.",
    )
}

/// What a known path is answered for a method it does not have.
pub async fn method_not_allowed(method: Method, uri: Uri) -> ApiError {
    let mut allowed: Vec<String> = Vec::new();
    for route in routes() {
        if fits(route.path, uri.path()) {
            if route.method == Method::GET {
                allowed.push("HEAD".to_owned());
            }
            allowed.push(route.method.to_string());
        }
    }
    allowed.sort_unstable();
    let list = allowed.join(", ");
    let value = HeaderValue::try_from(&list).unwrap_or_else(|_| HeaderValue::from_static(""));
    ApiError::new(
        Code::MethodNotAllowed,
        format!("This address cannot do that. It can do {list}."),
    )
    .with_details(
        json!({"method": method.as_str().chars().take(20).collect::<String>(), "allowed": allowed}),
    )
    .with_header(header::ALLOW, value)
}

/// Whether a path is one of a route's.
fn fits(route: &str, path: &str) -> bool {
    let (mut want, mut have) = (route.split('/'), path.split('/'));
    loop {
        match (want.next(), have.next()) {
            (None, None) => return true,
            (Some(want), Some(have)) if want == have || want.starts_with('{') => {}
            _ => return false,
        }
    }
}
