//! Reads the process's arguments and those variables that clap cannot: defaults that depend on the environment.

use clap::{Command, CommandFactory, FromArgMatches};

use crate::args::Cli;

/// Reads arguments and environment. Prints help and usage errors itself, and ends the process then, as clap does.
pub(crate) fn parse_process() -> Cli {
    let matches = command(variable).get_matches();
    Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
}

/// Returns whether the user wants colours where they can be seen (<https://no-color.org>).
pub(crate) fn wants_colours() -> bool {
    variable("NO_COLOR").is_none()
}

/// Returns the command line with its defaults filled in from `variable`.
pub(crate) fn command(variable: impl Fn(&str) -> Option<String>) -> Command {
    let mut command = Cli::command();
    if let Some(base_url) = variable("MOBU_BASE_URL") {
        command = command.mut_arg("base_url", |argument| argument.default_value(base_url));
    }
    if let Some(user) = ["USER", "LOGNAME", "USERNAME"].into_iter().find_map(variable) {
        command = command.mut_arg("user", |argument| argument.default_value(user));
    }
    command
}

#[expect(clippy::disallowed_methods, reason = "this is the command line's config.rs")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(variables: &[(&str, &str)], arguments: &[&str]) -> Cli {
        let lookup = |name: &str| {
            variables
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| (*value).to_owned())
        };
        let matches = command(lookup).try_get_matches_from(arguments).unwrap();
        Cli::from_arg_matches(&matches).unwrap()
    }

    #[test]
    fn defaults_come_from_the_environment_and_yield_to_options() {
        let variables = [("MOBU_BASE_URL", "http://fleet.test:1234"), ("LOGNAME", "ada")];
        let cli = parse(&variables, &["mobu", "status"]);
        assert_eq!(cli.connection.base_url.as_str(), "http://fleet.test:1234/");
        assert_eq!(cli.connection.user, "ada");
        let cli = parse(
            &variables,
            &["mobu", "status", "-e", "http://other.test", "--user", "bob"],
        );
        assert_eq!(cli.connection.base_url.as_str(), "http://other.test/");
        assert_eq!(cli.connection.user, "bob");
    }

    #[test]
    fn without_an_environment_the_fleet_of_mobu_local_is_meant() {
        let cli = parse(&[], &["mobu", "-k", "", "status"]);
        assert_eq!(cli.connection.base_url.as_str(), "http://127.0.0.1:8080/");
        assert_eq!(cli.connection.user, "mobu");
        assert_eq!(cli.connection.token(), None);
    }
}
