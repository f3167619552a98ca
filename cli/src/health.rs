//! `mobu health`: what a container's health check runs.

use std::time::Duration;

use clap::Args;

use crate::args::Connection;
use crate::failure::{Failure, Outcome};
use crate::output::Output;
use crate::server::Server;

/// A health check that waits longer than this is as good as failed.
const PATIENCE: Duration = Duration::from_secs(5);

const AFTER_HELP: &str = "\
Examples:
  mobu health                                  the coordinator
  mobu health -e http://127.0.0.1:8081         a worker
  HEALTHCHECK CMD [\"mobu\", \"health\"]           in a Dockerfile

Exits with 0 if the process is well and with 1 if not, whatever the reason; waits 5 s at most.";

/// Ask a coordinator or worker whether it is well
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Health {}

impl Health {
    pub(crate) async fn run(self, connection: &Connection, out: &mut Output) -> Result<Outcome, Failure> {
        let mut connection = connection.clone();
        connection.timeout = connection.timeout.min(PATIENCE);
        match Server::direct(&connection)?.get_outside("/healthz").await {
            Ok(_) => {
                out.line("ok")?;
                Ok(Outcome::Done)
            }
            // Container engines know 0 and 1 only.
            Err(failure) => {
                out.note(&failure.chain());
                Ok(Outcome::Failed)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;
    use serde_json::json;

    use crate::stand_in::{StandIn, run, run_at};

    #[tokio::test]
    async fn health_is_0_or_1_and_says_why() {
        let server = StandIn::start().await;
        server.answer("GET /healthz", StatusCode::OK, &[], &json!({"status": "ok"}));
        let end = run(&server, &["health"]).await;
        assert_eq!((end.code, end.stdout.as_str()), (0, "ok\n"));
        server.answer(
            "GET /healthz",
            StatusCode::SERVICE_UNAVAILABLE,
            &[],
            &json!({"detail": "draining"}),
        );
        let end = run(&server, &["health"]).await;
        assert_eq!(end.code, 1);
        assert_eq!(
            end.stderr,
            "mobu: the fleet answered 503 Service Unavailable\n  draining\n"
        );
        let end = run_at(&closed_port().await, &["health"]).await;
        assert_eq!(end.code, 1);
    }

    #[tokio::test]
    async fn other_commands_exit_with_3_where_nobody_answers() {
        let end = run_at(&closed_port().await, &["stop", "lambs"]).await;
        assert_eq!(end.code, 3);
        assert!(
            end.stderr
                .starts_with("mobu: could not reach the fleet at http://127.0.0.1:"),
            "{}",
            end.stderr
        );
    }

    #[tokio::test]
    async fn a_redirection_is_no_success() {
        let server = StandIn::start().await;
        let headers = [("location", "https://login.test/")];
        server.answer("DELETE /mobu/flocks/lambs", StatusCode::FOUND, &headers, &json!({}));
        let end = run(&server, &["stop", "lambs"]).await;
        assert_eq!(end.code, 1);
        assert!(
            end.stderr.contains("sending us to https://login.test/"),
            "{}",
            end.stderr
        );
    }

    #[tokio::test]
    async fn the_token_and_the_user_are_sent_and_the_path_of_the_address_is_not() {
        let server = StandIn::start().await;
        let arguments = ["stop", "lambs", "-k", "secret", "--path-prefix", "/deep/mobu/"];
        run(&server, &arguments).await;
        let call = server.calls().remove(0);
        assert_eq!(call.route, "DELETE /deep/mobu/flocks/lambs");
        assert_eq!(call.header("authorization"), Some("Bearer secret"));
        assert_eq!(call.header("x-auth-request-user"), Some("ada"));
    }

    async fn closed_port() -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    }
}
