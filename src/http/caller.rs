//! Who is calling, as an extractor: the only way by which a handler comes to name a Seller.
//!
//! Never: a caller that [`super::edge`] has not verified; a Seller named by anything but a live key or a membership.

use std::{net::IpAddr, sync::Arc};

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, HeaderName, HeaderValue, Method, header, request::Parts},
};

use super::{State, error::ApiError, form::Fields, problem::Problem, session_cookie};
use crate::{
    accounts::{
        people::Visitor,
        sessions::{Member, Session, Use},
        tokens::Token,
    },
    db::DbError,
    ids::SellerId,
    keys::{
        grant::{self, Named},
        scope::SellerScope,
        table::Holder,
        usage,
        verify::{Caller, Forbidden},
    },
};

/// What the edge leaves with a request whose key it found good: the key's holder, and where they are.
#[derive(Clone, Copy)]
pub(super) struct Verified(pub(super) Caller, pub(super) IpAddr);

/// What the edge leaves with a request for a page: where it came from.
#[derive(Clone, Copy)]
pub(super) struct ClientAddress(pub(super) IpAddr);

/// What the edge leaves with a request for a page: the id by which the log knows it.
#[derive(Clone)]
pub(super) struct RequestId(pub(super) Box<str>);

/// Where a request names the Seller that it is about.
pub(super) const TRUCKRADAR_SELLER: HeaderName = HeaderName::from_static("truckradar-seller");

/// The holder of a live key that may act for one Seller: the Seller's own, or a Platform's that the Seller has granted access.
pub struct SellerCaller(SellerScope);

impl SellerCaller {
    /// The right to act on that Seller.
    pub fn scope(&self) -> SellerScope {
        self.0
    }
}

impl FromRequestParts<Arc<State>> for SellerCaller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<State>) -> Result<Self, ApiError> {
        let caller = KeyCaller::of(parts)?;
        let scope = caller.scope().ok_or_else(ApiError::seller_required)?;
        caller.must_mean_itself(parts, state).await?;
        Ok(Self(scope))
    }
}

/// The holder of a live key of any kind.
pub struct KeyCaller(Caller, IpAddr);

impl KeyCaller {
    /// The key.
    pub fn key(&self) -> crate::ids::KeyId {
        self.0.record().key
    }

    /// Whether it is a Platform's.
    pub fn is_platform(&self) -> bool {
        self.0.record().holder != Holder::Seller
    }

    /// The right to act on the Seller that the request is about; `None` for a Platform that named nobody.
    pub fn scope(&self) -> Option<SellerScope> {
        Some(self.0.scope()?.from_address(self.1))
    }

    /// The right to read what is the key's own account's; for a Platform, to bring Sellers into being.
    pub fn own_scope(&self) -> SellerScope {
        self.0.own_scope().from_address(self.1)
    }

    fn of(parts: &Parts) -> Result<Self, ApiError> {
        match parts.extensions.get::<Verified>() {
            Some(Verified(caller, address)) => Ok(Self(*caller, *address)),
            // A route outside /api/v1/ asked for a Seller: a defect in the table, and never a way in.
            None => {
                tracing::error!("a route asked for a Seller where no key is checked");
                Err(ApiError::internal())
            }
        }
    }

    /// A Seller's own key needs not name its Seller; if the request names one all the same, it must be that one. Whoever
    /// believes to act for another is told.
    async fn must_mean_itself(&self, parts: &Parts, state: &State) -> Result<(), ApiError> {
        if self.is_platform() || !parts.headers.contains_key(TRUCKRADAR_SELLER) {
            return Ok(());
        }
        let own = self.0.record().seller;
        let is_own = match named(&parts.headers) {
            Named::Id(id) => id == own,
            Named::Slug(slug) => self.is_own_slug(slug, state).await?,
            Named::Nobody | Named::Unreadable => false,
        };
        match is_own {
            true => Ok(()),
            false => Err(Forbidden::NotGranted.into()),
        }
    }

    /// Whether this is the caller's own slug. Slugs never change, so the database is asked once.
    async fn is_own_slug(&self, slug: &str, state: &State) -> Result<bool, ApiError> {
        let own = self.0.record().seller;
        if let Some(own) = state.own_slugs.get(&own) {
            return Ok(*own == *slug);
        }
        let Some(seller) = state.services.db.seller(self.own_scope()).await? else {
            return Ok(false);
        };
        let is_own = seller.slug == slug;
        state.own_slugs.insert(own, seller.slug.into());
        Ok(is_own)
    }
}

impl FromRequestParts<Arc<State>> for KeyCaller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<State>) -> Result<Self, ApiError> {
        let caller = Self::of(parts)?;
        caller.must_mean_itself(parts, state).await?;
        Ok(caller)
    }
}

/// The Seller that a request says it is about.
pub(super) fn named(headers: &HeaderMap) -> Named<'_> {
    let values = headers.get_all(TRUCKRADAR_SELLER).iter();
    grant::read_named(values.map(HeaderValue::as_bytes))
}

/// The browser that asks for a page, signed in or not.
pub struct Browser {
    /// Where it is and what it is.
    pub visitor: Visitor,
    /// Its session, if it has one that is still good.
    pub session: Option<Session>,
    /// The token of a sign-in in it that waits for a code, good or not.
    pub half: Option<Token>,
}

