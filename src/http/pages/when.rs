//! Times on pages: "4 minutes ago", with the whole time in UTC on hover. Where a script runs, it adds the viewer's zone.
//!
//! Never: a time of day without its zone.

use std::fmt;

use askama::filters::HtmlSafe;
use jiff::{Timestamp, tz::Offset};

use crate::clock::Time;

/// A time and the moment from which it is looked at.
#[derive(Clone, Copy, Debug)]
pub struct When {
    at: Time,
    now: Time,
    form: Form,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Ago,
    Date,
    Clock,
}

impl When {
    /// As "4 minutes ago".
    pub fn ago(at: Time, now: Time) -> Self {
        Self {
            at,
            now,
            form: Form::Ago,
        }
    }

    /// As "3 May 2026".
    pub fn date(at: Time, now: Time) -> Self {
        Self {
            at,
            now,
            form: Form::Date,
        }
    }

    /// As "13:40:02 UTC".
    pub fn clock(at: Time) -> Self {
        Self {
            at,
            now: at,
            form: Form::Clock,
        }
    }

    fn text(&self) -> String {
        match self.form {
            Form::Ago => ago((self.now.0 - self.at.0) / 1_000_000),
            Form::Date => self.written("%-d %B %Y"),
            Form::Clock => self.written("%H:%M:%S UTC"),
        }
    }

    fn written(&self, format: &str) -> String {
        match Timestamp::from_microsecond(self.at.0) {
            Ok(at) => Offset::UTC.to_datetime(at).strftime(format).to_string(),
            Err(_) => String::new(),
        }
    }
}

/// Writes the element; nothing in it comes from anybody but the clock.
impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let form = match self.form {
            Form::Ago => "ago",
            Form::Date => "date",
            Form::Clock => "clock",
        };
        write!(
            f,
            r#"<time datetime="{}" data-form="{form}" title="{}">{}</time>"#,
            self.at.iso(),
            self.written("%-d %B %Y, %H:%M:%S UTC"),
            self.text()
        )
    }
}

impl HtmlSafe for When {}

fn ago(seconds: i64) -> String {
    let (count, unit) = match seconds {
        // A clock that was set back in between.
        ..=4 => return "just now".to_owned(),
        5..=59 => (seconds, "second"),
        60..=3_599 => (seconds / 60, "minute"),
        3_600..=86_399 => (seconds / 3_600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {unit}{plural} ago")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_as_people_do() {
        for (seconds, text) in [
            (-9, "just now"),
            (0, "just now"),
            (12, "12 seconds ago"),
            (60, "1 minute ago"),
            (3_599, "59 minutes ago"),
            (7_200, "2 hours ago"),
            (86_400, "1 day ago"),
            (41 * 86_400, "41 days ago"),
        ] {
            assert_eq!(ago(seconds), text);
        }
    }

    #[test]
    fn the_whole_time_is_on_hover() {
        let at = Time(1_764_000_000_123_456);
        let shown = When::date(at, at).to_string();
        assert!(
            shown.contains(r#"datetime="2025-11-24T16:00:00.123Z""#),
            "{shown}"
        );
        assert!(
            shown.contains(r#"title="24 November 2025, 16:00:00 UTC""#),
            "{shown}"
        );
        assert!(shown.ends_with(">24 November 2025</time>"), "{shown}");
    }
}
