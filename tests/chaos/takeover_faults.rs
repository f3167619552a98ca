//! The standby takes over, and who was replaced accepts nothing.

use anyhow::Result;
use fleet_tests::chaos::takeover::{Loss, Theatre};
use serde_json::json;

/// In seconds; a frozen leader is noticed after up to three.
const HEARTBEAT: u16 = 2;

#[tokio::test(flavor = "multi_thread")]
async fn the_standby_accepts_changes_whatever_takes_the_leader_away() -> Result<()> {
    let mut theatre = Theatre::open(HEARTBEAT).await?;
    for loss in [Loss::Kill, Loss::Terminate, Loss::Reset, Loss::Freeze] {
        let took = theatre.replace(loss).await?;
        println!("{loss:?}: {took:?}");
    }
    theatre.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thawed_leader_accepts_nothing_and_a_standby_says_why() -> Result<()> {
    let mut theatre = Theatre::open(HEARTBEAT).await?;
    theatre.wake().await?;
    let (status, has_retry_after, refused, read) = theatre.ask_standby().await?;
    assert_eq!(status, 503);
    assert!(has_retry_after);
    assert_eq!(refused["detail"][0]["type"], "coordinator_not_active", "{refused}");
    let why = refused["detail"][0]["msg"].as_str().unwrap_or_default();
    assert!(why.contains("standby"), "{refused}");
    let flocks = read.as_array().map_or(&[][..], Vec::as_slice);
    assert!(flocks.contains(&json!("meanwhile-1")), "{read}");
    theatre.close().await
}
