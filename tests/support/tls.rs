//! A certificate authority of a test's own, and a client that trusts it and nobody else.
//!
//! Never: a certificate that is taken unseen, by a client that would call any server good.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    sync::Arc,
    time::Duration,
};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, StreamOwned,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use truckradar::tls::CertificateFiles;

/// A name that every certificate made here is for, besides 127.0.0.1.
pub const NAME: &str = "truckradar.example";

/// Signs certificates for a test's servers.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, in PEM form, and the certificate as a client sees it.
pub struct Issued {
    pub cert: String,
    pub key: String,
    pub der: CertificateDer<'static>,
}

impl Issued {
    /// What a server of a test's own shows it by.
    pub fn server_config(&self) -> Arc<ServerConfig> {
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).expect("a key");
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![self.der.clone()], key);
        Arc::new(config.expect("they fit"))
    }

    /// Writes both files, each in one step.
    pub fn write(&self, files: &CertificateFiles) {
        for (path, text) in [(&files.cert, &self.cert), (&files.key, &self.key)] {
            let new = path.with_extension("new");
            fs::write(&new, text).expect("writes");
            fs::rename(&new, path).expect("moves");
        }
    }
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new([]).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params
            .distinguished_name
            .push(DnType::CommonName, "an authority for tests");
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("signs itself"))
    }

    /// A new certificate for [`NAME`] and 127.0.0.1.
    pub fn issue(&self) -> Issued {
        let names = [NAME.to_owned(), "127.0.0.1".to_owned()];
        let params = CertificateParams::new(names).expect("names");
        let key = KeyPair::generate().expect("a key");
        let cert = params.signed_by(&key, &self.0).expect("signs");
        Issued {
            cert: cert.pem(),
            key: key.serialize_pem(),
            der: cert.der().clone(),
        }
    }

    /// The authority's own certificate, for clients.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A connection whose handshake is done, or why there is none. It offers these protocols.
    pub fn connect(&self, api: SocketAddr, protocols: &[&str]) -> std::io::Result<Connection> {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).expect("is a root");
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols
            .iter()
            .map(|name| name.as_bytes().into())
            .collect();
        let name = ServerName::try_from(NAME).expect("a name");
        let mut session = ClientConnection::new(Arc::new(config), name).expect("a session");
        let mut stream = TcpStream::connect(api)?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        while session.is_handshaking() {
            session.complete_io(&mut stream)?;
        }
        Ok(Connection(StreamOwned::new(session, stream)))
    }
}

/// See [`Authority::connect`].
pub struct Connection(StreamOwned<ClientConnection, TcpStream>);

impl Connection {
    /// The certificate that the server showed.
    pub fn shown(&self) -> CertificateDer<'static> {
        let chain = self.0.conn.peer_certificates().expect("was shown");
        chain[0].clone().into_owned()
    }

    pub fn send(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).expect("is sent");
        self.0.flush().expect("is sent");
    }

    /// Reads until what came has this in it, or ends.
    pub fn read_until(&mut self, part: &str) -> String {
        let mut said = Vec::new();
        let mut chunk = [0; 4096];
        while !String::from_utf8_lossy(&said).contains(part) {
            match self.0.read(&mut chunk) {
                Ok(0) | Err(_) => break,
                Ok(n) => said.extend_from_slice(&chunk[..n]),
            }
        }
        String::from_utf8_lossy(&said).into_owned()
    }

    /// A GET whose connection stays; the whole answer.
    pub fn get(&mut self, path: &str, header_lines: &str) -> String {
        self.send(&format!(
            "GET {path} HTTP/1.1\r\nHost: {NAME}\r\n{header_lines}\r\n"
        ));
        let mut said = self.read_until("\r\n\r\n");
        let length = said
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.map_or(0, |length| length.parse().expect("a number"));
        let head = said.find("\r\n\r\n").map_or(said.len(), |end| end + 4);
        let mut rest = vec![0; (head + length).saturating_sub(said.len())];
        self.0.read_exact(&mut rest).expect("the whole body");
        said.push_str(&String::from_utf8_lossy(&rest));
        said
    }
}

/// Where a test keeps a certificate and its key.
pub fn files_in(folder: &Path) -> CertificateFiles {
    CertificateFiles {
        cert: folder.join("cert.pem"),
        key: folder.join("key.pem"),
    }
}