impl FromRequestParts<Arc<State>> for Browser {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<State>) -> Result<Self, Problem> {
        let visitor = visitor(parts);
        let session = find_session(&parts.headers, state, &visitor, Use::Counts).await?;
        let half = session_cookie::half_token(&parts.headers, &state.services.settings);
        Ok(Self {
            visitor,
            session,
            half,
        })
    }
}

/// Somebody who is signed in; anybody else is sent to sign in and comes back afterwards.
#[derive(Clone)]
pub struct SignedIn {
    /// Where the browser is and what it is.
    pub visitor: Visitor,
    /// The session.
    pub session: Session,
    /// The id by which the log knows the request, for what goes wrong when the answer has begun.
    pub request_id: String,
}

impl FromRequestParts<Arc<State>> for SignedIn {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<State>) -> Result<Self, Problem> {
        Self::from_parts(parts, state, Use::Counts).await
    }
}

/// The same for what a page asks for by itself, however often: it does not keep a session from running out.
pub struct Watching(pub SignedIn);

impl FromRequestParts<Arc<State>> for Watching {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<State>) -> Result<Self, Problem> {
        let signed_in = SignedIn::from_parts(parts, state, Use::DoesNotCount).await?;
        Ok(Self(signed_in))
    }
}

impl SignedIn {
    async fn from_parts(parts: &Parts, state: &State, how: Use) -> Result<Self, Problem> {
        let visitor = visitor(parts);
        match find_session(&parts.headers, state, &visitor, how).await? {
            Some(session) => {
                let id = parts.extensions.get::<RequestId>();
                Ok(Self {
                    visitor,
                    session,
                    request_id: id.map(|RequestId(id)| id.to_string()).unwrap_or_default(),
                })
            }
            None => {
                // A form that was posted too late cannot be posted again by a redirect; its page can be shown.
                let next = match parts.method {
                    Method::GET => parts.uri.path_and_query().map_or("", |path| path.as_str()),
                    _ => "/dashboard/settings",
                };
                Err(Problem::sign_in_first(next))
            }
        }
    }
}

impl SignedIn {
    /// The User as a member of the Seller that a page's address names, or of their only one. Whoever is a member of several and
    /// names none is sent to choose: what they see and change would be that of a dealer whom nobody meant.
    pub fn member_of_page(&self, query: &Fields) -> Result<Member, Problem> {
        match self.session.member_by_slug(query.get("seller")) {
            Some(member) => Ok(member),
            None if self.session.memberships().is_empty() => Err(self.told(Problem::new(
                axum::http::StatusCode::FORBIDDEN,
                "No dealer account yet",
                "You are signed in, but not a member of any dealer account. Ask an owner of yours to invite you.",
            )
            .with_way_on("/dashboard/account", "Your password and sessions"))),
            None if query.get("seller").is_none() => Err(Problem::choose_dealer()),
            None => Err(self.told(Problem::other_dealers())),
        }
    }

    /// The User as a member, of whatever role, of the Seller whose id a form carries.
    pub fn member_of_form(&self, form: &Fields) -> Result<Member, Problem> {
        let seller = form.text("seller").parse::<SellerId>().ok();
        seller
            .and_then(|seller| self.session.member_by_id(seller))
            .ok_or_else(|| self.told(Problem::other_dealers()))
    }

    fn told(&self, problem: Problem) -> Problem {
        problem.for_person(&self.session)
    }

    /// The same, of a role that may change things, and with a second factor where an owner demands one.
    pub fn actor_of_form(&self, form: &Fields) -> Result<Member, Problem> {
        let member = self.must_have_role(self.member_of_form(form)?)?;
        if member.lacks_factor() {
            return Err(self.told(Problem::factor_wanted(&member)));
        }
        Ok(member)
    }

    /// The User as a member of the Seller that a page's address names, of a role that may change things. They look at what only
    /// those may see; for that no second factor is demanded.
    pub fn actor_of_page(&self, query: &Fields) -> Result<Member, Problem> {
        self.must_have_role(self.member_of_page(query)?)
    }

    fn must_have_role(&self, member: Member) -> Result<Member, Problem> {
        if member.role().may_act() {
            Ok(member)
        } else {
            Err(self.told(Problem::role_forbids().about(&member)))
        }
    }
}

fn visitor(parts: &Parts) -> Visitor {
    let address = parts.extensions.get::<ClientAddress>();
    let agent = parts.headers.get(header::USER_AGENT);
    Visitor {
        address: address.map_or(IpAddr::from([0, 0, 0, 0]), |ClientAddress(address)| {
            *address
        }),
        user_agent: usage::readable_user_agent(agent.map_or(&b""[..], |value| value.as_bytes())),
    }
}

async fn find_session(
    headers: &HeaderMap,
    state: &State,
    visitor: &Visitor,
    how: Use,
) -> Result<Option<Session>, DbError> {
    let services = &state.services;
    match session_cookie::token(headers, &services.settings) {
        Some(token) => services.people.session(&token, visitor, how).await,
        None => Ok(None),
    }
}
