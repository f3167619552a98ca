//! What a worker must be told. [`crate::Worker::build`] takes it; where it comes from is the caller's business.

use std::ffi::{OsStr, OsString};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use mobu_fleet::domain::ids::InstanceId;
use mobu_fleet::domain::users::ReplicaIdentity;
use mobu_fleet::runtime::config::{Config, ServiceDiscovery, Tokens};
use mobu_fleet::runtime::telemetry::LogProfile;
use secrecy::SecretString;

/// Everything that a worker must be told.
#[derive(Debug, Clone)]
pub struct WorkerConfig {
    /// The replica's name for life. A fleet of one may use any.
    pub instance_id: InstanceId,
    /// How many replicas the fleet is meant to have; 0 counts as 1.
    pub replica_count: u32,
    /// Where health and metrics are served; `None` serves them nowhere. Port 0 takes any.
    pub http_bind: Option<SocketAddr>,
    /// How long to wait at the start while the instance ID is in use by another process.
    pub name_wait: Duration,
    /// How often to report.
    pub report_interval: Duration,
    /// How long monkeys may take to stop before they are abandoned.
    pub stop_timeout: Duration,
    /// The same when the whole process ends.
    pub drain_timeout: Duration,
    /// Where users get their tokens from.
    pub tokens: TokenSource,
    /// Where services are; `None` if nothing asks.
    pub discovery: Option<ServiceDiscovery>,
    /// Where query sets of one's own are, besides those of this release.
    pub query_set_dir: Option<PathBuf>,
    /// What becomes of what monkeys log.
    pub monkey_logs: MonkeyLogs,
    /// Environment variables that git gets, besides those that keep it from asking questions.
    pub git_environment: Vec<(OsString, OsString)>,
    /// Where git finds the configuration and the credentials with which it clones the notebooks; `None` for nowhere.
    pub git_home: Option<OsString>,
    /// Where clones are made; `None` for the system's choice.
    pub clone_directory: Option<PathBuf>,
    /// How late it may wake what pauses, at the 99th percentile, before it counts as overloaded.
    pub max_lateness: Duration,
    /// Most events that it publishes in a second; 0 for none.
    pub event_rate: u32,
    /// Whether to look at what the process uses. A simulation does not, so that it repeats itself.
    pub measures_process: bool,
    /// What decides every random choice, the session's name included: another one for each run of a process.
    pub seed: u64,
}

/// Where users get their tokens from.
#[derive(Debug, Clone)]
pub enum TokenSource {
    /// Made up, for services that do not look at them.
    Local,
    /// From Gafaelfawr, found by the `discovery` of the configuration.
    Gafaelfawr {
        /// A token with the scope `admin:token`.
        token: SecretString,
        /// Limit of each call.
        timeout: Duration,
    },
}

/// What becomes of what monkeys log.
#[derive(Debug, Clone)]
pub struct MonkeyLogs {
    /// Whether each monkey has a log of its own; otherwise all share the service's.
    pub to_file: bool,
    /// Form of the lines.
    pub profile: LogProfile,
    /// Where the temporary file is made; `None` for the system's choice.
    pub directory: Option<PathBuf>,
    /// How large it may get, in bytes; beyond, monkeys keep less of their logs.
    pub max_bytes: u64,
}

impl Default for MonkeyLogs {
    fn default() -> Self {
        Self {
            to_file: true,
            profile: LogProfile::default(),
            directory: None,
            max_bytes: 4 << 30,
        }
    }
}

impl WorkerConfig {
    /// Returns the configuration of a replica with every default: local tokens, nothing served.
    pub fn new(instance_id: InstanceId, replica_count: u32, seed: u64) -> Self {
        Self {
            instance_id,
            replica_count,
            http_bind: None,
            name_wait: Duration::from_secs(25),
            report_interval: Duration::from_secs(1),
            stop_timeout: Duration::from_secs(60),
            drain_timeout: Duration::from_secs(60),
            tokens: TokenSource::Local,
            discovery: None,
            query_set_dir: None,
            monkey_logs: MonkeyLogs::default(),
            git_environment: git_environment(std::env::vars_os()),
            git_home: std::env::var_os("HOME"),
            clone_directory: None,
            max_lateness: Duration::from_millis(250),
            event_rate: 1000,
            measures_process: true,
            seed,
        }
    }

    /// Takes what concerns a worker out of the configuration of its process.
    ///
    /// # Panics
    ///
    /// If the configuration was loaded for another role, which has no instance ID.
    pub fn of_process(config: &Config) -> Self {
        let instance_id = config.instance_id.clone().expect("a worker's configuration names it");
        Self {
            http_bind: Some(config.http_bind),
            ..Self::of(config, instance_id)
        }
    }

