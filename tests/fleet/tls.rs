//! TLS to a real broker: what is encrypted, whom it trusts, and what a mistake looks like.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use fleet_tests::broker::{Broker, Settings, config, unique_fleet};
use fleet_tests::fleet::ProcessFleet;
use mobu_fleet::link::amqp::{AmqpLink, IdentityFiles, TlsFiles};
use mobu_fleet::link::{Link, LogStart};
use mobu_fleet::runtime::process::chain;

use crate::support::{next, within};

/// Makes an authority, and certificates of it for a broker called `localhost` and for a client.
fn make_certificates(folder: &Path) -> Result<()> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/rabbitmq/make-certs");
    let made = Command::new(script).arg(folder).arg("localhost").output()?;
    ensure!(made.status.success(), "{made:?}");
    Ok(())
}

/// What a client has that trusts the authority in one folder and shows the certificate in another.
fn files(authority: &Path, client: &Path) -> TlsFiles {
    TlsFiles {
        ca: Some(authority.join("ca.crt")),
        identity: Some(IdentityFiles {
            cert: client.join("client.crt"),
            key: client.join("client.key"),
        }),
    }
}

/// Opens a session, uses it and closes it; otherwise returns the whole chain of what went wrong.
async fn connect(url: &str, tls: TlsFiles) -> Result<(), String> {
    let mut config = config(url, &unique_fleet());
    config.tls = tls;
    let link = AmqpLink::new(config).unwrap();
    let session = within("a session", link.open("tls"))
        .await
        .map_err(|error| chain(&error))?;
    session
        .append("encrypted".into())
        .await
        .map_err(|error| chain(&error))?;
    let mut log = session.read_log(LogStart::First).await.map_err(|error| chain(&error))?;
    assert_eq!(next(&mut log).await.payload, "encrypted");
    session.close().await;
    Ok(())
}

/// Says whether a broker refused what a client showed it: by one of these alerts, or without a word if the end of the connection
/// overtook the alert.
fn is_refused(error: &str, alerts: &[&str]) -> bool {
    let ended = "ended the connection at the TLS handshake; it may not accept the certificate";
    alerts.iter().any(|alert| error.contains(alert)) || error.contains(ended)
}

/// One test, because each would need a broker of its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_is_reached_through_tls_by_whom_it_knows_and_each_mistake_is_named() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (own, others) = (folder.path().join("own"), folder.path().join("others"));
    make_certificates(&own)?;
    make_certificates(&others)?;
    let settings = Settings {
        certificates: Some(own.clone()),
        ..Settings::default()
    };
    let broker = Broker::start_all(settings)
        .await?
        .pop()
        .context("one node was asked for")?;
    let right = broker.tls_url("localhost");

    connect(&right, files(&own, &own)).await.unwrap();

    let wrong_authority = connect(&right, files(&others, &own)).await.unwrap_err();
    assert!(wrong_authority.contains("UnknownIssuer"), "{wrong_authority}");
    let only_the_systems = TlsFiles {
        ca: None,
        ..files(&own, &own)
    };
    let unknown = connect(&right, only_the_systems).await.unwrap_err();
    assert!(unknown.contains("UnknownIssuer"), "{unknown}");
    let wrong_name = connect(&broker.tls_url("127.0.0.1"), files(&own, &own))
        .await
        .unwrap_err();
    assert!(wrong_name.contains("not valid for name \"127.0.0.1\""), "{wrong_name}");
    let nameless = TlsFiles {
        identity: None,
        ..files(&own, &own)
    };
    let nameless = connect(&right, nameless).await.unwrap_err();
    assert!(is_refused(&nameless, &["CertificateRequired"]), "{nameless}");
    let stranger = connect(&right, files(&own, &others)).await.unwrap_err();
    assert!(is_refused(&stranger, &["UnknownCA", "DecryptError"]), "{stranger}");
    let plain = connect(&right.replace("amqps:", "amqp:"), TlsFiles::default())
        .await
        .unwrap_err();
    assert!(
        plain.contains("could not connect to the broker at localhost:"),
        "{plain}"
    );
    let gone = connect(&right, files(&own, &folder.path().join("nobody")))
        .await
        .unwrap_err();
    assert!(gone.contains("cannot read") && gone.contains("client.crt"), "{gone}");

    a_fleet_works(&broker, &own).await
}

/// Real processes, with the same files in their configuration.
async fn a_fleet_works(broker: &Broker, certificates: &Path) -> Result<()> {
    let mut fleet = ProcessFleet::prepare(&broker.tls_url("localhost"), unique_fleet(), 1, "tokens: local\n")?;
    for (variable, file) in [
        ("MOBU_AMQP_CA_FILE", "ca.crt"),
        ("MOBU_AMQP_CERT_FILE", "client.crt"),
        ("MOBU_AMQP_KEY_FILE", "client.key"),
    ] {
        let path = certificates.join(file).display().to_string();
        fleet.variables.push((variable, path));
    }
    fleet.start_coordinator(0).await?;
    fleet.start_worker(0)?;
    fleet.wait_converged().await?;
    fleet.finish().await
}
