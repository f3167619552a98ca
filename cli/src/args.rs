//! What can be typed: the commands, and the options that all of them have.

use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use mobu_fleet::domain::ids::FlockName;
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use crate::completions::Completions;
use crate::health::Health;
use crate::local::Local;
use crate::logs::Logs;
use crate::publish::Publish;
use crate::refresh::Refresh;
use crate::report::Report;
use crate::revisions::Revisions;
use crate::start::Start;
use crate::status::Status;
use crate::stop::Stop;

const AFTER_HELP: &str = "\
Examples:
  mobu local                            run a whole fleet in this process
  mobu start -f lambs.yaml              start a flock, or restart it with another configuration
  mobu status --watch                   follow replicas and flocks
  mobu logs lambs --follow              follow what every monkey of a flock does
  mobu stop lambs -o reports/lambs      keep logs and figures, then stop

Exit codes:
  0  done
  1  the fleet refused, or failed on a replica
  2  wrong usage, or a spec file that cannot be used
  3  the fleet cannot be reached, or did not answer in time
  4  accepted, but some replicas have not applied it in time (they will)";

/// Runs and watches flocks of monkeys on a mobu fleet.
#[derive(Debug, Parser)]
#[command(name = "mobu", version, after_help = AFTER_HELP, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub connection: Connection,
    #[command(subcommand)]
    pub command: Command,
}

/// One command; each has a file of its own.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Local(Local),
    Start(Start),
    Stop(Stop),
    Refresh(Refresh),
    Report(Report),
    Status(Status),
    Logs(Logs),
    Revisions(Revisions),
    Publish(Publish),
    Health(Health),
    Completions(Completions),
}

/// How to reach the fleet, and as whom.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Connection")]
pub(crate) struct Connection {
    /// Where the coordinator is; only scheme, host and port are used; `MOBU_BASE_URL` sets it, too
    #[arg(short = 'e', long, global = true, env = "MONKEYFLOCKER_BASE_URL", value_name = "URL",
          value_parser = parse_base_url, default_value = "http://127.0.0.1:8080")]
    pub base_url: Url,

    /// Token to send as `Authorization: Bearer`
    #[arg(
        short = 'k',
        long,
        global = true,
        env = "MONKEYFLOCKER_TOKEN",
        hide_env_values = true,
        value_name = "TOKEN"
    )]
    token: Option<SecretString>,

    /// Who to say that you are, in `X-Auth-Request-User`; an ingress may put somebody else there
    #[arg(long, global = true, env = "MOBU_USER", value_name = "NAME", default_value = "mobu")]
    pub user: String,

    /// Path that the API lies under
    #[arg(long, global = true, value_name = "PATH", default_value = "/mobu")]
    pub path_prefix: String,

    /// How long to wait for an answer, in seconds or as in `1m 30s`; the fleet itself waits 30s for its replicas
    #[arg(long, global = true, value_name = "TIME", value_parser = parse_timeout, default_value = "60s")]
    pub timeout: Duration,
}

impl Connection {
    /// Returns the token, unless it is absent or empty (an empty variable means none).
    pub(crate) fn token(&self) -> Option<&str> {
        self.token
            .as_ref()
            .map(ExposeSecret::expose_secret)
            .filter(|token| !token.is_empty())
    }
}

/// Reads a flock's name; a wrong one is refused before anything is sent.
pub(crate) fn parse_flock(text: &str) -> Result<FlockName, String> {
    text.parse()
        .map_err(|_| format!("a flock's name matches {}", FlockName::PATTERN))
}

fn parse_base_url(text: &str) -> Result<Url, String> {
    const RIGHT: &str = "write for example http://127.0.0.1:8080";
    let url = Url::parse(text).map_err(|error| format!("{error}; {RIGHT}"))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(format!("not an http or https address; {RIGHT}"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("credentials do not belong in the address; give a token with --token".to_owned());
    }
    Ok(url)
}

/// Reads a time above zero: seconds as a number, or units as in `1m 30s`.
pub(crate) fn parse_timeout(text: &str) -> Result<Duration, String> {
    let time = match text.trim().parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).ok(),
        Err(_) => text
            .parse::<jiff::SignedDuration>()
            .ok()
            .and_then(|time| Duration::try_from(time).ok()),
    };
    time.filter(|time| !time.is_zero())
        .ok_or_else(|| "not a time above zero; write for example 45s, 2m or 1.5".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_commands_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn times_are_numbers_of_seconds_or_have_units() {
        assert_eq!(parse_timeout("45"), Ok(Duration::from_secs(45)));
        assert_eq!(parse_timeout("0.5"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_timeout("1m 30s"), Ok(Duration::from_secs(90)));
        for wrong in ["", "0", "-3", "inf", "nan", "soon", "0s"] {
            assert!(parse_timeout(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_address_with_credentials_is_refused_without_repeating_them() {
        let error = parse_base_url("https://joe:hunter2@example.org").unwrap_err();
        assert!(!error.contains("hunter2"), "{error}");
        for wrong in ["", "localhost:8080", "ftp://example.org", "http://"] {
            assert!(parse_base_url(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn every_command_shows_an_example() {
        fn check(command: &clap::Command) {
            for sub in command.get_subcommands() {
                let after = sub.get_after_help().map(ToString::to_string).unwrap_or_default();
                assert!(after.starts_with("Example"), "`{}` has no example", sub.get_name());
                check(sub);
            }
        }
        check(&Cli::command());
    }
}
