//! The configuration of a process: mobu's file, under the environment, under flags.
//!
//! Read once, when the process starts, and checked as a whole: whoever holds a [`Config`] holds one that can work, and
//! whoever does not was told everything that is wrong. The keys are described in `docs/configuration.md`, which comes
//! from the same list that file, environment and mistakes use. Nothing else in the shared crate reads the environment.
//!
//! A value of the environment goes before the file's, unlike in mobu, and flags go before both. A null in the file is
//! a key that is not set, because mobu's chart writes nulls.

mod environment;
mod flags;
mod github;
mod keys;
mod layers;
mod metrics;
mod mistakes;
mod rules;
mod settings;
mod yaml;

use std::ffi::OsString;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use serde_json::Value;
use tracing::level_filters::LevelFilter;
use url::Url;

use self::environment::Environment;
pub use self::flags::Flags;
pub use self::github::{GithubCiApp, GithubRefreshApp};
pub use self::keys::reference_table;
use self::layers::Layers;
pub use self::metrics::{KafkaMetrics, MetricsConfig, SaslMechanism, SecurityProtocol};
pub use self::mistakes::{ConfigError, Mistake};
use self::rules::Rules;
use self::settings::Settings;
pub use self::yaml::parse as parse_yaml;
use crate::domain::business::LogLevel;
use crate::domain::discovery::Discovery;
use crate::domain::flock::FlockConfig;
use crate::domain::ids::{FleetName, InstanceId};
use crate::domain::validation::choices;
use crate::link::amqp::TlsFiles;
use crate::runtime::telemetry::LogProfile;

/// The file that is read if it exists and no other is named.
const DEFAULT_FILE: &str = "/etc/mobu/config.yaml";
/// Most replicas that a fleet may be meant to have.
pub const MAX_REPLICAS: u32 = 10_000;

/// Which process is configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// `mobu-coordinator`.
    Coordinator,
    /// `mobu-worker`.
    Worker,
    /// `mobu local`: a whole fleet in one process, without a broker.
    Local,
}

choices! {
    /// Who may call the API (`auth`).
    AuthMode, "enum", any_case = false, {
        /// Whoever the ingress in front of us says it is.
        Header = "header",
        /// Whoever knows one of our tokens.
        Token = "token",
        /// Anybody.
        None = "none",
    }
}

choices! {
    /// Where monkeys get their tokens (`tokens`).
    TokenSource, "enum", any_case = false, {
        /// From Gafaelfawr.
        Gafaelfawr = "gafaelfawr",
        /// They are made up.
        Local = "local",
    }
}

/// Who may call the API, with what it takes to tell.
#[derive(Debug, Clone)]
pub enum Auth {
    /// A trusted ingress says who calls.
    Header,
    /// Bearers of one of these tokens, at least one, each of at least 16 visible ASCII characters.
    Token(Vec<SecretString>),
    /// Anybody; we are bound to loopback.
    None,
}

/// Where monkeys get their tokens, with what it takes to get them.
#[derive(Debug, Clone)]
pub enum Tokens {
    /// From Gafaelfawr, with this token of ours.
    Gafaelfawr(SecretString),
    /// They are made up.
    Local,
}

/// Where the URLs of services come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServiceDiscovery {
    /// From Repertoire, at this base URL; `/discovery` is to be appended.
    Repertoire(Url),
    /// From the configuration.
    Static(Arc<Discovery>),
}

/// Which traces Sentry gets.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum TracesSample {
    /// A share of them, 0 to 1.
    Rate(f64),
    /// Those with an error.
    Errors,
}

