//! The certificate in use, exchanged while the server runs when its files change.
//!
//! The files are looked at every few seconds, so that nobody has to remember to tell the server: a certificate lasts a few
//! months, and a step that is due so rarely is forgotten. A signal would also end a server that does not expect it.
//!
//! Never: a certificate in use given up for files that cannot be served.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum_server::tls_rustls::RustlsConfig;

use crate::tls::{BadCertificate, CertificateFiles, Stamp};

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How long files that could not be served are left alone, unless they change.
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(60);

/// See the module.
pub struct Certificate {
    files: CertificateFiles,
    config: RustlsConfig,
    looks: Looks,
}

impl Certificate {
    /// Reads the files for the first time, when they must be right.
    pub fn read(files: CertificateFiles) -> Result<Self, BadCertificate> {
        // Before the reading: a change in between is then seen as one.
        let stamp = files.stamp();
        let config = RustlsConfig::from_config(files.read()?);
        let looks = Looks::new(stamp);
        Ok(Self {
            files,
            config,
            looks,
        })
    }

    /// What the handshakes use, whatever it is at the time.
    pub(super) fn config(&self) -> RustlsConfig {
        self.config.clone()
    }

    /// Looks at the files for ever, and puts new ones in use. Connections that stand keep the certificate they began with.
    pub async fn keep_fresh(mut self) {
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.look().await;
        }
    }

    async fn look(&mut self) {
        let files = self.files.clone();
        let Ok(stamp) = tokio::task::spawn_blocking(move || files.stamp()).await else {
            return;
        };
        if !self.looks.must_read(stamp, Instant::now()) {
            return;
        }
        let files = self.files.clone();
        match tokio::task::spawn_blocking(move || files.read()).await {
            Ok(Ok(config)) => {
                self.config.reload_from_config(Arc::clone(&config));
                self.looks.served(stamp);
                tracing::info!("the certificate was replaced: new connections get the new one");
            }
            Ok(Err(error)) => {
                self.looks.failed(stamp, Instant::now());
                tracing::error!(%error, "the new certificate cannot be used; the old one stays in use");
            }
            // Its panic is in the log.
            Err(_) => self.looks.failed(stamp, Instant::now()),
        }
    }
}

/// Tells when the files are worth reading, by their stamps alone.
struct Looks {
    in_use: Option<Stamp>,
    last: Option<Stamp>,
    failed: Option<(Option<Stamp>, Instant)>,
}

impl Looks {
    fn new(in_use: Option<Stamp>) -> Self {
        Self {
            in_use,
            last: in_use,
            failed: None,
        }
    }

    /// Files are read when they have changed and then stood still from one look to the next: certificate and key come one
    /// after the other, and between the two they do not fit.
    fn must_read(&mut self, stamp: Option<Stamp>, now: Instant) -> bool {
        let stands_still = self.last == stamp;
        self.last = stamp;
        if stamp == self.in_use {
            self.failed = None;
            return false;
        }
        stands_still
            && self.failed.is_none_or(|(failed, at)| {
                failed != stamp || now.duration_since(at) >= TRY_AGAIN_AFTER
            })
    }

    fn served(&mut self, stamp: Option<Stamp>) {
        self.in_use = stamp;
        self.failed = None;
    }

    fn failed(&mut self, stamp: Option<Stamp>, now: Instant) {
        self.failed = Some((stamp, now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Different stamps, as files that are written one after the other have them.
    fn stamps() -> [Option<Stamp>; 3] {
        let folder = tempfile::tempdir().expect("a folder");
        let files = CertificateFiles {
            cert: folder.path().join("cert.pem"),
            key: folder.path().join("key.pem"),
        };
        std::fs::write(&files.cert, "").expect("writes");
        let sizes = ["1", "22", "333"];
        sizes.map(|text| {
            std::fs::write(&files.key, text).expect("writes");
            files.stamp()
        })
    }

    #[test]
    fn files_are_read_once_they_changed_and_stand_still() {
        let [old, half, new] = stamps();
        let now = Instant::now();
        let mut looks = Looks::new(old);
        assert!(!looks.must_read(old, now));
        assert!(!looks.must_read(half, now), "they may be on the move");
        assert!(!looks.must_read(new, now), "they are");
        assert!(looks.must_read(new, now));
        looks.served(new);
        assert!(!looks.must_read(new, now));
        assert!(!looks.must_read(new, now));
    }

    #[test]
    fn files_that_failed_are_tried_again_when_they_change_and_after_a_while() {
        let [old, broken, mended] = stamps();
        let now = Instant::now();
        let mut looks = Looks::new(old);
        looks.must_read(broken, now);
        assert!(looks.must_read(broken, now));
        looks.failed(broken, now);
        assert!(!looks.must_read(broken, now));
        assert!(looks.must_read(broken, now + TRY_AGAIN_AFTER));
        looks.failed(broken, now + TRY_AGAIN_AFTER);
        let later = now + TRY_AGAIN_AFTER;
        looks.must_read(mended, later);
        assert!(looks.must_read(mended, later));
        looks.served(mended);
        // A file that is gone is told of like one that is broken.
        looks.must_read(None, later);
        assert!(looks.must_read(None, later));
    }
}
