//! `mobu status`: the fleet, its replicas and its flocks, with the age of what is known of them.

use std::time::Duration;

use clap::Args;
use mobu_fleet::runtime::clock;
use serde_json::json;

use crate::args::{Connection, parse_timeout};
use crate::change::Format;
use crate::failure::{Failure, Outcome};
use crate::output::Output;
use crate::overview;
use crate::server::Server;

const AFTER_HELP: &str = "\
Examples:
  mobu status
  mobu status --watch --interval 1s
  mobu status --json | jq .fleet.converged

What is not known, for example of a replica that has not reported, is shown as `?`.";

/// Show replicas and flocks
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Status {
    /// Show it again and again
    #[arg(short, long)]
    watch: bool,
    /// How long to wait in between
    #[arg(long, value_name = "TIME", value_parser = parse_timeout, default_value = "2s", requires = "watch")]
    interval: Duration,
    #[command(flatten)]
    format: Format,
}

impl Status {
    pub(crate) async fn run(self, connection: &Connection, out: &mut Output) -> Result<Outcome, Failure> {
        let server = Server::new(connection)?;
        if !self.watch {
            let text = self.look(&server).await?;
            out.line(&text)?;
            return Ok(Outcome::Done);
        }
        // The first look fails like any command; later ones may, without an end to the watching.
        let mut text: Result<String, Failure> = Ok(self.look(&server).await?);
        loop {
            match text {
                Ok(text) => {
                    if !self.format.json {
                        out.clear()?;
                    }
                    out.line(&text)?;
                }
                Err(failure) => out.note(&failure.chain()),
            }
            tokio::time::sleep(self.interval).await;
            text = self.look(&server).await;
        }
    }

    async fn look(&self, server: &Server) -> Result<String, Failure> {
        let fleet = server.get(&["fleet"]).await?;
        let replicas = server.get(&["replicas"]).await?;
        let summary = server.get(&["summary"]).await?;
        if self.format.json {
            let all = json!({"fleet": fleet.json()?, "replicas": replicas.json()?, "summary": summary.json()?});
            // One line per look, so that a reader of a watch knows where one ends.
            return Ok(if self.watch {
                all.to_string()
            } else {
                format!("{all:#}")
            });
        }
        let (fleet, replicas, summary): (_, Vec<_>, _) = (fleet.read()?, replicas.read()?, summary.read()?);
        Ok(overview::write(&fleet, &replicas, &summary, clock::wall()))
    }
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;
    use serde_json::{Value, json};

    use crate::stand_in::{StandIn, run};

    #[tokio::test]
    async fn status_as_json_is_what_the_three_routes_say() {
        let server = StandIn::start().await;
        server.answer("GET /mobu/fleet", StatusCode::OK, &[], &json!({"revision": 1}));
        server.answer("GET /mobu/replicas", StatusCode::OK, &[], &json!([]));
        server.answer(
            "GET /mobu/summary",
            StatusCode::OK,
            &[],
            &json!({"ci_manager": null, "flocks": []}),
        );
        let end = run(&server, &["status", "--json"]).await;
        let expected = json!({"fleet": {"revision": 1}, "replicas": [], "summary": {"ci_manager": null, "flocks": []}});
        assert_eq!(
            (end.code, serde_json::from_str::<Value>(&end.stdout).unwrap()),
            (0, expected)
        );
        let end = run(&server, &["status"]).await;
        assert!(end.stdout.ends_with("\n\nNo flock runs.\n"), "{}", end.stdout);
    }
}
