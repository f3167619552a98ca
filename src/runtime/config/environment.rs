//! What the environment says: known variables as texts, and warnings about the others that bear our prefix.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::LazyLock;

use regex::Regex;

use super::keys::{self, Key};
use super::mistakes::Mistake;

/// What our variables begin with.
const PREFIX: &str = "MOBU_";
/// The variable that names the file.
const FILE: &str = "MOBU_CONFIG_PATH";
/// Variables of the command line, which may be set for every process of a user.
const COMMAND_LINE: [&str; 3] = ["MOBU_BASE_URL", "MOBU_TOKEN", "MOBU_USER"];

/// What Kubernetes sets for a Service called `mobu` or `mobu-something`.
static SERVICE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new("^MOBU_(?:[A-Z0-9_]+_)?(?:SERVICE_HOST|SERVICE_PORT(?:_[A-Z0-9_]+)?|PORT(?:_[0-9]+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)?)$")
        .expect("the tests compile this constant")
});

#[derive(Debug, Default)]
pub(super) struct Environment {
    /// The file that is named.
    pub(super) file: Option<PathBuf>,
    /// What is set, in the order of the list of keys.
    pub(super) values: Vec<(&'static Key, String)>,
    pub(super) mistakes: Vec<Mistake>,
    pub(super) warnings: Vec<String>,
}

impl Environment {
    /// Reads variables. Empty ones do not count: Kubernetes renders what is not set as an empty text.
    pub(super) fn read(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let mut environment = Self::default();
        let mut known = Vec::new();
        for (name, value) in variables {
            let Some(name) = name.to_str().filter(|_| !value.is_empty()) else {
                continue;
            };
            if name == FILE {
                environment.file = Some(PathBuf::from(value));
            } else if keys::of_variable(name).is_some() {
                match value.into_string() {
                    Ok(value) => known.push((name.to_owned(), value)),
                    Err(_) => environment.mistakes.push(Mistake::new(name, "the value is not UTF-8")),
                }
            } else if name.starts_with(PREFIX) && !SERVICE.is_match(name) && !COMMAND_LINE.contains(&name) {
                let instead = keys::instead_of("", name)
                    .map(|text| format!(" ({text})"))
                    .unwrap_or_default();
                environment
                    .warnings
                    .push(format!("{name} is set, but there is no such variable{instead}"));
            }
        }
        environment.warnings.sort();
        environment.values = values(known);
        environment
    }
}

/// Sorts known variables by the list of keys.
///
/// Texts alone pass through envy: it fails at an empty number, names variables without their prefix and knows no
/// durations, so reading them is left to the rules that read the file.
fn values(known: Vec<(String, String)>) -> Vec<(&'static Key, String)> {
    let (ours, others): (Vec<_>, Vec<_>) = known.into_iter().partition(|(name, _)| name.starts_with(PREFIX));
    let texts = "a map of texts takes every text";
    let mut ours: BTreeMap<String, String> = envy::prefixed(PREFIX).from_iter(ours).expect(texts);
    let mut others: BTreeMap<String, String> = envy::from_iter(others).expect(texts);
    let mut take = |variable: &str| match variable.strip_prefix(PREFIX) {
        // envy turns names into lower case.
        Some(rest) => ours.remove(&rest.to_ascii_lowercase()),
        None => others.remove(&variable.to_ascii_lowercase()),
    };
    let value_of = |key: &'static Key| Some((key, take(key.variable?)?));
    keys::KEYS.iter().filter_map(value_of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Environment {
        Environment::read(variables.iter().map(|(name, value)| (name.into(), value.into())))
    }

    #[test]
    fn variables_of_kubernetes_services_are_passed_over() {
        let environment = read(&[
            ("MOBU_PORT", "tcp://10.0.0.1:8080"),
            ("MOBU_PORT_8080_TCP", "tcp://10.0.0.1:8080"),
            ("MOBU_PORT_8080_TCP_ADDR", "10.0.0.1"),
            ("MOBU_SERVICE_HOST", "10.0.0.1"),
            ("MOBU_SERVICE_PORT", "8080"),
            ("MOBU_SERVICE_PORT_HTTP", "8080"),
            ("MOBU_COORDINATOR_SERVICE_HOST", "10.0.0.2"),
            ("MOBU_USER", "ada"),
            ("PATH", "/bin"),
            ("mobu_fleet", "lower"),
        ]);
        assert_eq!(environment.warnings, [""; 0]);
        assert!(environment.values.is_empty());
    }

    #[test]
    fn other_variables_with_our_prefix_are_warned_of() {
        let environment = read(&[("MOBU_REPLICACOUNT", "hunter2"), ("MOBU_ENVIRONMENT_URL", "https://x")]);
        assert_eq!(environment.warnings.len(), 2);
        assert!(
            environment.warnings[0].contains("REPERTOIRE_BASE_URL"),
            "{:?}",
            environment.warnings
        );
        assert_eq!(
            environment.warnings[1],
            "MOBU_REPLICACOUNT is set, but there is no such variable"
        );
    }

    #[test]
    fn empty_variables_are_not_set() {
        assert!(
            read(&[("MOBU_REPLICA_COUNT", ""), ("MOBU_CONFIG_PATH", "")])
                .values
                .is_empty()
        );
    }

    #[cfg(unix)]
    #[test]
    fn what_is_not_utf8_harms_nobody_who_does_not_need_it() {
        use std::os::unix::ffi::OsStringExt as _;

        let bytes = || OsString::from_vec(vec![b'a', 0xff]);
        let environment = Environment::read([
            (bytes(), "x".into()),
            ("LS_COLORS".into(), bytes()),
            ("MOBU_FLEET".into(), bytes()),
        ]);
        let mistakes: Vec<String> = environment.mistakes.iter().map(Mistake::to_string).collect();
        assert_eq!(mistakes, ["MOBU_FLEET: the value is not UTF-8"]);
    }
}
