//! Settings → Profile and Locations: what a Seller says of itself, changed by a person under the same rules as by the API.
//!
//! Never: a rule of its own about what is acceptable; those are in [`dealers`].

use std::sync::Arc;

use axum::{extract::State as Shared, response::Response};
use serde_json::{Map, Value, json};

use super::{
    super::{
        State,
        caller::SignedIn,
        form::{Fields, Form},
        problem::{Problem, capital},
    },
    platforms::only_for_dealers,
    settings::{self, Typed, Wrong},
};
use crate::{
    accounts::dealers::{self, DealerError, LocationChange},
    db::SellerRow,
};

/// The fields of the profile's form, as stored or as typed.
#[derive(Clone, Debug, Default)]
pub struct ProfileForm {
    /// The Seller's name.
    pub name: String,
    /// Its telephone number.
    pub phone: String,
    /// Its address for customers.
    pub email: String,
    /// Its website.
    pub website: String,
    /// What it says of itself.
    pub description: String,
}

impl ProfileForm {
    /// As stored.
    pub fn of(seller: &SellerRow) -> Self {
        let text = |field: &Option<String>| field.clone().unwrap_or_default();
        Self {
            name: seller.name.clone(),
            phone: text(&seller.phone),
            email: text(&seller.email),
            website: text(&seller.website),
            description: text(&seller.description),
        }
    }

    fn of_form(form: &Fields) -> Self {
        let text = |name| form.text(name).to_owned();
        Self {
            name: text("name"),
            phone: text("phone"),
            email: text("email"),
            website: text("website"),
            description: text("description"),
        }
    }
}

/// The fields of the form that adds a location, as typed.
#[derive(Clone, Debug, Default)]
pub struct LocationForm {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub street: String,
    /// See `street`.
    pub city: String,
    /// See `street`.
    pub state: String,
    /// See `street`.
    pub postal_code: String,
    /// How to reach it.
    pub phone: String,
}

impl LocationForm {
    fn of_form(form: &Fields) -> Self {
        let text = |name| form.text(name).to_owned();
        Self {
            name: text("name"),
            street: text("street"),
            city: text("city"),
            state: text("state"),
            postal_code: text("postal_code"),
            phone: text("phone"),
        }
    }

    fn record(&self) -> Value {
        json!({
            "name": self.name, "street": self.street, "city": self.city, "state": self.state,
            "postal_code": self.postal_code, "phone": self.phone,
        })
    }
}

/// Saves the profile.
pub async fn save(
    Shared(state): Shared<Arc<State>>,
    caller: SignedIn,
    Form(form): Form,
) -> Result<Response, Problem> {
    let member = caller.actor_of_form(&form)?;
    if member.is_of_platform() {
        return Err(only_for_dealers().for_person(&caller.session));
    }
    let typed = ProfileForm::of_form(&form);
    let mut body = Map::new();
    body.insert("slug".into(), json!(member.slug()));
    for (name, text) in [
        ("name", &typed.name),
        ("phone", &typed.phone),
        ("email", &typed.email),
        ("website", &typed.website),
        ("description", &typed.description),
    ] {
        body.insert(name.into(), json!(text));
    }
    let services = &state.services;
    let changed = match dealers::parse_patch(&body) {
        Ok(body) => dealers::change(&services.db, &services.clock, member.scope(), body)
            .await
            .map(drop),
        Err(error) => Err(error),
    };
    match told(changed).map_err(|problem| problem.about(&member))? {
        Ok(()) => Ok(settings::done(&member, "profile", "profile")),
        Err(messages) => {
            let wrong = Wrong {
                section: "profile",
                messages,
            };
            let typed = Typed::Profile(typed);
            settings::show_wrong(&state, &caller, &member, wrong, typed).await
        }
    }
}

/// Adds a location, or removes the one that the form names.
pub async fn save_locations(
    Shared(state): Shared<Arc<State>>,
    caller: SignedIn,
    Form(form): Form,
) -> Result<Response, Problem> {
    let member = caller.actor_of_form(&form)?;
    if member.is_of_platform() {
        return Err(only_for_dealers().for_person(&caller.session));
    }
    let typed = LocationForm::of_form(&form);
    let change = match form.get("remove") {
        // An id that is none names no location of anybody's.
        Some(id) => Ok(LocationChange::Remove(id.parse().unwrap_or_default())),
        None => dealers::parse_location(&typed.record()).map(LocationChange::Add),
    };
    let services = &state.services;
    let changed = match change {
        Ok(change) => {
            dealers::change_locations(&services.db, &services.clock, member.scope(), change).await
        }
        Err(error) => Err(error),
    };
    match told(changed).map_err(|problem| problem.about(&member))? {
        Ok(()) => Ok(settings::done(&member, "locations", "locations")),
        Err(messages) => {
            let wrong = Wrong {
                section: "locations",
                messages,
            };
            let typed = Typed::Location(typed);
            settings::show_wrong(&state, &caller, &member, wrong, typed).await
        }
    }
}

/// What came of a change, with what is wrong said for a person.
fn told(changed: Result<(), DealerError>) -> Result<Result<(), Vec<String>>, Problem> {
    match changed {
        Ok(()) => Ok(Ok(())),
        Err(DealerError::Db(error)) => Err(error.into()),
        Err(DealerError::Invalid(issues)) => Ok(Err(issues
            .iter()
            .map(|issue| {
                // The rules speak of JSON, which a form has not.
                let message = issue.message.replace(", or null", "");
                format!("{} {message}.", label(&issue.field))
            })
            .collect())),
        Err(other) => Ok(Err(vec![format!("{}.", capital(&other.to_string()))])),
    }
}

/// A field's name as its label has it: `locations[3].postal_code` is "Postal code".
fn label(field: &str) -> String {
    let name = field.rsplit('.').next().unwrap_or(field);
    match name {
        "email" => "E-mail".to_owned(),
        name => capital(&name.replace('_', " ")),
    }
}
