//! Certificates that do not fit: each is one clear error.

use brig::engine::Engine as _;
use brig::engine::docker::{DockerEngine, DockerSettings, TlsFiles};
use brig_core::problem::{Code, Problem};

use crate::support::docker::settings;
use crate::support::tls::{Authority, TlsDoor, socket};

async fn problem(host: &str, files: TlsFiles) -> Problem {
    let settings = DockerSettings { tls: Some(files), ..settings("tls", Some(&format!("tcp://{host}"))) };
    DockerEngine::connect(settings).unwrap().info().await.unwrap_err()
}

#[tokio::test]
async fn certificates_that_are_not_believed_say_which_and_why() {
    let authority = Authority::new();
    authority.sign("daemon", "DNS:localhost");
    authority.sign("operator", "DNS:operator");
    authority.sign_for("expired", "DNS:localhost", "20200101000000Z", "20210101000000Z");
    let door = TlsDoor::open(&authority, "daemon").await;
    let host = format!("localhost:{}", door.address.port());
    let good = authority.files("operator");

    let other = Authority::new();
    let wrong_ca = problem(&host, TlsFiles { ca: Some(other.path("ca.pem")), ..good.clone() }).await;
    assert!(wrong_ca.message.contains("not signed by anybody in"), "{wrong_ca}");
    assert!(wrong_ca.help.contains("ca.pem"), "{wrong_ca}");

    let nobody = problem(&host, TlsFiles { cert: None, key: None, ..good.clone() }).await;
    assert!(nobody.message.contains("wants a certificate from this side"), "{nobody}");
    assert!(nobody.help.contains("cert.pem"), "{nobody}");

    other.sign("operator", "DNS:operator");
    let stranger = TlsFiles { ca: good.ca.clone(), ..other.files("operator") };
    let stranger = problem(&host, stranger).await;
    assert!(stranger.message.contains("does not take this side's certificate"), "{stranger}");

    let by_number = problem(&door.address.to_string(), good.clone()).await;
    assert!(by_number.message.contains("for another host"), "{by_number}");
    assert!(by_number.help.contains("subjectAltName"), "{by_number}");

    let expired = TlsDoor::open(&authority, "expired").await;
    let expired = problem(&format!("localhost:{}", expired.address.port()), good.clone()).await;
    assert!(expired.message.contains("has expired"), "{expired}");
    for problem in [wrong_ca, nobody, stranger, by_number, expired] {
        assert_eq!(problem.code, Code::EngineUnreachable, "{problem}");
        assert!(problem.message.contains("tcp://"), "{problem}");
    }

    let missing = problem(&host, TlsFiles { ca: Some(authority.path("none.pem")), ..good.clone() }).await;
    assert_eq!(missing.code, Code::Config);
    assert!(missing.message.contains("none.pem"), "{missing}");
    let mixed = TlsFiles { key: Some(other.path("operator.key")), ..good };
    let mixed = problem(&host, mixed).await;
    assert_eq!(mixed.code, Code::Config);
    assert!(mixed.message.contains("do not belong together"), "{mixed}");
}

#[tokio::test]
async fn a_daemon_without_tls_is_said_to_be_that() {
    let authority = Authority::new();
    authority.sign("operator", "DNS:operator");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let plain = tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut daemon = tokio::net::UnixStream::connect(socket()).await.unwrap();
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut client, &mut daemon).await });
        }
    });
    let problem = problem(&format!("localhost:{}", address.port()), authority.files("operator")).await;
    assert!(problem.message.contains("does not speak TLS"), "{problem}");

    let engine = DockerEngine::connect(settings("plain", Some(&format!("tcp://{address}")))).unwrap();
    assert!(engine.info().await.unwrap().address.starts_with("tcp://127"), "plain TCP works as before");
    plain.abort();
}
