//! What a coordinator must be told, out of the configuration that all processes share.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mobu_fleet::domain::ids::SessionId;
use mobu_fleet::runtime::config::{Auth as ConfiguredAuth, Config};

use crate::api::{ApiConfig, Auth, GithubRefresh};
use crate::fleet::reign::ReignRules;
use crate::fleet::state::FleetRules;

/// Everything that a coordinator must be told.
#[derive(Debug, Clone)]
pub struct CoordinatorConfig {
    /// What the fleet's state decides by.
    pub rules: FleetRules,
    /// What the API needs to know.
    pub api: Arc<ApiConfig>,
    /// Where to listen for HTTP; port 0 takes any free one.
    pub http_bind: SocketAddr,
    /// How long the process may take to end.
    pub drain_timeout: Duration,
    /// What decides every random choice.
    pub seed: u64,
}

impl CoordinatorConfig {
    /// Takes what concerns a coordinator.
    pub fn new(config: &Config) -> Self {
        let mut random = fastrand::Rng::new();
        let session = SessionId::new(format!("{:016x}", random.u64(..)));
        let rules = FleetRules {
            fleet: config.fleet.clone(),
            session,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            reign: ReignRules {
                replica_count: config.replica_count,
                silence: config.announce_interval * 3,
                ..ReignRules::default()
            },
            report_interval: config.report_interval,
            announce_interval: config.announce_interval,
            apply_timeout: config.apply_timeout,
            autostart: config.autostart.clone(),
        };
        let github_refresh = config.github_refresh_app.as_ref().map(|app| GithubRefresh {
            webhook_secret: app.webhook_secret.clone(),
            accepted_orgs: app.accepted_orgs.clone(),
        });
        let api = ApiConfig {
            name: config.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            path_prefix: config.path_prefix.clone(),
            auth: match &config.auth {
                ConfiguredAuth::Header => Auth::Header,
                ConfiguredAuth::Token(tokens) => Auth::Token(tokens.clone()),
                ConfiguredAuth::None => Auth::None,
            },
            log_monkeys: config.log_monkeys_to_file,
            github_refresh,
            replica_count: config.replica_count,
            gather_timeout: config.gather_timeout,
            apply_timeout: config.apply_timeout,
            ..ApiConfig::default()
        };
        Self {
            rules,
            api: Arc::new(api),
            http_bind: config.http_bind,
            drain_timeout: config.drain_timeout,
            seed: random.u64(..),
        }
    }
}
