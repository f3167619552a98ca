//! Reads every key of one object into its type. What is required of whom is not decided here.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;
use serde_json::{Value, json};
use url::Url;

use super::github::{GithubCiApp, GithubRefreshApp};
use super::metrics::MetricsConfig;
use super::{AuthMode, MAX_REPLICAS, TokenSource, TracesSample};
use crate::domain::business::LogLevel;
use crate::domain::discovery::{Discovery, http_url};
use crate::domain::duration::HumanDuration;
use crate::domain::flock::FlockConfig;
use crate::domain::ids::{FleetName, InstanceId, InvalidName};
use crate::domain::validation::{Extra, Fields, FromInput, Input, Parsed, ValidationItem};
use crate::runtime::telemetry::LogProfile;

/// Shortest bearer token, in characters: a shorter one could be guessed.
const MIN_AUTH_TOKEN: usize = 16;
/// Longest of the time limits.
const MAX_TIMEOUT: HumanDuration = HumanDuration::from_seconds(86_400);
/// Most events that a replica may be told to publish in a second: beyond, it would do little else.
const MOST_EVENTS: i64 = 100_000;
/// Longest interval between two reports or announcements: beyond, nobody could tell a replica from a dead one.
const MAX_INTERVAL: HumanDuration = HumanDuration::from_seconds(60);
/// First segments of paths that are the process's own.
const RESERVED_PREFIXES: [&str; 3] = ["healthz", "readyz", "metrics"];

/// Every key, read as far as it could be. `None`: it is not set, or wrong.
#[derive(Default)]
pub(super) struct Settings {
    pub(super) fleet: Option<FleetName>,
    pub(super) amqp_url: Option<SecretString>,
    pub(super) amqp_ca_file: Option<PathBuf>,
    pub(super) amqp_cert_file: Option<PathBuf>,
    pub(super) amqp_key_file: Option<PathBuf>,
    pub(super) replica_count: Option<u32>,
    pub(super) instance_id: Option<InstanceId>,
    pub(super) replica_index: Option<i64>,
    pub(super) http_bind: Option<SocketAddr>,
    pub(super) path_prefix: Option<String>,
    pub(super) name: Option<String>,
    pub(super) auth: Option<AuthMode>,
    pub(super) auth_tokens: Option<Vec<SecretString>>,
    pub(super) tokens: Option<TokenSource>,
    pub(super) gafaelfawr_token: Option<SecretString>,
    pub(super) gafaelfawr_timeout: Option<Duration>,
    pub(super) repertoire_base_url: Option<Url>,
    pub(super) discovery: Option<Discovery>,
    pub(super) query_set_dir: Option<PathBuf>,
    /// Those that are right, with their positions.
    pub(super) autostart: Option<Vec<(usize, FlockConfig)>>,
    pub(super) log_level: Option<LogLevel>,
    pub(super) log_profile: Option<LogProfile>,
    pub(super) log_monkeys_to_file: Option<bool>,
    pub(super) apply_timeout: Option<Duration>,
    pub(super) gather_timeout: Option<Duration>,
    pub(super) drain_timeout: Option<Duration>,
    pub(super) stop_timeout: Option<Duration>,
    pub(super) report_interval: Option<Duration>,
    pub(super) announce_interval: Option<Duration>,
    pub(super) max_lateness: Option<Duration>,
    pub(super) event_rate: Option<u32>,
    pub(super) slack_alerts: Option<bool>,
    pub(super) alert_hook: Option<SecretString>,
    pub(super) sentry_dsn: Option<SecretString>,
    pub(super) sentry_environment: Option<String>,
    pub(super) sentry_traces: Option<TracesSample>,
    pub(super) github_refresh_app: Option<GithubRefreshApp>,
    pub(super) github_ci_app: Option<GithubCiApp>,
    pub(super) metrics: Option<MetricsConfig>,
}

impl Settings {
    /// Reads an object; returns its mistakes beside what is right in it.
    pub(super) fn read(value: &Value) -> (Self, Vec<ValidationItem>) {
        let mut settings = Self::default();
        let read = Input::read(value, &[], |input| {
            let mut fields = input.document()?;
            settings = Self::read_fields(&mut fields);
            Some(Parsed::new((), fields.close(Extra::Forbidden)?))
        });
        (settings, read.err().map(|errors| errors.0).unwrap_or_default())
    }

