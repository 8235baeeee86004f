//! How our own types travel to and from columns, on both engines: ids and names as text, times as integers.
//!
//! Never: a column read as text in one place and parsed in another.

use std::{borrow::Cow, error::Error, str::FromStr};

use sqlx::{Database, Decode, Encode, Type, encode::IsNull, error::BoxDynError};

use crate::{
    accounts::{AccountKind, AccountStatus, Plan, Role},
    audit::{Act, RecordedAct},
    clock::Time,
    ids::{
        AuditId, GrantId, IncidentId, KeyId, LeakId, ListingId, LocationId, MailId, NodeId,
        SellerId, SessionId, UserId,
    },
    inventory::{listing::ListingStatus, vin::Vin},
    keys::found::{Finder, Outcome},
};

/// For a type with a text form that `FromStr` reads back.
macro_rules! as_text {
    ($($type:ty => |$value:ident| $text:expr),+ $(,)?) => {$(
        impl<DB: Database> Type<DB> for $type where str: Type<DB> {
            fn type_info() -> DB::TypeInfo {
                <str as Type<DB>>::type_info()
            }
            fn compatible(ty: &DB::TypeInfo) -> bool {
                <str as Type<DB>>::compatible(ty)
            }
        }

        impl<'r, DB: Database> Decode<'r, DB> for $type where &'r str: Decode<'r, DB> {
            fn decode(value: DB::ValueRef<'r>) -> Result<Self, BoxDynError> {
                let text = <&str as Decode<DB>>::decode(value)?;
                Self::from_str(text).map_err(|error| -> Box<dyn Error + Send + Sync> {
                    format!("a column of {}: {error}", stringify!($type)).into()
                })
            }
        }

        impl<'q, DB: Database> Encode<'q, DB> for $type where String: Encode<'q, DB> {
            fn encode_by_ref(&self, buffer: &mut DB::ArgumentBuffer) -> Result<IsNull, BoxDynError> {
                let $value = self;
                let text: Cow<'_, str> = $text;
                <String as Encode<DB>>::encode(text.into_owned(), buffer)
            }
        }
    )+};
}

as_text! {
    SellerId => |id| id.to_text().into(),
    UserId => |id| id.to_text().into(),
    KeyId => |id| id.to_text().into(),
    ListingId => |id| id.to_text().into(),
    LocationId => |id| id.to_text().into(),
    AuditId => |id| id.to_text().into(),
    MailId => |id| id.to_text().into(),
    IncidentId => |id| id.to_text().into(),
    LeakId => |id| id.to_text().into(),
    SessionId => |id| id.to_text().into(),
    NodeId => |id| id.to_text().into(),
    GrantId => |id| id.to_text().into(),
    Vin => |vin| vin.as_str().into(),
    ListingStatus => |status| status.as_str().into(),
    Plan => |plan| plan.as_str().into(),
    AccountKind => |kind| kind.as_str().into(),
    AccountStatus => |status| status.as_str().into(),
    Role => |role| role.as_str().into(),
    Act => |act| act.as_str().into(),
    RecordedAct => |act| act.as_str().into(),
    Finder => |finder| finder.as_str().into(),
    Outcome => |outcome| outcome.as_str().into(),
}

impl<DB: Database> Type<DB> for Time
where
    i64: Type<DB>,
{
    fn type_info() -> DB::TypeInfo {
        <i64 as Type<DB>>::type_info()
    }
    fn compatible(ty: &DB::TypeInfo) -> bool {
        <i64 as Type<DB>>::compatible(ty)
    }
}

impl<'r, DB: Database> Decode<'r, DB> for Time
where
    i64: Decode<'r, DB>,
{
    fn decode(value: DB::ValueRef<'r>) -> Result<Self, BoxDynError> {
        <i64 as Decode<DB>>::decode(value).map(Time)
    }
}

impl<'q, DB: Database> Encode<'q, DB> for Time
where
    i64: Encode<'q, DB>,
{
    fn encode_by_ref(&self, buffer: &mut DB::ArgumentBuffer) -> Result<IsNull, BoxDynError> {
        <i64 as Encode<DB>>::encode(self.0, buffer)
    }
}
