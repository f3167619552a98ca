//! Certificates that do not fit, before what should be a hub. Whom a worker trusts is a matter of its process, so it takes a real one;
//! behind the certificate is openssl, which is no hub.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Result, ensure};
use fleet_tests::platform::Platform;
use serde_json::json;
use tokio::process::{Child, Command};

use crate::support::Ring;

/// Makes an authority and a certificate of it for this host; returns where they are.
async fn make(folder: &Path, host: &str) -> Result<PathBuf> {
    let made = folder.join(host);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/rabbitmq/make-certs");
    let status = Command::new(script)
        .arg(&made)
        .arg(host)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .await?;
    ensure!(status.success(), "certificates for {host}: {status}");
    Ok(made)
}

/// Serves a page to whoever asks for anything, with the certificate in this folder.
async fn serve(port: u16, certificates: &Path) -> Result<Child> {
    let mut server = Command::new("openssl")
        .args(["s_server", "-quiet", "-www", "-accept", &format!("127.0.0.1:{port}")])
        .arg("-key")
        .arg(certificates.join("server.key"))
        .arg("-cert")
        .arg(certificates.join("server.crt"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
        ensure!(server.try_wait()?.is_none(), "openssl does not serve");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    Ok(server)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_of_another_authority_or_name_is_a_clear_failure_and_the_monkey_goes_on() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (strange, trusted) = (folder.path().join("strange"), folder.path().join("trusted"));
    let (strange, other, right) = (
        make(&strange, "localhost").await?,
        make(&trusted, "elsewhere.test").await?,
        make(&trusted, "localhost").await?,
    );
    let authorities = folder.path().join("authorities.pem");
    let both = [&other, &right].map(|made| std::fs::read_to_string(made.join("ca.crt")));
    let [one, two] = both;
    std::fs::write(&authorities, one? + &two?)?;
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let url = format!("https://localhost:{port}/nb");
    let platform = Platform::start(&json!({"services": {"ui": {"nublado": {"url": url}}}})).await?;
    let trust = [("SSL_CERT_FILE", authorities.display().to_string())];
    let ring = Ring::start_with(platform, "", &trust).await?;
    ring.put(
        "certificate",
        1,
        "NubladoPythonLoop",
        &json!({"spawn_settle_time": 0.1}),
    )
    .await?;
    for (certificates, said) in [
        (strange, "UnknownIssuer"),
        (other, "certificate not valid for name"),
        // It fits, and what is behind it is no hub.
        (right, "was answered with something else"),
    ] {
        let mut server = serve(port, &certificates).await?;
        let log = ring.until_logged("certificate", 1, said).await?;
        ensure!(log.contains("\"phase\": "), "{log}");
        server.kill().await?;
    }
    ring.stop("certificate").await?;
    ring.finish().await
}
