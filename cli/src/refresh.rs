//! `mobu refresh`.

use clap::Args;
use mobu_fleet::domain::ids::FlockName;
use reqwest::Method;
use serde_json::json;

use crate::args::{Connection, parse_flock};
use crate::change::{Change, Format, print_json, texts};
use crate::failure::{Failure, Outcome};
use crate::output::Output;
use crate::progress::Progress;
use crate::report::ReportFirst;
use crate::server::Server;
use crate::table::counted;

const AFTER_HELP: &str = "\
Examples:
  mobu refresh notebooks
  mobu refresh --repo https://github.com/example/notebooks --ref main";

/// Tell a flock's monkeys to fetch their notebooks anew
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Refresh {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    report: ReportFirst,
    #[command(flatten)]
    format: Format,
}

/// One flock, or every one of a repository and branch.
#[derive(Debug, Args)]
#[group(skip)]
pub(crate) struct Target {
    /// Name of the flock
    #[arg(value_name = "NAME", value_parser = parse_flock, required_unless_present = "repo", conflicts_with = "repo")]
    pub flock: Option<FlockName>,
    /// Every flock of this repository; written as in the flocks' `repo_url`
    #[arg(long, value_name = "URL", requires = "reference")]
    pub repo: Option<String>,
    /// Branch of the repository; written as in the flocks' `repo_ref`
    #[arg(long = "ref", id = "reference", value_name = "REF", requires = "repo")]
    pub reference: Option<String>,
}

impl Refresh {
    pub(crate) async fn run(self, connection: &Connection, out: &mut Output) -> Result<Outcome, Failure> {
        let server = Server::new(connection)?;
        match &self.target {
            Target { flock: Some(flock), .. } => self.run_for_flock(&server, flock, out).await,
            Target { repo, reference, .. } => {
                self.run_for_repository(&server, repo.as_deref(), reference.as_deref(), out)
                    .await
            }
        }
    }

    async fn run_for_flock(&self, server: &Server, flock: &FlockName, out: &mut Output) -> Result<Outcome, Failure> {
        self.report.run(server, &[flock.as_str()], out).await?;
        let progress = Progress::start(out, format!("Refreshing flock {flock}: waiting for the replicas"));
        let reply = server
            .change(Method::POST, &["flocks", flock.as_str(), "refresh"], None)
            .await;
        drop(progress);
        let reply = reply?;
        let body = reply.json()?;
        // Mobu answers 202 to every refresh: only the names of those that lag tell the difference.
        let change = Change::of(&reply, &body, &[200, 202, 204]);
        if self.format.json {
            print_json(out, &reply, body)?;
            return Ok(change.explain(out));
        }
        change.print(
            out,
            &format!("Refreshed flock {flock}"),
            &format!("Refresh of flock {flock} accepted"),
        )
    }

    async fn run_for_repository(
        &self,
        server: &Server,
        repo: Option<&str>,
        reference: Option<&str>,
        out: &mut Output,
    ) -> Result<Outcome, Failure> {
        if self.report.is_wanted() {
            return Err(Failure::Usage(
                "--output needs the NAME of one flock, which is not known with --repo".to_owned(),
            ));
        }
        let body = json!({"repo_url": repo, "repo_ref": reference});
        let progress = Progress::start(out, "Refreshing: waiting for the replicas".to_owned());
        let reply = server.change(Method::POST, &["refresh"], Some(&body)).await;
        drop(progress);
        let reply = reply?;
        let body = reply.json()?;
        let change = Change::of(&reply, &body, &[200, 202, 204]);
        let refreshed = texts(body.get("refreshed"));
        if self.format.json {
            print_json(out, &reply, body)?;
            return Ok(change.explain(out));
        }
        if refreshed.is_empty() {
            return change.print(out, "No flock uses this repository and branch", "Refresh accepted");
        }
        let flocks = format!("{}: {}", counted(refreshed.len(), "flock"), refreshed.join(", "));
        change.print(
            out,
            &format!("Refreshed {flocks}"),
            &format!("Refresh accepted of {flocks}"),
        )
    }
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;
    use serde_json::{Value, json};

    use crate::stand_in::{StandIn, run};

    #[tokio::test]
    async fn the_202_of_a_refresh_is_done_unless_replicas_are_missing() {
        let server = StandIn::start().await;
        let route = "POST /mobu/flocks/notebooks/refresh";
        server.answer(route, StatusCode::ACCEPTED, &[("x-fleet-revision", "7")], &Value::Null);
        let end = run(&server, &["refresh", "notebooks"]).await;
        assert_eq!(
            (end.code, end.stdout.as_str()),
            (0, "Refreshed flock notebooks (revision 7)\n")
        );
        let headers = [("x-fleet-revision", "8"), ("x-fleet-missing", "2")];
        server.answer(route, StatusCode::ACCEPTED, &headers, &Value::Null);
        let end = run(&server, &["refresh", "notebooks"]).await;
        assert_eq!(end.code, 4);
        assert_eq!(
            end.stdout,
            "Refresh of flock notebooks accepted (revision 8), but not applied in time by replica 2\n"
        );
    }

    #[tokio::test]
    async fn a_repository_and_branch_refresh_what_uses_them() {
        let server = StandIn::start().await;
        let body = json!({"revision": 9, "refreshed": ["notebooks"]});
        server.answer(
            "POST /mobu/refresh",
            StatusCode::OK,
            &[("x-fleet-revision", "9")],
            &body,
        );
        let end = run(&server, &["refresh", "--repo", "https://example.org/n", "--ref", "a/b"]).await;
        assert_eq!(
            (end.code, end.stdout.as_str()),
            (0, "Refreshed 1 flock: notebooks (revision 9)\n")
        );
        assert_eq!(
            server.calls()[0].body,
            json!({"repo_url": "https://example.org/n", "repo_ref": "a/b"})
        );
    }

    #[tokio::test]
    async fn half_a_repository_is_a_usage_error() {
        let server = StandIn::start().await;
        for wrong in [
            &["refresh"][..],
            &["refresh", "--repo", "x"],
            &["refresh", "--ref", "x"],
            &["refresh", "n", "--repo", "x", "--ref", "y"],
            &["refresh", "--repo", "x", "--ref", "y", "-o", "reports"],
        ] {
            assert_eq!(run(&server, wrong).await.code, 2, "{wrong:?}");
        }
        assert!(server.calls().is_empty());
    }
}
