//! Measures takeovers on a real broker: `cargo run -p fleet-tests --bin takeover -- --times 20`.
//!
//! Needs the programs: `cargo build --workspace`.

use anyhow::Result;
use clap::Parser;
use fleet_tests::chaos::takeover::{Loss, Theatre};

/// Takes the leading coordinator away, time and again, and says how long the other one took.
#[derive(Debug, Parser)]
struct Args {
    /// How often, for each way to go.
    #[arg(long, default_value_t = 10)]
    times: usize,
    /// Heartbeat of the connections, in seconds: after up to three of them the broker takes a frozen process for dead.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=15))]
    heartbeat: u16,
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    let mut theatre = Theatre::open(args.heartbeat).await?;
    for loss in [Loss::Kill, Loss::Terminate, Loss::Reset, Loss::Freeze] {
        let mut times = Vec::new();
        for _ in 0..args.times {
            times.push(theatre.replace(loss).await?.as_secs_f64());
        }
        times.sort_by(f64::total_cmp);
        if let (Some(median), Some(worst)) = (times.get(times.len() / 2), times.last()) {
            say(&format!(
                "{loss:?}: {} times, p50 {median:.2} s, max {worst:.2} s",
                times.len()
            ));
        }
    }
    for _ in 0..args.times {
        theatre.wake().await?;
    }
    say(&format!(
        "a thawed leader, asked {} times: nothing accepted",
        args.times
    ));
    theatre.close().await
}

#[expect(clippy::print_stdout, reason = "this is a program for people")]
fn say(text: &str) {
    println!("{text}");
}