    /// Returns the configuration of one of the replicas of `mobu local`: replica `index`, which serves nothing itself.
    ///
    /// # Panics
    ///
    /// Never: digits are an instance ID.
    pub fn of_local(config: &Config, index: u32) -> Self {
        Self::of(config, index.to_string().parse().expect("digits are an instance ID"))
    }

    fn of(config: &Config, instance_id: InstanceId) -> Self {
        Self {
            report_interval: config.report_interval,
            stop_timeout: config.stop_timeout,
            drain_timeout: config.drain_timeout,
            max_lateness: config.max_lateness,
            event_rate: config.event_rate,
            tokens: match &config.tokens {
                Some(Tokens::Gafaelfawr(token)) => TokenSource::Gafaelfawr {
                    token: token.clone(),
                    timeout: config.gafaelfawr_timeout,
                },
                Some(Tokens::Local) | None => TokenSource::Local,
            },
            discovery: config.discovery.clone(),
            query_set_dir: config.query_set_dir.clone(),
            monkey_logs: MonkeyLogs {
                to_file: config.log_monkeys_to_file,
                profile: config.log_profile,
                ..MonkeyLogs::default()
            },
            ..Self::new(instance_id, config.replica_count, fastrand::u64(..))
        }
    }

    /// Returns a configuration for tests: short waits, nothing measured, a small log.
    ///
    /// # Panics
    ///
    /// If `instance_id` is not one.
    pub fn for_tests(instance_id: &str, replica_count: u32) -> Self {
        let instance_id: InstanceId = instance_id.parse().expect("a test gives a right instance ID");
        let seed = instance_id
            .as_str()
            .bytes()
            .fold(17, |seed: u64, byte| seed.wrapping_mul(31) + u64::from(byte));
        Self {
            name_wait: Duration::from_secs(2),
            stop_timeout: Duration::from_secs(5),
            drain_timeout: Duration::from_secs(5),
            monkey_logs: MonkeyLogs {
                profile: LogProfile::Production,
                ..MonkeyLogs::default()
            },
            git_home: None,
            event_rate: 0,
            measures_process: false,
            ..Self::new(instance_id, replica_count, seed)
        }
    }

    /// Returns what the names of users depend on.
    pub(crate) fn identity(&self) -> ReplicaIdentity {
        ReplicaIdentity {
            instance_id: Some(self.instance_id.clone()),
            replica_count: self.replica_count,
        }
    }
}

/// Variables that git gets, and what they are when nobody has set them.
const GIT_BASICS: [(&str, &str); 2] = [("PATH", "/bin:/usr/bin"), ("LANG", "C.UTF-8")];

/// Beginnings of variables of git that it does not get: they lead to another repository or configuration, ask somebody
/// for a password, or make it say more than may be logged.
const GIT_UNWANTED: [&str; 14] = [
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_ASKPASS",
    "GIT_CEILING_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_CONFIG",
    "GIT_CURL_VERBOSE",
    "GIT_DIR",
    "GIT_INDEX_FILE",
    "GIT_INTERNAL",
    "GIT_NAMESPACE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
    "GIT_TRACE",
    "GIT_WORK_TREE",
];

/// Returns what git gets of an environment, so that nothing else of it, secrets least of all, is there for it to show.
fn git_environment(all: impl Iterator<Item = (OsString, OsString)>) -> Vec<(OsString, OsString)> {
    let basics = GIT_BASICS.map(|(name, value)| (name.into(), value.into()));
    let mut chosen: Vec<(OsString, OsString)> = basics.into();
    for (name, value) in all {
        if let Some(basic) = chosen[..GIT_BASICS.len()].iter_mut().find(|basic| basic.0 == name) {
            basic.1 = value;
        } else if is_for_git(&name) {
            chosen.push((name, value));
        }
    }
    chosen
}

fn is_for_git(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    name.starts_with("GIT_") && !GIT_UNWANTED.iter().any(|unwanted| name.starts_with(unwanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn git_gets_nothing_of_the_environment_but_what_it_needs() {
        let all = [
            ("PATH", "/opt/bin"),
            ("MOBU_GAFAELFAWR_TOKEN", "gt-key.secret"),
            ("HOME", "/home/me"),
            ("GIT_SSL_CAINFO", "/ca.pem"),
            ("GIT_DIR", "/elsewhere"),
            ("GIT_CONFIG_COUNT", "1"),
            ("GIT_TRACE_CURL", "1"),
        ];
        let chosen = git_environment(all.map(|(name, value)| (name.into(), value.into())).into_iter());
        let wanted = [("PATH", "/opt/bin"), ("LANG", "C.UTF-8"), ("GIT_SSL_CAINFO", "/ca.pem")];
        assert_eq!(chosen, wanted.map(|(name, value)| (name.into(), value.into())));
    }
}
