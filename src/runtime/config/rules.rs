//! What a configuration must hold for a process of its role, and the defaults.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use secrecy::ExposeSecret;

use crate::domain::business::LogLevel;
use crate::domain::ids::InstanceId;
use crate::domain::users::check_fleet_rules_at;
use crate::link::amqp::{AmqpConfig, IdentityFiles, TlsFiles};

use super::keys;
use super::layers::Layers;
use super::mistakes::Mistake;
use super::settings::Settings;
use super::{Auth, AuthMode, Config, Role, ServiceDiscovery, TokenSource, Tokens, TracesSample};

/// Checks what concerns several keys or the role.
pub(super) struct Rules<'a> {
    role: Role,
    layers: &'a Layers,
    mistakes: &'a mut Vec<Mistake>,
}

impl<'a> Rules<'a> {
    pub(super) fn new(role: Role, layers: &'a Layers, mistakes: &'a mut Vec<Mistake>) -> Self {
        Self { role, layers, mistakes }
    }

    /// Makes the configuration. It is of use only if no mistake was found, here or before.
    pub(super) fn apply(mut self, settings: Settings, warnings: &mut Vec<String>) -> Config {
        let seconds = |given: Option<Duration>, default| given.unwrap_or(Duration::from_secs(default));
        self.broker(&settings);
        let amqp_tls = self.amqp_tls(&settings);
        let replica_count = settings.replica_count.unwrap_or(self.role.default_replicas());
        let instance_id = self.instance_id(&settings, replica_count);
        self.fleet_rules(&settings);
        let http_bind = settings.http_bind.unwrap_or(self.role.http_bind());
        let auth = self.auth(&settings, http_bind, warnings);
        let discovery = service_discovery(&settings, warnings);
        let tokens = self.tokens(&settings, discovery.as_ref());
        for (is_given, what) in [
            (
                settings.github_ci_app.is_some(),
                "githubCiApp: this release runs no checks of pull requests",
            ),
            (
                settings.slack_alerts == Some(true),
                "slackAlerts: this release posts nothing to Slack",
            ),
            (
                settings.sentry_dsn.is_some(),
                "mobuSentryDsn: this release reports nothing to Sentry",
            ),
            (
                settings.metrics.is_some(),
                "metrics: this release publishes no events to Kafka",
            ),
        ] {
            if is_given {
                warnings.push(what.to_owned());
            }
        }
        if settings.slack_alerts == Some(true) && settings.alert_hook.is_none() && !self.layers.is_set("alertHook") {
            warnings.push("slackAlerts is true, but nothing goes to Slack without an alertHook".to_owned());
        }
        Config {
            role: self.role,
            fleet: settings.fleet.unwrap_or_else(super::default_fleet),
            amqp_url: settings.amqp_url,
            amqp_tls,
            replica_count,
            instance_id,
            http_bind,
            path_prefix: settings.path_prefix.unwrap_or_else(|| "/mobu".to_owned()),
            name: settings.name.unwrap_or_else(|| "mobu".to_owned()),
            auth,
            tokens,
            gafaelfawr_timeout: seconds(settings.gafaelfawr_timeout, 20),
            discovery,
            query_set_dir: settings.query_set_dir,
            autostart: settings
                .autostart
                .map(|flocks| flocks.into_iter().map(|(_, flock)| flock).collect()),
            log_level: settings.log_level.unwrap_or(LogLevel::Info),
            log_profile: settings.log_profile.unwrap_or_default(),
            log_monkeys_to_file: settings.log_monkeys_to_file.unwrap_or(true),
            apply_timeout: seconds(settings.apply_timeout, 30),
            gather_timeout: seconds(settings.gather_timeout, 5),
            drain_timeout: seconds(settings.drain_timeout, 30),
            stop_timeout: seconds(settings.stop_timeout, 60),
            report_interval: seconds(settings.report_interval, 1),
            announce_interval: seconds(settings.announce_interval, 2),
            max_lateness: settings.max_lateness.unwrap_or(Duration::from_millis(250)),
            event_rate: settings.event_rate.unwrap_or(1000),
            slack_alerts: settings.slack_alerts.unwrap_or(false),
            alert_hook: settings.alert_hook,
            sentry_dsn: settings.sentry_dsn,
            sentry_environment: settings.sentry_environment,
            sentry_traces: settings.sentry_traces.unwrap_or(TracesSample::Rate(0.0)),
            github_refresh_app: settings.github_refresh_app,
            github_ci_app: settings.github_ci_app,
            metrics: settings.metrics,
        }
    }

    /// Reports a key that is not set; one that is set and wrong was reported already.
    fn missing(&mut self, path: &'static str, why: &str) {
        if self.layers.is_set(path) {
            return;
        }
        let key = keys::at(path).expect("rules name keys of the list");
        self.mistakes
            .push(Mistake::new(key.places(), why).with_example(key.example));
    }

    /// Reports a key whose value does not go together with others.
    fn wrong(&mut self, path: &'static str, why: &str) {
        let key = keys::at(path).expect("rules name keys of the list");
        self.mistakes.push(Mistake::new(self.layers.place(key), why));
    }

    fn broker(&mut self, settings: &Settings) {
        if self.role != Role::Local && settings.amqp_url.is_none() {
            self.missing("amqpUrl", "the broker is missing");
        }
        if let Some(Err(error)) = settings
            .amqp_url
            .as_ref()
            .map(|url| AmqpConfig::parse_urls(url.expose_secret()))
        {
            self.wrong("amqpUrl", &error.to_string());
        }
    }

