//! What the mails say that are about a person's own account: every change of what they sign in with, and the links that let
//! them in.
//!
//! Never: a password, a code or a secret; a link: that of a mail which brings one is made and added when it is sent.

use std::net::IpAddr;

use super::words::without_links;
use crate::{accounts::Role, clock::Time, db::NewMail};

/// What became of what a person signs in with.
#[derive(Clone, Copy, Debug)]
pub enum AccountNews {
    /// The password was changed by somebody who gave the old one.
    PasswordChanged,
    /// A new password was set by a link.
    PasswordReset,
    /// The marketplace made a link for a new password, and hands it over itself.
    ResetLinkMade,
    /// A second factor is in force.
    FactorOn,
    /// The second factor is gone.
    FactorOff,
    /// The marketplace took the second factor away.
    FactorTakenAway,
    /// There are new recovery codes, and the old ones work no more.
    RecoveryCodesMade,
    /// A recovery code was used; so many are left.
    RecoveryCodeUsed(i64),
    /// Somebody gave the right password and then a wrong code, not the first of late.
    CodesRefused,
    /// Somebody gave a wrong code in a session, not the first of late.
    CodesRefusedInSession {
        /// Whether that ended the session.
        has_ended: bool,
    },
}

/// The mail to a person about their own account. `from` is the address that it was done from; nobody's is the marketplace's
/// operator.
pub fn about_account(email: &str, news: AccountNews, from: Option<IpAddr>, at: Time) -> NewMail {
    let (subject, what, means) = match news {
        AccountNews::PasswordChanged => (
            "Your password was changed",
            "The password was changed".to_owned(),
            "Every other session was signed out.",
        ),
        AccountNews::PasswordReset => (
            "Your password was set anew",
            "A new password was set by a link that was mailed or handed to you".to_owned(),
            "Every session was signed out.",
        ),
        AccountNews::ResetLinkMade => (
            "A link to set a new password was made for you",
            "A link to set a new password was made".to_owned(),
            "Whoever is handed it sets your password. Every session was signed out.",
        ),
        AccountNews::FactorOn => (
            "Your second factor was turned on",
            "The second factor was turned on".to_owned(),
            "From now on a code from the authenticator app is asked for after the password. Every other session was signed out.",
        ),
        AccountNews::FactorOff => (
            "Your second factor was turned off",
            "The second factor was turned off".to_owned(),
            "From now on the password alone lets you in. The recovery codes work no more.",
        ),
        AccountNews::FactorTakenAway => (
            "Your second factor was taken away",
            "The second factor was taken away".to_owned(),
            "From now on the password alone lets you in; set a second factor up anew in Settings. Every session was signed out.",
        ),
        AccountNews::RecoveryCodesMade => (
            "Your recovery codes were made anew",
            "New recovery codes were made".to_owned(),
            "The earlier ones work no more.",
        ),
        AccountNews::RecoveryCodeUsed(left) => (
            "One of your recovery codes was used",
            format!(
                "A recovery code was used in place of a code from the authenticator app; {left} {} left",
                if left == 1 { "is" } else { "are" }
            ),
            "It works no more. If your app is lost, turn the second factor off and set it up anew.",
        ),
        AccountNews::CodesRefused => (
            "Somebody has your password",
            "Somebody gave your password and then a code that was not right, not the first of late"
                .to_owned(),
            "They did not get in. If it was not you, change your password now: that ends their tries.",
        ),
        AccountNews::CodesRefusedInSession { has_ended } => (
            "Wrong codes were given where you are signed in",
            "In a browser that is signed in as you somebody gave codes that were not right"
                .to_owned(),
            match has_ended {
                true => "That session was signed out.",
                false => {
                    "The codes opened nothing. If it was not you, sign out everywhere in Settings."
                }
            },
        ),
    };
    let by = match from {
        Some(address) => format!("from the address {address}"),
        None => "by the marketplace".to_owned(),
    };
    NewMail {
        subject: subject.to_owned(),
        body: format!(
            "{what}, for {email}, {by}, at {}.\n\n{means}\n\n{NOT_YOU}\n",
            at.utc()
        ),
        page: String::new(),
    }
}

