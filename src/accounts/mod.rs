//! Who there is: Sellers, what they say of themselves, and the people who act for them.
//!
//! Never: an account reached through a name from a request without a scope that proves the right to it.

pub mod dealers;
pub mod names;
pub mod passwords;
pub mod sellers;

pub use self::names::{Email, NameError, Plan, Role, Slug};
