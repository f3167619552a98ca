//! Runs a private RabbitMQ node for as long as its standard input is open: the one that a test run shares.
//!
//! Prints the node's URL on a line of its own once it can be used.

use std::io::{self, Read, Write};
use std::process::ExitCode;

use fleet_tests::broker::Broker;

fn main() -> ExitCode {
    let broker = match Broker::start_blocking() {
        Ok(broker) => broker,
        Err(error) => {
            let mut stderr = io::stderr();
            writeln!(stderr, "no broker: {error:#}").ok();
            return ExitCode::FAILURE;
        }
    };
    let mut stdout = io::stdout();
    if writeln!(stdout, "{}", broker.url())
        .and_then(|()| stdout.flush())
        .is_err()
    {
        return ExitCode::FAILURE;
    }
    // Its end is what is waited for; what comes in is nobody's business.
    io::stdin().read_to_end(&mut Vec::new()).ok();
    ExitCode::SUCCESS
}
