//! Runs the real services of the ring for as long as its standard input is open: those that a test run shares.
//!
//! Prints what became of each as one line of JSON once all of them run or cannot be had.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::process::ExitCode;

use anyhow::Result;
use fleet_tests::service::{Kind, Service, Started, Unavailable};

#[tokio::main]
async fn main() -> ExitCode {
    match serve().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            writeln!(io::stderr(), "no services: {error:#}").ok();
            ExitCode::FAILURE
        }
    }
}

async fn serve() -> Result<()> {
    let [dachs, giftless, jupyterhub] = Kind::ALL.map(Service::start);
    let (dachs, giftless, jupyterhub) = tokio::join!(dachs, giftless, jupyterhub);
    let mut started = BTreeMap::new();
    let mut running = Vec::new();
    for (kind, service) in Kind::ALL.into_iter().zip([dachs, giftless, jupyterhub]) {
        let outcome = match service {
            Ok(service) => {
                let facts = service.facts().clone();
                running.push(service);
                Started::Ready(facts)
            }
            Err(error) => Started::Unavailable(error.downcast::<Unavailable>()?.reason),
        };
        started.insert(kind.name(), outcome);
    }
    let mut stdout = io::stdout();
    writeln!(stdout, "{}", serde_json::to_string(&started)?)?;
    stdout.flush()?;
    // Its end is what is waited for; what comes in is nobody's business.
    tokio::task::spawn_blocking(|| io::stdin().read_to_end(&mut Vec::new())).await??;
    for service in running {
        service.finish().await?;
    }
    Ok(())
}