/// A configuration that can work, for one role. Its keys are described in `docs/configuration.md`.
///
/// Prints no secrets: they are [`SecretString`]s, and of flocks, which may hold some in headers, it prints the names.
#[derive(Clone)]
pub struct Config {
    /// For which process.
    pub role: Role,
    /// Whose exchanges and queues.
    pub fleet: FleetName,
    /// The broker's URLs as they were given, separated by commas; the link checks their syntax. There for coordinator
    /// and worker.
    pub amqp_url: Option<SecretString>,
    /// PEM files for `amqps://`; nothing is read yet.
    pub amqp_tls: TlsFiles,
    /// How many replicas the fleet is meant to have, 1 to [`MAX_REPLICAS`].
    pub replica_count: u32,
    /// The replica's name; there for a worker.
    pub instance_id: Option<InstanceId>,
    /// Where to listen for HTTP; port 0 takes any free one.
    pub http_bind: SocketAddr,
    /// Prefix of the API's routes: begins with `/`, does not end with one, holds nothing that a router would interpret.
    pub path_prefix: String,
    /// The application's name in the metadata routes, not empty.
    pub name: String,
    /// Who may call the API.
    pub auth: Auth,
    /// Where monkeys get their tokens; there for worker and `mobu local`.
    pub tokens: Option<Tokens>,
    /// Limit of each call of Gafaelfawr.
    pub gafaelfawr_timeout: Duration,
    /// Where the URLs of services come from; there if tokens come from Gafaelfawr, but for a coordinator.
    pub discovery: Option<ServiceDiscovery>,
    /// Where query sets of one's own are.
    pub query_set_dir: Option<PathBuf>,
    /// The flocks to start with, each name once, in order; `None` if the key is not there, which is not the same as an
    /// empty list. Checked against the rules of a fleet of `replica_count`, but for a worker.
    pub autostart: Option<Vec<FlockConfig>>,
    /// Least severity that the service logs.
    pub log_level: LogLevel,
    /// Form of the log.
    pub log_profile: LogProfile,
    /// Whether each monkey keeps a log of its own.
    pub log_monkeys_to_file: bool,
    /// How long a change waits for the replicas to report it.
    pub apply_timeout: Duration,
    /// How long a question to all replicas waits for their answers.
    pub gather_timeout: Duration,
    /// How long the process may take to end. It goes before `stop_timeout`: a flock that is being stopped when the
    /// process drains gets no more than what is left of this.
    pub drain_timeout: Duration,
    /// How long the monkeys of a flock that is stopped may take to end while the process goes on.
    pub stop_timeout: Duration,
    /// How often a replica reports, 0.1 s to 1 min.
    pub report_interval: Duration,
    /// How often the coordinator announces where the state log stands, 0.1 s to 1 min.
    pub announce_interval: Duration,
    /// How late a replica may wake what pauses, at the 99th percentile, 1 ms to 1 min, before it counts as overloaded.
    pub max_lateness: Duration,
    /// Most events that a replica publishes in a second, at most 100,000; 0 for none at all.
    pub event_rate: u32,
    /// Whether to report failures to Slack; without `alert_hook` it does nothing.
    pub slack_alerts: bool,
    /// Incoming webhook of Slack.
    pub alert_hook: Option<SecretString>,
    /// Where to report errors to Sentry.
    pub sentry_dsn: Option<SecretString>,
    /// The environment that Sentry is told.
    pub sentry_environment: Option<String>,
    /// Which traces Sentry gets.
    pub sentry_traces: TracesSample,
    /// The GitHub app that refreshes flocks.
    pub github_refresh_app: Option<GithubRefreshApp>,
    /// The GitHub app that checks pull requests.
    pub github_ci_app: Option<GithubCiApp>,
    /// What becomes of events; nothing is made of them unless given.
    pub metrics: Option<MetricsConfig>,
}

/// Where a configuration comes from.
#[derive(Debug, Clone)]
pub struct Sources<V> {
    /// For which process.
    pub role: Role,
    /// Flags; their `config` names the file, which then must exist.
    pub flags: Flags,
    /// The environment, as names and values.
    pub variables: V,
}

impl Sources<std::env::VarsOs> {
    /// Takes the environment of this process.
    pub fn of_process(role: Role, flags: Flags) -> Self {
        Self {
            role,
            flags,
            variables: std::env::vars_os(),
        }
    }
}

/// A configuration, and what its author should know about it.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// What was given and has no effect, one sentence each, to be logged once logging has started. No secrets.
    pub warnings: Vec<String>,
}

impl Config {
    /// Reads the file, lays environment and flags over it, and checks everything.
    ///
    /// Blocks while it reads the file, which is bounded to 4 MiB.
    ///
    /// # Errors
    ///
    /// All mistakes at once. If the file cannot be read or is not YAML, that and the mistakes of environment and flags.
    ///
    /// ```
    /// use mobu_fleet::runtime::config::{Config, Flags, Role, Sources};
    ///
    /// let variables = [("MOBU_REPLICA_COUNT", "three"), ("MOBU_TOKENS", "local")];
    /// let sources = Sources {
    ///     role: Role::Worker,
    ///     flags: Flags::default(),
    ///     variables: variables.map(|(name, value)| (name.into(), value.into())),
    /// };
    /// let error = Config::load(sources).unwrap_err().to_string();
    /// assert!(error.contains("MOBU_REPLICA_COUNT: ") && error.contains("MOBU_AMQP_URL: "));
    /// ```
    pub fn load<V>(sources: Sources<V>) -> Result<Loaded, ConfigError>
    where
        V: IntoIterator<Item = (OsString, OsString)>,
    {
        let mut environment = Environment::read(sources.variables);
        let named = sources.flags.config.clone().or_else(|| environment.file.take());
        let path = named.as_deref().unwrap_or(Path::new(DEFAULT_FILE));
        let file = yaml::read(path, named.is_some()).map(Option::unwrap_or_default);
        Self::from_layers(sources.role, file, environment, &sources.flags)
    }

