//! What every program of a fleet does first and last.

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;

use secrecy::ExposeSecret;
use tracing::{error, warn};

use super::config::{self, Config, Sources};
use super::lifecycle::{EXIT_CONFIG, EXIT_CRASH};
use super::telemetry;
use crate::link::amqp::{AmqpConfig, AmqpLink};
use crate::link::{BoxError, Link, topology};

/// Why a program cannot reach its broker, as far as that shows before it tries.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// No URL was given.
    #[error("MOBU_AMQP_URL is not set (for example amqp://worker:password@rabbitmq:5672)")]
    NoUrl,
    /// A URL that cannot work.
    #[error("MOBU_AMQP_URL")]
    Url(#[from] crate::link::amqp::InvalidBrokerUrl),
    /// A file for TLS cannot be used.
    #[error("MOBU_AMQP_CA_FILE, MOBU_AMQP_CERT_FILE and MOBU_AMQP_KEY_FILE")]
    Tls(#[from] crate::link::amqp::TlsFileError),
}

/// Reads the configuration, starts logging and the runtime, and runs a program to its end.
///
/// Ends with 64 if the configuration cannot work (all mistakes are printed), and with 1 if the program fails. With
/// `--check-config` it ends after the configuration.
pub fn main<V>(sources: Sources<V>, program: impl AsyncFnOnce(Config) -> Result<ExitCode, BoxError>) -> ExitCode
where
    V: IntoIterator<Item = (OsString, OsString)>,
{
    let only_check = sources.flags.check_config;
    let loaded = match Config::load(sources) {
        Ok(loaded) => loaded,
        Err(error) => {
            say(&error.to_string());
            return ExitCode::from(EXIT_CONFIG);
        }
    };
    if only_check {
        loaded.warnings.iter().for_each(|warning| say(warning));
        say("the configuration can work");
        return ExitCode::SUCCESS;
    }
    telemetry::start(loaded.config.log_profile, loaded.config.level_filter());
    for warning in &loaded.warnings {
        warn!("{warning}");
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            error!("cannot start: {error}");
            return ExitCode::from(EXIT_CRASH);
        }
    };
    let code = runtime.block_on(program(loaded.config)).unwrap_or_else(|error| {
        let is_config = error.downcast_ref::<BrokerError>().is_some();
        error!(error = %chain(error.as_ref()), "{}", chain(error.as_ref()));
        ExitCode::from(if is_config { EXIT_CONFIG } else { EXIT_CRASH })
    });
    runtime.shutdown_background();
    code
}

/// Returns the link to the broker that the configuration names.
///
/// # Errors
///
/// [`BrokerError`]; whether the broker is there shows later.
pub fn broker(config: &Config) -> Result<Arc<dyn Link>, BrokerError> {
    let url = config.amqp_url.as_ref().ok_or(BrokerError::NoUrl)?;
    let urls = AmqpConfig::parse_urls(url.expose_secret())?;
    let mut amqp = AmqpConfig::new(urls, config.fleet.clone());
    amqp.tls = config.amqp_tls.clone();
    amqp.tls.check()?;
    if config.role == config::Role::Worker {
        amqp.role = topology::Role::Worker;
    }
    Ok(Arc::new(AmqpLink::new(amqp)?))
}

/// Returns the message of an error and of all that caused it, in one line; a cause that an error says itself is not said again.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.ends_with(&said) {
            text = format!("{text}: {said}");
        }
        cause = error.source();
    }
    text
}

#[expect(
    clippy::print_stderr,
    reason = "logging has not started yet: what is wrong with its configuration is told plainly"
)]
fn say(text: &str) {
    eprintln!("{text}");
}
