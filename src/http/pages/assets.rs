//! The stylesheet, the script and the icon, compiled in.
//!
//! Their names carry a hash of their content, so that a browser may keep them for ever and still never uses an old one.
//!
//! Never: anything that is fetched from another host.

use std::sync::LazyLock;

use axum::{
    body::Body,
    extract::{Path, rejection::PathRejection},
    http::{HeaderValue, StatusCode, header},
    response::Response,
};
use sha2::{Digest, Sha256};

use super::super::problem::Problem;

/// The one stylesheet.
pub static STYLE: LazyLock<Asset> = LazyLock::new(|| {
    Asset::new(
        "style",
        "css",
        "text/css; charset=utf-8",
        include_str!("../../../static/style.css"),
    )
});
/// The one script.
pub static SCRIPT: LazyLock<Asset> = LazyLock::new(|| {
    Asset::new(
        "app",
        "js",
        "text/javascript; charset=utf-8",
        include_str!("../../../static/app.js"),
    )
});
/// The icon.
pub static ICON: LazyLock<Asset> = LazyLock::new(|| {
    Asset::new(
        "icon",
        "svg",
        "image/svg+xml",
        include_str!("../../../static/icon.svg"),
    )
});

/// One file.
pub struct Asset {
    path: String,
    media_type: &'static str,
    text: &'static str,
}

impl Asset {
    fn new(name: &str, ending: &str, media_type: &'static str, text: &'static str) -> Self {
        let digest = Sha256::digest(text.as_bytes());
        let hash: String = digest[..6].iter().map(|b| format!("{b:02x}")).collect();
        Self {
            path: format!("/static/{name}-{hash}.{ending}"),
            media_type,
            text,
        }
    }

    /// Its address.
    pub fn path(&self) -> &str {
        &self.path
    }
}

/// Sends one of the files.
pub async fn get(file: Result<Path<String>, PathRejection>) -> Result<Response, Problem> {
    // A path that is not UTF-8 is no file's.
    let file = file.map(|Path(file)| file).unwrap_or_default();
    let path = format!("/static/{file}");
    let all = [&*STYLE, &*SCRIPT, &*ICON];
    let Some(asset) = all.into_iter().find(|asset| asset.path == path) else {
        return Err(Problem::new(
            StatusCode::NOT_FOUND,
            "There is nothing here",
            "This file is not, or no longer, part of the site.",
        ));
    };
    let mut response = Response::new(Body::from(asset.text));
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static(asset.media_type),
    );
    headers.insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static("public, max-age=31536000, immutable"),
    );
    Ok(response)
}
