//! `Muster` and `HTTPRunner` against a stand-in: there is no Muster outside of the platform, and any HTTP service will do for the other.

use anyhow::{Result, ensure};
use fleet_tests::platform::Platform;
use serde_json::{Value, json};

use crate::support::Ring;

async fn ring() -> Result<Ring> {
    Ring::start(Platform::start(&json!({})).await?, "").await
}

/// Looks at the platform as its own user.
fn http(ring: &Ring) -> Value {
    let base = format!("http://{}", ring.platform.address);
    json!({"authenticate": "bearer", "requests": [
        {"url": format!("{base}/repertoire/discovery"), "expect": {"status": 200}},
        {"url": format!("{base}/muster/auth/redirect"), "expect": {"status": 200}},
    ]})
}

#[tokio::test(flavor = "multi_thread")]
async fn muster_and_http_services_are_asked_as_the_user_that_gafaelfawr_named() -> Result<()> {
    let ring = ring().await?;
    ring.put("muster", 3, "Muster", &json!({})).await?;
    ring.put("http", 3, "HTTPRunner", &http(&ring)).await?;
    ring.succeed("muster", 3).await?;
    ring.succeed("http", 3).await?;
    let log = ring.log("muster", 1).await?;
    ensure!(
        log.contains("Checking token delegation") && log.contains("Muster finished after"),
        "{log}"
    );
    ring.stop("muster").await?;
    ring.stop("http").await?;
    ring.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_platform_that_goes_away_is_a_clear_failure_and_all_go_on_when_it_is_back() -> Result<()> {
    let mut ring = ring().await?;
    ring.put("muster", 2, "Muster", &json!({})).await?;
    ring.put("http", 2, "HTTPRunner", &http(&ring)).await?;
    ring.succeed("muster", 1).await?;
    ring.succeed("http", 1).await?;
    let before = [ring.counts("muster").await?, ring.counts("http").await?];
    ring.platform.kill().await?;
    for (flock, before) in ["muster", "http"].into_iter().zip(before) {
        ring.until(flock, "a failure", |counts| counts.failures > before.failures)
            .await?;
        ring.until_logged(flock, 1, "Connection refused").await?;
    }
    ring.platform.restart().await?;
    for flock in ["muster", "http"] {
        let now = ring.counts(flock).await?;
        ring.until(flock, "new successes", |counts| counts.fewest >= now.fewest + 2)
            .await?;
        ring.stop(flock).await?;
    }
    ring.finish().await
}
