//! The audit log as a file: CSV for a spreadsheet, JSON Lines for a program. All that is kept, the oldest entry first.
//!
//! A file is written page by page as the browser takes it, so its length costs no memory. If the database fails in the
//! middle, or whoever downloads may no longer see the log, the connection is broken off: a file that ends too early must not
//! look complete.
//!
//! Never: a cell that a spreadsheet would take for a formula; the log given to somebody who may not act.

use std::{borrow::Cow, sync::Arc};

use axum::{
    body::{Body, Bytes},
    extract::State as Shared,
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use csv::{Terminator, WriterBuilder};
use futures_util::stream;
use serde::Serialize;
use serde_json::Value;

use super::{
    super::{State, caller::SignedIn, form::Fields, form::Query, problem::Problem},
    audit,
};
use crate::{
    accounts::sessions::Session,
    clock::Time,
    db::{AuditRow, DbError},
    ids::{AuditId, KeyId, SellerId},
    keys::scope::SellerScope,
};

/// Entries read at once.
const ROWS_AT_ONCE: usize = 500;

/// The columns of the CSV file, which are the fields of the other, too.
const COLUMNS: [&str; 17] = [
    "id",
    "at",
    "act",
    "what",
    "actor",
    "actor_email",
    "actor_key_hint",
    "actor_platform",
    "address",
    "key_id",
    "key_hint",
    "user_id",
    "user_email",
    "seller_id",
    "seller_slug",
    "detail",
    "receipt",
];

/// One entry of the JSON Lines file.
#[derive(Serialize)]
struct Line<'a> {
    id: AuditId,
    at: Time,
    act: &'a str,
    what: &'a str,
    actor: &'a str,
    actor_email: Option<&'a str>,
    actor_key_hint: Option<&'a str>,
    actor_platform: Option<&'a str>,
    address: Option<&'a str>,
    key_id: Option<KeyId>,
    key_hint: Option<&'a str>,
    user_id: Option<&'a str>,
    user_email: Option<&'a str>,
    seller_id: Option<SellerId>,
    seller_slug: Option<&'a str>,
    detail: Value,
    receipt: Option<Value>,
}