    /// Asks for the keys in the order in which they are documented.
    fn read_fields(fields: &mut Fields<'_>) -> Self {
        Self {
            fleet: fields.nullable_by("fleet", name::<FleetName>),
            amqp_url: fields.nullable_by("amqpUrl", secret),
            amqp_ca_file: fields.nullable_by("amqpCaFile", path),
            amqp_cert_file: fields.nullable_by("amqpCertFile", path),
            amqp_key_file: fields.nullable_by("amqpKeyFile", path),
            replica_count: fields.nullable_by("replicaCount", replica_count),
            instance_id: fields.nullable_by("instanceId", name::<InstanceId>),
            replica_index: fields.nullable_by("replicaIndex", |input| input.integer(0, i64::from(MAX_REPLICAS) - 1)),
            http_bind: fields.nullable_by("httpBind", address),
            path_prefix: fields.nullable_by("pathPrefix", path_prefix),
            name: fields.nullable_by("name", text),
            auth: fields.nullable("auth"),
            auth_tokens: fields.nullable_by("authTokens", auth_tokens),
            tokens: fields.nullable("tokens"),
            gafaelfawr_token: fields.nullable_by("gafaelfawrToken", secret),
            gafaelfawr_timeout: fields.nullable_by("gafaelfawrTimeout", timeout),
            repertoire_base_url: fields.nullable_by("repertoireBaseUrl", http_url),
            discovery: fields.nullable_by("discovery", Discovery::from_block),
            query_set_dir: fields.nullable_by("querySetDir", path),
            autostart: fields.nullable_by("autostart", autostart),
            log_level: fields.nullable("logLevel"),
            log_profile: fields.nullable_by("logProfile", log_profile),
            log_monkeys_to_file: fields.nullable("logMonkeysToFile"),
            apply_timeout: fields.nullable_by("applyTimeout", timeout),
            gather_timeout: fields.nullable_by("gatherTimeout", timeout),
            drain_timeout: fields.nullable_by("drainTimeout", timeout),
            stop_timeout: fields.nullable_by("stopTimeout", timeout),
            report_interval: fields.nullable_by("reportInterval", interval),
            announce_interval: fields.nullable_by("announceInterval", interval),
            max_lateness: fields.nullable_by("maxLateness", lateness),
            event_rate: fields.nullable_by("eventRate", event_rate),
            slack_alerts: fields.nullable("slackAlerts"),
            alert_hook: fields.nullable_by("alertHook", secret),
            sentry_dsn: fields.nullable_by("mobuSentryDsn", secret),
            sentry_environment: fields.nullable_by("sentryEnvironment", text),
            sentry_traces: fields.nullable("sentryTracesSampleConfig"),
            github_refresh_app: fields.nullable("githubRefreshApp"),
            github_ci_app: fields.nullable("githubCiApp"),
            metrics: fields.nullable("metrics"),
        }
    }
}

fn text(input: &Input<'_>) -> Option<Parsed<String>> {
    input.text(1, usize::MAX)
}

fn path(input: &Input<'_>) -> Option<Parsed<PathBuf>> {
    Some(text(input)?.map(PathBuf::from))
}

/// Reads a secret, of which no echo is left.
pub(super) fn secret(input: &Input<'_>) -> Option<Parsed<SecretString>> {
    Some(Parsed::new(text(input)?.value.into(), Value::Null))
}

fn name<T: TryFrom<String, Error = InvalidName>>(input: &Input<'_>) -> Option<Parsed<T>> {
    let text = String::from_input(input)?;
    match T::try_from(text.value) {
        Ok(name) => Some(Parsed::new(name, text.echo)),
        Err(error) => input.value_error(error),
    }
}

fn replica_count(input: &Input<'_>) -> Option<Parsed<u32>> {
    let count = input.integer(1, i64::from(MAX_REPLICAS))?;
    Some(count.map(|count| u32::try_from(count).expect("the range was checked")))
}

fn event_rate(input: &Input<'_>) -> Option<Parsed<u32>> {
    let rate = input.integer(0, MOST_EVENTS)?;
    Some(rate.map(|rate| u32::try_from(rate).expect("the range was checked")))
}

fn address(input: &Input<'_>) -> Option<Parsed<SocketAddr>> {
    let text = String::from_input(input)?;
    match text.value.parse() {
        Ok(address) => Some(Parsed::new(address, text.echo)),
        Err(_) => input.fail("address", "Input should be an IP address and a port"),
    }
}

