//! TLS to a daemon: who it is, who this side is, and what it means when either is not believed.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use brig_core::problem::{Code, Problem};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{self, AlertDescription, CertificateError, ClientConfig, RootCertStore};

use super::address::TlsFiles;

/// Where systems keep those whom they trust: Debian, Fedora, Alpine and SUSE.
const SYSTEM: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
    "/etc/ssl/ca-bundle.pem",
];

/// Encrypts a connection, and believes the daemon only what its certificate proves.
pub async fn handshake(authority: &str, files: &TlsFiles, stream: TcpStream) -> Result<TlsStream<TcpStream>, Problem> {
    let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let name = ServerName::try_from(host.clone())
        .map_err(|_| config(format!("`{host}` is no name that a certificate could be for")))?;
    // Read for each connection: certificates are renewed while a supervisor runs.
    let files = files.clone();
    let read = tokio::task::spawn_blocking(move || (client_config(&files), files)).await;
    let (config, files) = read.map_err(|_| Problem::new(Code::Internal, "the certificates were not read"))?;
    let connecting = TlsConnector::from(Arc::new(config?)).connect(name, stream);
    connecting.await.map_err(|error| refused(&error, &files))
}

fn config(message: String) -> Problem {
    Problem::new(Code::Config, message)
        .help("see `[engine.tls]` in brig.toml, DOCKER_CERT_PATH, or the docker context's certificates")
}

fn client_config(files: &TlsFiles) -> Result<ClientConfig, Problem> {
    let roots = roots(files)?;
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| Problem::new(Code::Internal, format!("TLS is not to be had: {error}")))?
        .with_root_certificates(roots);
    let (cert, key) = match (&files.cert, &files.key) {
        (Some(cert), Some(key)) => (cert, key),
        (None, None) => return Ok(builder.with_no_client_auth()),
        (Some(cert), None) => return Err(config(format!("there is no key for the certificate {}", cert.display()))),
        (None, Some(key)) => return Err(config(format!("there is no certificate for the key {}", key.display()))),
    };
    let chain = certificates(cert)?;
    let secret = PrivateKeyDer::from_pem_file(key)
        .map_err(|error| config(format!("{} holds no key that can be read: {error}", key.display())))?;
    builder
        .with_client_auth_cert(chain, secret)
        .map_err(|error| config(format!("{} and {} do not belong together: {error}", cert.display(), key.display())))
}

fn roots(files: &TlsFiles) -> Result<RootCertStore, Problem> {
    let mut roots = RootCertStore::empty();
    match &files.ca {
        Some(path) => {
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|error| {
                    config(format!("{} holds a certificate that cannot be used: {error}", path.display()))
                })?;
            }
        }
        None => {
            let named = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
            let path = named.or_else(|| SYSTEM.iter().map(PathBuf::from).find(|path| path.exists()));
            let path =
                path.ok_or_else(|| config("no CA is named, and this system has no list of its own".to_owned()))?;
            // Systems carry certificates that are too odd for some libraries: the others count.
            roots.add_parsable_certificates(certificates(&path)?);
        }
    }
    Ok(roots)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Problem> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read {
        Ok(all) if all.is_empty() => Err(config(format!("{} holds no certificate", path.display()))),
        Ok(all) => Ok(all),
        Err(error) => Err(config(format!("cannot read the certificates in {}: {error}", path.display()))),
    }
}

/// Why there is no connection that both sides believe in. Completes "the daemon is not reached: …".
pub fn refused(error: &io::Error, files: &TlsFiles) -> Problem {
    let problem = |message: String, help: &str| Problem::new(Code::EngineUnreachable, message).help(help);
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let ca = files.ca.as_ref().map_or_else(|| "this system's list".to_owned(), |ca| ca.display().to_string());
    match tls {
        Some(rustls::Error::InvalidCertificate(why)) => certificate(why, &ca),
        Some(rustls::Error::AlertReceived(
            AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::UnknownCA
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateUnknown
            | AlertDescription::AccessDenied
            | AlertDescription::DecryptError
            | AlertDescription::HandshakeFailure,
        )) => match &files.cert {
            None => problem(
                "it wants a certificate from this side, and none is set".to_owned(),
                "set `cert` and `key` in `[engine.tls]`, or DOCKER_CERT_PATH to a directory with cert.pem and key.pem",
            ),
            Some(cert) => problem(
                format!("it does not take this side's certificate {}", cert.display()),
                "use one that the daemon's `--tlscacert` has signed and that has not expired",
            ),
        },
        Some(rustls::Error::InvalidMessage(_)) => {
            problem("what listens there does not speak TLS".to_owned(), "dockerd has to run with `--tlsverify`")
        }
        Some(other) => problem(format!("TLS failed: {other}"), "see the daemon's log"),
        None => match error.get_ref().and_then(|inner| inner.downcast_ref::<Problem>()) {
            Some(known) => known.clone(),
            None => problem(format!("it hung up: {error}"), "see the daemon's log"),
        },
    }
}

fn certificate(why: &CertificateError, ca: &str) -> Problem {
    let (message, help) = match why {
        // Another CA of the same name gives a signature that does not fit.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => (
            format!("its certificate is not signed by anybody in {ca}"),
            "set `ca` in `[engine.tls]` (or ca.pem in DOCKER_CERT_PATH) to the CA that signed it",
        ),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            ("its certificate has expired".to_owned(), "renew the daemon's certificate; or set this machine's clock")
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            ("its certificate is not valid yet".to_owned(), "set this machine's clock, or the daemon's")
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => (
            format!("its certificate is for another host: {why}"),
            "use a name that it is for, or give the daemon one with this name (subjectAltName)",
        ),
        other => (format!("its certificate is not believed: {other}"), "give the daemon another one"),
    };
    Problem::new(Code::EngineUnreachable, message).help(help)
}