/// Why a file could not be written to its end.
#[derive(Debug, thiserror::Error)]
enum ExportError {
    #[error(transparent)]
    Db(#[from] DbError),
    #[error(transparent)]
    Csv(#[from] csv::Error),
    #[error("whoever downloads it may no longer see the log")]
    NoLonger,
    #[error("a buffer in memory failed")]
    Buffer,
    #[error("a stored entry is no JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// Writes some entries; the first ones of a file come with what stands at its head.
type Write = fn(&[AuditRow], bool) -> Result<Vec<u8>, ExportError>;

/// The CSV file (RFC 4180).
pub async fn csv(
    Shared(state): Shared<Arc<State>>,
    caller: SignedIn,
    Query(query): Query,
) -> Result<Response, Problem> {
    export(
        state,
        &caller,
        &query,
        "csv",
        "text/csv; charset=utf-8",
        as_csv,
    )
    .await
}

/// The JSON Lines file.
pub async fn json_lines(
    Shared(state): Shared<Arc<State>>,
    caller: SignedIn,
    Query(query): Query,
) -> Result<Response, Problem> {
    export(
        state,
        &caller,
        &query,
        "jsonl",
        "application/jsonl",
        as_lines,
    )
    .await
}

async fn export(
    state: Arc<State>,
    caller: &SignedIn,
    query: &Fields,
    ending: &str,
    media_type: &'static str,
    write: Write,
) -> Result<Response, Problem> {
    let member = caller.actor_of_page(query)?;
    let scope = member.scope();
    // Before the response begins: a database that does not answer at all is a page.
    let first = read(&state, scope, None).await?;
    let export = Arc::new(Export {
        state,
        session: caller.session.clone(),
        scope,
        write,
    });
    let entries = stream::try_unfold(Some(Part::First(first)), move |part| {
        let export = Arc::clone(&export);
        async move {
            let Some(part) = part else {
                return Ok(None);
            };
            let written = export.part(part).await;
            written.map(Some).inspect_err(|error| {
                tracing::error!(%error, "a file of the audit log breaks off");
            })
        }
    });
    let name = format!(
        "attachment; filename=\"truckradar-audit-{}.{ending}\"",
        member.slug()
    );
    let mut response = Body::from_stream(entries).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    // A slug is of letters, digits and hyphens.
    if let Ok(name) = HeaderValue::try_from(name) {
        headers.insert(header::CONTENT_DISPOSITION, name);
    }
    Ok(response)
}

async fn read(
    state: &State,
    scope: SellerScope,
    after: Option<AuditId>,
) -> Result<Vec<AuditRow>, DbError> {
    let limit = ROWS_AT_ONCE as i64;
    state.services.db.oldest_audit(scope, after, limit).await
}

/// A file on its way.
struct Export {
    state: Arc<State>,
    session: Session,
    scope: SellerScope,
    write: Write,
}

/// What of a file is written next.
enum Part {
    /// Its first entries.
    First(Vec<AuditRow>),
    /// Those behind this one.
    After(AuditId),
}

impl Export {
    /// A part written, and the one that follows; `None` behind the last.
    async fn part(&self, part: Part) -> Result<(Bytes, Option<Part>), ExportError> {
        let (rows, is_first) = match part {
            Part::First(rows) => (rows, true),
            Part::After(last) => (self.rows_after(last).await?, false),
        };
        let last = rows.last().filter(|_| rows.len() == ROWS_AT_ONCE);
        let next = last.map(|last| Part::After(last.id));
        Ok(((self.write)(&rows, is_first)?.into(), next))
    }

    /// The next entries, if whoever downloads may still see them: who reads slowly may have been removed meanwhile.
    async fn rows_after(&self, last: AuditId) -> Result<Vec<AuditRow>, ExportError> {
        let people = &self.state.services.people;
        let session = people.still_there(&self.session).await?;
        let member = session.and_then(|session| session.member_by_id(self.scope.seller()));
        if !member.is_some_and(|member| member.role().may_act()) {
            return Err(ExportError::NoLonger);
        }
        Ok(read(&self.state, self.scope, Some(last)).await?)
    }
}

fn as_csv(rows: &[AuditRow], is_first: bool) -> Result<Vec<u8>, ExportError> {
    let mut file = WriterBuilder::new()
        .terminator(Terminator::CRLF)
        .from_writer(Vec::new());
    if is_first {
        file.write_record(COLUMNS)?;
    }
    for row in rows {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let cells = [
            row.id.to_text(),
            row.at_us.iso(),
            row.act.as_str().to_owned(),
            audit::what(row).to_owned(),
            row.actor.clone(),
            text(&row.actor_email),
            text(&row.actor_hint),
            text(&row.actor_platform),
            text(&row.address),
            row.key_id.map(KeyId::to_text).unwrap_or_default(),
            text(&row.key_hint),
            text(&row.user_id),
            text(&row.user_email),
            row.seller_id.map(SellerId::to_text).unwrap_or_default(),
            text(&row.seller_slug),
            row.detail.clone(),
            text(&row.receipt),
        ];
        file.write_record(cells.iter().map(|cell| harmless(cell).into_owned()))?;
    }
    file.into_inner().map_err(|_| ExportError::Buffer)
}

fn as_lines(rows: &[AuditRow], _: bool) -> Result<Vec<u8>, ExportError> {
    let mut file = Vec::new();
    for row in rows {
        let receipt = row.receipt.as_deref().map(serde_json::from_str);
        let line = Line {
            id: row.id,
            at: row.at_us,
            act: row.act.as_str(),
            what: audit::what(row),
            actor: &row.actor,
            actor_email: row.actor_email.as_deref(),
            actor_key_hint: row.actor_hint.as_deref(),
            actor_platform: row.actor_platform.as_deref(),
            address: row.address.as_deref(),
            key_id: row.key_id,
            key_hint: row.key_hint.as_deref(),
            user_id: row.user_id.as_deref(),
            user_email: row.user_email.as_deref(),
            seller_id: row.seller_id,
            seller_slug: row.seller_slug.as_deref(),
            detail: serde_json::from_str(&row.detail)?,
            receipt: receipt.transpose()?,
        };
        serde_json::to_writer(&mut file, &line)?;
        file.push(b'\n');
    }
    Ok(file)
}

/// A cell that no spreadsheet takes for a formula: what could begin one gets an apostrophe in front, as OWASP advises, also
/// behind blanks and quotes, which some programs take away.
fn harmless(cell: &str) -> Cow<'_, str> {
    const BEGINS_FORMULA: [char; 8] = ['=', '+', '-', '@', '＝', '＋', '－', '＠'];
    const BEGINS_CELL: [char; 3] = ['\t', '\r', '\n'];
    const INVISIBLE: [char; 2] = ['\u{feff}', '\u{200b}'];
    let bare = cell.trim_start_matches(|c: char| {
        c.is_whitespace() || c.is_control() || INVISIBLE.contains(&c) || ['"', '\''].contains(&c)
    });
    if bare.starts_with(BEGINS_FORMULA) || cell.starts_with(BEGINS_CELL) {
        format!("'{cell}").into()
    } else {
        cell.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_spreadsheet_would_compute_is_text() {
        for formula in [
            "=HYPERLINK(\"https://elsewhere.example\")",
            "+1",
            "-1",
            "@SUM(A1)",
            "\t=1",
            "\r=1",
            "\tx",
            "\rx",
            " =1",
            "\u{a0}\"=1",
            "\"\"=1",
            "'=1",
            "\u{feff}=1",
            "＝1",
        ] {
            assert_eq!(harmless(formula), format!("'{formula}"));
        }
        for text in [
            "",
            "a=b",
            "1-2",
            "ann@lone.example",
            "{\"reason\":\"=1\"}",
            "::1",
            " x",
        ] {
            assert_eq!(harmless(text), text);
        }
    }
}