const NOT_YOU: &str = "If this was not you, somebody else can sign in as you. Set a new password by \"Forgot your password?\" on the \
     page to sign in, look through your sessions in Settings, and write to the security contact below.";

/// The mail that brings the link for a new password. `from` is the address that it was asked for from; nobody's is the
/// marketplace's operator.
pub fn reset_link(email: &str, from: Option<IpAddr>, at: Time) -> NewMail {
    let (what, otherwise) = match from {
        Some(address) => (
            format!("Somebody at the address {address} asked"),
            "If that was not you, do nothing: without this link nothing changes, and nobody else was sent it.",
        ),
        None => (
            "The marketplace asked".to_owned(),
            "Every session was signed out. If you did not speak with the marketplace, write to the security contact below.",
        ),
    };
    NewMail {
        subject: "Set a new password".to_owned(),
        body: format!(
            "{what} for a link to set a new password for {email}, at {}.\n\n{otherwise}\n\nThe link works once, for an hour. A \
             second factor stays as it is.\n",
            at.utc()
        ),
        page: String::new(),
    }
}

/// The mail that brings an invitation. `name` is the Seller's; `platforms` are the names of those that act for it already; `by` is
/// the address of who invites; nobody is the marketplace's operator.
pub fn invitation(
    name: &str,
    role: Role,
    platforms: &[String],
    by: Option<&str>,
    at: Time,
) -> NewMail {
    let name = without_links(name);
    let platforms: Vec<String> = platforms.iter().map(|name| without_links(name)).collect();
    let acting = match platforms.is_empty() {
        true => String::new(),
        false => format!(
            "These platforms may already read and change what {name} lists and says of itself, with a key of their own: {}. \
             Once you have joined you can end that in Settings, Platform access.\n\n",
            platforms.join("; ")
        ),
    };
    NewMail {
        subject: format!("You are invited to {name}"),
        body: format!(
            "{} invites you to {name} on TruckRadar, as {}, at {}.\n\nIf you know neither, do nothing: without the link nothing \
             changes.\n\n{acting}The link works once, for 7 days. Whoever uses it first joins, so give it to nobody.\n",
            by.unwrap_or("The marketplace"),
            role.as_str(),
            at.utc()
        ),
        page: String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dealers_name_ends_no_line_and_becomes_no_link_in_an_invitation() {
        let mail = invitation(
            "Lone\r\nhttps://evil.example",
            Role::Viewer,
            &[],
            None,
            Time(0),
        );
        assert!(!mail.subject.contains(['\r', '\n']), "{}", mail.subject);
        assert!(!mail.body.contains("https://") && !mail.body.contains("evil.example"));
        assert!(mail.body.starts_with("The marketplace invites you to Lone"));
        let platforms = ["Hub\nhttps://evil.example".to_owned()];
        let mail = invitation("Lone", Role::Owner, &platforms, None, Time(0));
        assert!(!mail.body.contains("https://") && !mail.body.contains("Hub\n"));
        assert!(
            mail.body.contains("with a key of their own: Hub"),
            "{}",
            mail.body
        );
    }

    #[test]
    fn a_mail_says_from_where_or_that_it_was_the_marketplace() {
        let from = Some(IpAddr::from([192, 0, 2, 1]));
        let mail = about_account(
            "ann@lone.example",
            AccountNews::RecoveryCodeUsed(1),
            from,
            Time(0),
        );
        let told = "; 1 is left, for ann@lone.example, from the address 192.0.2.1, at 1970-01-01 00:00:00 UTC.\n";
        assert!(mail.body.contains(told), "{}", mail.body);
        let mail = about_account(
            "ann@lone.example",
            AccountNews::FactorTakenAway,
            None,
            Time(0),
        );
        assert!(
            mail.body.contains(", by the marketplace, at 1970"),
            "{}",
            mail.body
        );
    }
}