    /// Returns the files for TLS; a certificate is of no use without its key.
    fn amqp_tls(&mut self, settings: &Settings) -> TlsFiles {
        let identity = match (&settings.amqp_cert_file, &settings.amqp_key_file) {
            (Some(cert), Some(key)) => Some(IdentityFiles {
                cert: cert.clone(),
                key: key.clone(),
            }),
            (Some(_), None) => {
                self.missing("amqpKeyFile", "amqpCertFile is of no use without its key");
                None
            }
            (None, Some(_)) => {
                self.missing("amqpCertFile", "amqpKeyFile is of no use without its certificate");
                None
            }
            (None, None) => None,
        };
        TlsFiles {
            ca: settings.amqp_ca_file.clone(),
            identity,
        }
    }

    /// Returns the replica's name; what mobu 19 calls its index stands in for it.
    fn instance_id(&mut self, settings: &Settings, replica_count: u32) -> Option<InstanceId> {
        let of_index = |index: i64| index.to_string().parse().expect("digits are an instance ID");
        let given = settings
            .instance_id
            .clone()
            .or_else(|| settings.replica_index.map(of_index));
        if self.role != Role::Worker || given.is_some() {
            return given;
        }
        if replica_count > 1 && !self.layers.is_set("replicaIndex") {
            self.missing("instanceId", "with more than one replica, each needs a name of its own");
        }
        Some(of_index(0))
    }

    /// Checks the flocks of `autostart` as the coordinator checks those that are put later.
    fn fleet_rules(&mut self, settings: &Settings) {
        if self.role == Role::Worker || (settings.replica_count.is_none() && self.layers.is_set("replicaCount")) {
            return;
        }
        let count = settings.replica_count.unwrap_or(self.role.default_replicas());
        // Names differ in their numbers alone, so first and last show what is wrong with any.
        let ids = [0, count - 1].map(|index| index.to_string().parse().expect("digits are an instance ID"));
        for (index, flock) in settings.autostart.iter().flatten() {
            if let Err(errors) = check_fleet_rules_at(flock, count, &ids, &["autostart".into(), (*index).into()]) {
                let mistake = |item| Mistake::from_item(item, |key| key.path.to_owned());
                self.mistakes.extend(errors.0.iter().map(mistake));
            }
        }
    }

    fn auth(&mut self, settings: &Settings, http_bind: SocketAddr, warnings: &mut Vec<String>) -> Auth {
        let mode = settings.auth.unwrap_or(AuthMode::Header);
        if mode != AuthMode::Token && settings.auth_tokens.is_some() {
            warnings.push(format!("authTokens are given, but not asked for with auth: {mode}"));
        }
        match mode {
            AuthMode::Header => Auth::Header,
            AuthMode::Token => {
                if settings.auth_tokens.is_none() {
                    self.missing("authTokens", "auth: token needs at least one token");
                }
                Auth::Token(settings.auth_tokens.clone().unwrap_or_default())
            }
            AuthMode::None => {
                if !http_bind.ip().is_loopback() {
                    let why = format!(
                        "auth: none would let anybody who reaches {http_bind} control the fleet; use header or token, or bind to 127.0.0.1"
                    );
                    self.wrong("auth", &why);
                }
                Auth::None
            }
        }
    }

    /// Returns where monkeys get their tokens. The coordinator makes none, so that it may lack what it takes.
    fn tokens(&mut self, settings: &Settings, discovery: Option<&ServiceDiscovery>) -> Option<Tokens> {
        let source = match (settings.tokens, &settings.gafaelfawr_token) {
            (Some(source), _) => source,
            (None, Some(_)) => TokenSource::Gafaelfawr,
            (None, None) if self.role == Role::Local => TokenSource::Local,
            (None, None) => {
                if self.role == Role::Worker && !self.layers.is_set("gafaelfawrToken") {
                    let why = "it is not said where monkeys get their tokens: give a token for Gafaelfawr, or say `tokens: local` (MOBU_TOKENS=local)";
                    self.missing("gafaelfawrToken", why);
                }
                return None;
            }
        };
        let token = match source {
            TokenSource::Local => return Some(Tokens::Local),
            TokenSource::Gafaelfawr => settings.gafaelfawr_token.clone(),
        };
        if self.role == Role::Coordinator {
            return token.map(Tokens::Gafaelfawr);
        }
        if token.is_none() {
            self.missing("gafaelfawrToken", "tokens: gafaelfawr needs a token for Gafaelfawr");
        }
        match discovery {
            None if !self.layers.is_set("discovery") => {
                self.missing(
                    "repertoireBaseUrl",
                    "Gafaelfawr cannot be found without service discovery",
                );
            }
            Some(ServiceDiscovery::Static(services)) if services.gafaelfawr().is_err() => {
                self.wrong(
                    "discovery",
                    "Gafaelfawr is missing: services.internal.gafaelfawr.versions.v1.url",
                );
            }
            _ => {}
        }
        token.map(Tokens::Gafaelfawr)
    }
}

fn service_discovery(settings: &Settings, warnings: &mut Vec<String>) -> Option<ServiceDiscovery> {
    match (&settings.discovery, &settings.repertoire_base_url) {
        (Some(services), url) => {
            if url.is_some() {
                warnings.push(
                    "repertoireBaseUrl is not asked, because the file lists the services in `discovery`".to_owned(),
                );
            }
            Some(ServiceDiscovery::Static(services.clone().into()))
        }
        (None, url) => url.clone().map(ServiceDiscovery::Repertoire),
    }
}

impl Role {
    /// A fleet that is tried out shall look like one.
    const fn default_replicas(self) -> u32 {
        match self {
            Self::Coordinator | Self::Worker => 1,
            Self::Local => 3,
        }
    }

    const fn http_bind(self) -> SocketAddr {
        let port = match self {
            Self::Coordinator | Self::Local => 8080,
            Self::Worker => 8081,
        };
        SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), port)
    }
}
