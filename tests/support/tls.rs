//! The real daemon behind TLS, with certificates that are made for the test.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use brig::engine::docker::TlsFiles;
use tempfile::TempDir;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, UnixStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

/// An authority that signs what the test wants.
pub struct Authority {
    dir: TempDir,
}

impl Authority {
    pub fn new() -> Self {
        let authority = Self { dir: tempfile::tempdir().unwrap() };
        authority.openssl("req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=tests");
        authority
    }

    /// `name.pem` and `name.key`, for these names (as in `DNS:localhost,IP:127.0.0.1`).
    pub fn sign(&self, name: &str, names: &str) {
        self.sign_for(name, names, "20200101000000Z", "20490101000000Z");
    }

    pub fn sign_for(&self, name: &str, names: &str, from: &str, to: &str) {
        self.openssl(&format!("req -newkey rsa:2048 -nodes -keyout {name}.key -out {name}.csr -subj /CN={name}"));
        let extensions = format!("[x]\nsubjectAltName={names}\nbasicConstraints=CA:FALSE\n");
        std::fs::write(self.path(&format!("{name}.ext")), extensions).unwrap();
        let config = "[ca]\ndefault_ca=d\n[d]\ndatabase=index\nserial=serial\nnew_certs_dir=.\ndefault_md=sha256\n\
                      policy=p\nunique_subject=no\nrand_serial=yes\n[p]\ncommonName=supplied\n";
        std::fs::write(self.path("ca.cnf"), config).unwrap();
        std::fs::write(self.path("index"), "").unwrap();
        self.openssl(&format!(
            "ca -batch -config ca.cnf -cert ca.pem -keyfile ca.key -in {name}.csr -out {name}.pem -notext \
             -extfile {name}.ext -extensions x -startdate {from} -enddate {to}"
        ));
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// What a client needs, with the certificate of `name`.
    pub fn files(&self, name: &str) -> TlsFiles {
        TlsFiles {
            ca: Some(self.path("ca.pem")),
            cert: Some(self.path(&format!("{name}.pem"))),
            key: Some(self.path(&format!("{name}.key"))),
        }
    }

    fn openssl(&self, arguments: &str) {
        let done = Command::new("openssl").args(arguments.split_whitespace()).current_dir(&self.dir).output();
        let done = done.expect("these tests need openssl");
        assert!(done.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&done.stderr));
    }
}

/// Listens with TLS on loopback and hands everything through to the daemon's socket, as dockerd with `--tlsverify`
/// would serve it. Ends with the test.
pub struct TlsDoor {
    pub address: SocketAddr,
    task: JoinHandle<()>,
}

impl TlsDoor {
    /// With the certificate of `name`, for clients that `authority` has signed.
    pub async fn open(authority: &Authority, name: &str) -> Self {
        let acceptor = TlsAcceptor::from(Arc::new(server(authority, name)));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                connections.spawn(async move {
                    let Ok(mut client) = acceptor.accept(client).await else { return };
                    let mut daemon = UnixStream::connect(socket()).await.expect("these tests need a Docker daemon");
                    let _ = copy_bidirectional(&mut client, &mut daemon).await;
                });
                while connections.try_join_next().is_some() {}
            }
        });
        Self { address, task }
    }
}

impl Drop for TlsDoor {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn server(authority: &Authority, name: &str) -> ServerConfig {
    let certificates = |path: &Path| -> Vec<CertificateDer<'static>> {
        CertificateDer::pem_file_iter(path).unwrap().map(Result::unwrap).collect()
    };
    let provider = Arc::new(ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates(&authority.path("ca.pem")));
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build().unwrap();
    let key = PrivateKeyDer::from_pem_file(authority.path(&format!("{name}.key"))).unwrap();
    ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(certificates(&authority.path(&format!("{name}.pem"))), key)
        .unwrap()
}

/// The daemon's socket.
pub fn socket() -> PathBuf {
    let host = std::env::var("DOCKER_HOST").unwrap_or_else(|_| "unix:///var/run/docker.sock".to_owned());
    host.strip_prefix("unix://").expect("these tests need the daemon's socket").into()
}