    fn from_layers(
        role: Role,
        file: Result<Value, Mistake>,
        environment: Environment,
        flags: &Flags,
    ) -> Result<Loaded, ConfigError> {
        let mut mistakes = Vec::new();
        let is_whole = file.is_ok();
        let file = file.unwrap_or_else(|mistake| {
            mistakes.push(mistake);
            Value::Null
        });
        let mut layers = Layers::new(file, environment, flags);
        mistakes.append(&mut layers.mistakes);
        let mut warnings = std::mem::take(&mut layers.warnings);

        let (settings, items) = Settings::read(&layers.merged);
        mistakes.extend(
            items
                .iter()
                .map(|item| Mistake::from_item(item, |key| layers.place(key))),
        );
        // What is overridden now is in force as soon as nobody overrides it.
        let (_, items) = Settings::read(&layers.shadowed);
        mistakes.extend(
            items
                .iter()
                .map(|item| Mistake::from_item(item, |key| key.path.to_owned())),
        );
        let (_, items) = Settings::read(&layers.shadowed_variables);
        let variable = |key: &keys::Key| key.variable.unwrap_or(key.path).to_owned();
        mistakes.extend(items.iter().map(|item| Mistake::from_item(item, variable)));

        let mut broken_rules = Vec::new();
        let config = Rules::new(role, &layers, &mut broken_rules).apply(settings, &mut warnings);
        // Without its file, a configuration lacks things for no fault of its author.
        if is_whole {
            mistakes.append(&mut broken_rules);
        }
        if mistakes.is_empty() {
            Ok(Loaded { config, warnings })
        } else {
            Err(ConfigError::new(mistakes))
        }
    }

    /// Returns a configuration for tests: a free port, short time limits, made-up tokens, no broker.
    ///
    /// # Panics
    ///
    /// Never: a test makes one.
    pub fn for_tests() -> Self {
        let (brief, briefer) = (Duration::from_secs(5), Duration::from_millis(100));
        Self {
            role: Role::Local,
            fleet: default_fleet(),
            amqp_url: None,
            amqp_tls: TlsFiles::default(),
            replica_count: 1,
            instance_id: Some("0".parse().expect("a digit is an instance ID")),
            http_bind: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            path_prefix: "/mobu".to_owned(),
            name: "mobu".to_owned(),
            auth: Auth::Header,
            tokens: Some(Tokens::Local),
            gafaelfawr_timeout: brief,
            discovery: None,
            query_set_dir: None,
            autostart: None,
            log_level: LogLevel::Debug,
            log_profile: LogProfile::Development,
            log_monkeys_to_file: true,
            apply_timeout: brief,
            gather_timeout: brief,
            drain_timeout: brief,
            stop_timeout: brief,
            report_interval: briefer,
            announce_interval: briefer,
            max_lateness: Duration::from_millis(250),
            event_rate: 1000,
            slack_alerts: false,
            alert_hook: None,
            sentry_dsn: None,
            sentry_environment: None,
            sentry_traces: TracesSample::Rate(0.0),
            github_refresh_app: None,
            github_ci_app: None,
            metrics: None,
        }
    }

    /// Returns the log level as the subscriber knows it, which has nothing above errors.
    pub fn level_filter(&self) -> LevelFilter {
        match self.log_level {
            LogLevel::Debug => LevelFilter::DEBUG,
            LogLevel::Info => LevelFilter::INFO,
            LogLevel::Warning => LevelFilter::WARN,
            LogLevel::Error | LogLevel::Critical => LevelFilter::ERROR,
        }
    }
}

fn default_fleet() -> FleetName {
    "mobu".parse().expect("the default is a name")
}

impl fmt::Debug for Config {
    /// Prints what tells one process from another.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let autostart = self.autostart.as_ref();
        let autostart = autostart.map(|flocks| flocks.iter().map(|flock| flock.name.as_str()).collect::<Vec<_>>());
        f.debug_struct("Config")
            .field("role", &self.role)
            .field("fleet", &self.fleet)
            .field("replica_count", &self.replica_count)
            .field("instance_id", &self.instance_id)
            .field("http_bind", &self.http_bind)
            .field("path_prefix", &self.path_prefix)
            .field("auth", &self.auth)
            .field("tokens", &self.tokens)
            .field("autostart", &autostart)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
