//! A fleet on a cluster of three nodes.

use anyhow::Result;
use fleet_tests::chaos::{self, Options};

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_by_15_faults() -> Result<()> {
    let options = Options {
        faults: 15,
        seed: 2,
        nodes: 3,
        ..Options::default()
    };
    let report = chaos::run(&options).await?;
    println!("{report}");
    assert_eq!(report.faults(), 15);
    Ok(())
}
