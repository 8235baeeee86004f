//! Mails to people: what they say, where they go, and how one that waits in the outbox gets there.
//!
//! An act writes its mails into the outbox inside its own transaction, in the words of [`words`], [`account_words`],
//! [`people_words`] and [`found`]. The server's [`sender`]
//! takes out what is due and hands it to the [`transport`]: an SMTP server or a folder, as the [`route`]
//! says.
//!
//! Never: a mail sent from inside an act or a request; a key or a password in a mail; a link's token in one that waits.

pub mod account_words;
pub mod found;
pub mod people_words;
pub mod route;
pub mod sender;
pub mod transport;
pub mod words;