fn path_prefix(input: &Input<'_>) -> Option<Parsed<String>> {
    let text = String::from_input(input)?;
    let is_segment = |segment: &str| {
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
        !matches!(segment, "" | "." | "..") && segment.bytes().all(is_plain)
    };
    match text.value.strip_prefix('/') {
        Some(rest) if RESERVED_PREFIXES.contains(&rest.split('/').next().unwrap_or_default()) => input.fail(
            "path_prefix",
            format!(
                "Input should not begin with one of our own paths, {}",
                RESERVED_PREFIXES.join(", ")
            ),
        ),
        Some(rest) if rest.split('/').all(is_segment) => Some(text),
        _ => input.fail(
            "path_prefix",
            "Input should begin with `/`, not end with one, and hold letters, digits and -._~ between them",
        ),
    }
}

fn auth_tokens(input: &Input<'_>) -> Option<Parsed<Vec<SecretString>>> {
    let split;
    let list = match input.value() {
        Value::String(text) => {
            split = text
                .split(',')
                .map(|token| Value::String(token.trim().to_owned()))
                .collect();
            &split
        }
        other => other,
    };
    let input = input.instead(list);
    let tokens = input.list(1_000, |input| {
        let token = input.text(MIN_AUTH_TOKEN, 4_096)?;
        if token.value.bytes().all(|b| b.is_ascii_graphic()) {
            return Some(Parsed::new(token.value.into(), Value::Null));
        }
        input.fail(
            "token",
            "Input should hold visible ASCII characters only, as a header does",
        )
    })?;
    if tokens.value.is_empty() {
        return input.too_short("List");
    }
    Some(tokens)
}

fn bounded(input: &Input<'_>, max: HumanDuration) -> Option<Parsed<Duration>> {
    let parsed = HumanDuration::positive(input)?;
    if parsed.value > max {
        let seconds = max.seconds();
        return input.fail_with(
            "less_than_equal",
            format!("Input should be less than or equal to {seconds} seconds"),
            json!({ "le": seconds }),
        );
    }
    Some(parsed.map(HumanDuration::to_std))
}

fn timeout(input: &Input<'_>) -> Option<Parsed<Duration>> {
    bounded(input, MAX_TIMEOUT)
}

fn interval(input: &Input<'_>) -> Option<Parsed<Duration>> {
    let parsed = bounded(input, MAX_INTERVAL)?;
    if parsed.value < Duration::from_millis(100) {
        return input.fail(
            "greater_than_equal",
            "Input should be greater than or equal to 0.1 seconds",
        );
    }
    Some(parsed)
}

fn lateness(input: &Input<'_>) -> Option<Parsed<Duration>> {
    let parsed = bounded(input, MAX_INTERVAL)?;
    if parsed.value < Duration::from_millis(1) {
        return input.fail(
            "greater_than_equal",
            "Input should be greater than or equal to 0.001 seconds",
        );
    }
    Some(parsed)
}

fn log_profile(input: &Input<'_>) -> Option<Parsed<LogProfile>> {
    let profiles = [
        ("production", LogProfile::Production),
        ("development", LogProfile::Development),
    ];
    input.choice("enum", &profiles, false)
}

/// Reads every flock, so that all mistakes are found, and lets no name come twice.
fn autostart(input: &Input<'_>) -> Option<Parsed<Vec<(usize, FlockConfig)>>> {
    let Value::Array(given) = input.value() else {
        return input.fail("list_type", "Input should be a valid list");
    };
    let mut names = BTreeSet::new();
    let mut flocks = Vec::with_capacity(given.len());
    for (index, value) in given.iter().enumerate() {
        let input = input.at_index(index, value);
        let Some(flock) = FlockConfig::from_input(&input) else {
            continue;
        };
        if names.insert(flock.value.name.clone()) {
            flocks.push((index, flock.value));
        } else {
            let name = &flock.value.name;
            input
                .at_key("name", value)
                .value_error::<()>(format_args!("a flock before it is called `{name}` too"));
        }
    }
    Some(Parsed::new(flocks, Value::Null))
}

impl FromInput for TracesSample {
    fn from_input(input: &Input<'_>) -> Option<Parsed<Self>> {
        if input.value().as_str() == Some("errors") {
            return Some(Parsed::new(Self::Errors, "errors"));
        }
        let is_number =
            |value: &Value| value.is_number() || value.as_str().is_some_and(|text| text.parse::<f64>().is_ok());
        if is_number(input.value()) {
            let rate = f64::from_input(input)?;
            if (0.0..=1.0).contains(&rate.value) {
                return Some(rate.map(Self::Rate));
            }
        }
        input.fail("traces", "Input should be a number from 0 to 1, or `errors`")
    }
}
