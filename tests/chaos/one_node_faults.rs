//! A fleet on one node.

use anyhow::Result;
use fleet_tests::chaos::{self, Options};

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_by_45_faults() -> Result<()> {
    let options = Options {
        faults: 45,
        seed: 1,
        ..Options::default()
    };
    let report = chaos::run(&options).await?;
    println!("{report}");
    assert_eq!(report.faults(), 45);
    Ok(())
}
