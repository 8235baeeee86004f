//! The certificate by which the API's address proves who it is: two files, read and held against each other, made into what
//! a TLS server needs.
//!
//! Never: a private key in a message; a certificate that does not fit its key taken for good.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use zeroize::Zeroizing;

/// The only protocol that is served. A client that insists on another is told so in the handshake.
const ALPN: &[u8] = b"http/1.1";

/// Where the certificate and its key are.
#[derive(Clone, Debug)]
pub struct CertificateFiles {
    /// The server's own certificate and those that lead from it to a root, in PEM form.
    pub cert: PathBuf,
    /// The private key of the first of them, in PEM form.
    pub key: PathBuf,
}

/// Why two files cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum BadCertificate {
    /// The file is not there, or not for us.
    #[error("{option} {path} cannot be read: {error}")]
    Unreadable {
        option: &'static str,
        path: PathBuf,
        error: io::Error,
    },
    /// The file holds something else.
    #[error("--tls-cert {0} holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)")]
    NoCertificate(PathBuf),
    /// The file holds something else, or a key behind a password.
    #[error(
        "--tls-key {0} holds no private key in PEM form (-----BEGIN PRIVATE KEY-----); one with a password cannot be used"
    )]
    NoKey(PathBuf),
    /// A key that cannot sign here.
    #[error(
        "--tls-key {0} holds a private key of a kind that cannot be used: it must be RSA of 2048 to 4096 bits, ECDSA on \
         P-256 or P-384, or Ed25519"
    )]
    UnknownKey(PathBuf),
    /// Two files that are each well and do not belong together.
    #[error(
        "the certificate in --tls-cert {cert} does not fit the key in --tls-key {key}; the server's own certificate must \
         stand first in its file"
    )]
    Mismatch { cert: PathBuf, key: PathBuf },
    /// Anything else that the TLS library has against them.
    #[error("--tls-cert {path} cannot be used: {error}")]
    Unusable { path: PathBuf, error: rustls::Error },
}

impl CertificateFiles {
    /// Reads both files; what they make, or what is wrong with them.
    pub fn read(&self) -> Result<Arc<ServerConfig>, BadCertificate> {
        let chain = read("--tls-cert", &self.cert)?;
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&chain)
            .collect::<Result<_, _>>()
            .map_err(|_| BadCertificate::NoCertificate(self.cert.clone()))?;
        if chain.is_empty() {
            return Err(BadCertificate::NoCertificate(self.cert.clone()));
        }
        let key = Zeroizing::new(read("--tls-key", &self.key)?);
        let key = PrivateKeyDer::from_pem_slice(&key)
            .map_err(|_| BadCertificate::NoKey(self.key.clone()))?;
        // Named, not taken from the process: which library does the cryptography does not depend on who came first.
        let provider = Arc::new(ring::default_provider());
        if provider
            .key_provider
            .load_private_key(key.clone_key())
            .is_err()
        {
            return Err(BadCertificate::UnknownKey(self.key.clone()));
        }
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|config| config.with_no_client_auth().with_single_cert(chain, key))
            .map_err(|error| match error {
                rustls::Error::InconsistentKeys(_) => BadCertificate::Mismatch {
                    cert: self.cert.clone(),
                    key: self.key.clone(),
                },
                error => BadCertificate::Unusable {
                    path: self.cert.clone(),
                    error,
                },
            })?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(Arc::new(config))
    }

    /// What tells these two files from what may take their place; nothing while one of them is not there.
    pub fn stamp(&self) -> Option<Stamp> {
        Some(Stamp([file_stamp(&self.cert)?, file_stamp(&self.key)?]))
    }
}

fn read(option: &'static str, path: &Path) -> Result<Vec<u8>, BadCertificate> {
    fs::read(path).map_err(|error| BadCertificate::Unreadable {
        option,
        path: path.to_owned(),
        error,
    })
}

/// See [`CertificateFiles::stamp`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp([FileStamp; 2]);

/// The file behind a path and its last change: a new file moved into place and an old one written over both differ, even
/// if the time of the last writing was set back. Links are followed, since tools for certificates turn links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileStamp {
    device: u64,
    file: u64,
    size: u64,
    written: (i64, i64),
    changed: (i64, i64),
}

fn file_stamp(path: &Path) -> Option<FileStamp> {
    let meta = fs::metadata(path).ok()?;
    Some(FileStamp {
        device: meta.dev(),
        file: meta.ino(),
        size: meta.size(),
        written: (meta.mtime(), meta.mtime_nsec()),
        changed: (meta.ctime(), meta.ctime_nsec()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with a certificate for "localhost" and its key.
    fn pair() -> (tempfile::TempDir, CertificateFiles) {
        let folder = tempfile::tempdir().expect("a folder");
        let files = CertificateFiles {
            cert: folder.path().join("cert.pem"),
            key: folder.path().join("key.pem"),
        };
        write(&files);
        (folder, files)
    }

    fn write(files: &CertificateFiles) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("made");
        fs::write(&files.cert, made.cert.pem()).expect("writes");
        fs::write(&files.key, made.signing_key.serialize_pem()).expect("writes");
    }

    fn complaint(files: &CertificateFiles) -> String {
        files.read().expect_err("is refused").to_string()
    }

    #[test]
    fn a_pair_that_fits_is_served_with_one_protocol() {
        let (_folder, files) = pair();
        let config = files.read().expect("fits");
        assert_eq!(config.alpn_protocols, [b"http/1.1".to_vec()]);
    }

    #[test]
    fn what_cannot_be_served_is_named() {
        let (_folder, files) = pair();
        let (_other_folder, other) = pair();
        let crossed = CertificateFiles {
            cert: files.cert.clone(),
            key: other.key.clone(),
        };
        assert!(complaint(&crossed).contains("does not fit the key"));
        let turned = CertificateFiles {
            cert: files.key.clone(),
            key: files.cert.clone(),
        };
        assert!(complaint(&turned).contains("holds no certificate"));
        let no_key = CertificateFiles {
            key: files.cert.clone(),
            ..files.clone()
        };
        assert!(complaint(&no_key).contains("holds no private key"));
        let missing = CertificateFiles {
            key: files.key.with_extension("gone"),
            ..files.clone()
        };
        let said = complaint(&missing);
        assert!(
            said.contains("--tls-key") && said.contains("cannot be read"),
            "{said}"
        );
        fs::write(
            &other.key,
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        )
        .expect("writes");
        let said = complaint(&other);
        assert!(said.contains("of a kind that cannot be used"), "{said}");
        assert!(!said.contains("AAAA"), "{said}");
        fs::write(
            &other.cert,
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        )
        .expect("writes");
        fs::copy(&files.key, &other.key).expect("copies");
        let said = complaint(&other);
        assert!(said.contains("cannot be used"), "{said}");
    }

    #[test]
    fn a_changed_file_has_another_stamp() {
        let (_folder, files) = pair();
        let before = files.stamp();
        assert!(before.is_some());
        assert_eq!(files.stamp(), before);
        let new = files.key.with_extension("new");
        fs::copy(&files.key, &new).expect("copies");
        fs::rename(&new, &files.key).expect("renames");
        let after = files.stamp();
        assert_ne!(after, before);
        fs::remove_file(&files.cert).expect("removes");
        assert_eq!(files.stamp(), None);
    }
}
