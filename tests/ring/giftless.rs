//! `GitLFS` with real git and git-lfs against a real Git LFS server.

use std::path::Path;

use anyhow::{Result, ensure};
use fleet_tests::platform::Platform;
use fleet_tests::service::{Facts, Kind, Service, shared};
use serde_json::{Value, json};

use crate::support::Ring;

/// A fleet whose users have tokens that the server takes.
async fn ring(facts: &Facts) -> Result<Ring> {
    let tokens = facts.get("tokens").split(',').map(ToOwned::to_owned);
    let platform = Platform::start_with(&json!({}), tokens.collect()).await?;
    Ring::start(platform, "").await
}

fn options(facts: &Facts) -> Value {
    json!({"lfs_read_url": facts.get("read"), "lfs_write_url": facts.get("write")})
}

/// How many objects the server keeps.
fn objects(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.file_type() {
            Ok(kind) if kind.is_dir() => objects(&entry.path()),
            _ => 1,
        })
        .sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn files_go_to_the_server_and_come_back_and_nothing_stays_here() -> Result<()> {
    let (facts, _service) = shared(Kind::Giftless).await?;
    let ring = ring(&facts).await?;
    let storage = Path::new(facts.get("storage"));
    let before = objects(storage);
    ring.put("lfs", 2, "GitLFS", &options(&facts)).await?;
    ring.succeed("lfs", 2).await?;
    let log = ring.log("lfs", 1).await?;
    ensure!(log.contains("Git-LFS check finished after"), "{log}");
    let is_secret = |token: &str| log.contains(token);
    ensure!(!facts.get("tokens").split(',').any(is_secret), "a token was logged");
    let after = objects(storage);
    ensure!(
        after >= before + 4,
        "the server has {after} files, after {before}\n{}\n{log}",
        ring.log("lfs", 2).await?
    );
    // In the middle of an iteration, most likely: there is hardly a pause.
    ring.stop("lfs").await?;
    ring.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_a_clear_failure_without_the_password() -> Result<()> {
    let (facts, _service) = shared(Kind::Giftless).await?;
    let platform = Platform::start_with(&json!({}), vec!["gt-not-known.to-the-server".to_owned()]).await?;
    let ring = Ring::start(platform, "").await?;
    ring.put("lfs", 1, "GitLFS", &options(&facts)).await?;
    ring.until("lfs", "two failures", |counts| counts.failures >= 2).await?;
    let log = ring.until_logged("lfs", 1, "`git push origin main`").await?;
    ensure!(!log.contains("to-the-server"), "{log}");
    ring.stop("lfs").await?;
    ring.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_in_the_middle_is_a_clear_failure_and_all_go_on_when_it_is_back() -> Result<()> {
    let mut service = Service::start(Kind::Giftless).await?;
    let facts = service.facts().clone();
    let ring = ring(&facts).await?;
    ring.put("lfs", 2, "GitLFS", &options(&facts)).await?;
    ring.succeed("lfs", 1).await?;
    let before = ring.counts("lfs").await?;
    service.kill().await?;
    ring.until("lfs", "a failure", |counts| counts.failures > before.failures)
        .await?;
    ring.until_logged("lfs", 1, "connection refused").await?;
    service.restart().await?;
    let now = ring.counts("lfs").await?;
    ring.until("lfs", "new successes", |counts| counts.fewest > now.fewest)
        .await?;
    ring.stop("lfs").await?;
    ring.finish().await?;
    service.finish().await
}
