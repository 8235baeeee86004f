//! Who there is: Sellers, what they say of themselves, and the people who act for them.
//!
//! Never: an account reached through a name from a request without a scope that proves the right to it.

pub mod codes;
pub mod dealers;
pub mod erased;
pub mod erasing;
pub mod guesses;
pub mod links;
pub mod members;
pub mod names;
pub mod passwords;
pub mod people;
pub mod recovery;
pub mod second_factor;
pub mod sellers;
pub mod sessions;
pub mod sign_in;
pub mod tokens;

pub use self::names::{AccountKind, AccountStatus, Email, NameError, Plan, Role, Slug};
