//! Where events go (`contracts/config.md` 5).

use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;
use url::Url;

use super::settings::secret;
use crate::domain::discovery::http_url;
use crate::domain::duration::HumanDuration;
use crate::domain::validation::{Extra, Fields, FromInput, Input, Parsed, choices};

choices! {
    /// How to speak with Kafka.
    SecurityProtocol, "enum", any_case = false, {
        /// In the open.
        Plaintext = "PLAINTEXT",
        /// Over TLS, with certificates on both sides.
        Ssl = "SSL",
        /// In the open, after logging in.
        SaslPlaintext = "SASL_PLAINTEXT",
        /// Over TLS, after logging in.
        SaslSsl = "SASL_SSL",
    }
}

choices! {
    /// How to log in to Kafka.
    SaslMechanism, "enum", any_case = false, {
        /// By sending the password.
        Plain = "PLAIN",
        /// By proving knowledge of the password, with SHA-256.
        ScramSha256 = "SCRAM-SHA-256",
        /// By proving knowledge of the password, with SHA-512.
        ScramSha512 = "SCRAM-SHA-512",
    }
}

/// What becomes of events.
#[derive(Debug, Clone)]
pub enum MetricsConfig {
    /// They are kept in memory, for tests.
    Mock {
        /// Who sends them.
        application: String,
    },
    /// They are dropped.
    Disabled {
        /// Who sends them.
        application: String,
    },
    /// They go to Kafka.
    Kafka(Box<KafkaMetrics>),
}

/// How events get to Kafka. That certificates exist is checked by whoever opens them.
#[derive(Debug, Clone)]
pub struct KafkaMetrics {
    /// Who sends them.
    pub application: String,
    /// The topic, up to the application's name.
    pub topic_prefix: String,
    /// The registry of schemas.
    pub registry_url: Url,
    /// What is added to each subject's name; may be empty.
    pub registry_suffix: String,
    /// Hosts and ports, separated by commas.
    pub bootstrap_servers: String,
    /// How to speak with them.
    pub security_protocol: SecurityProtocol,
    /// The authority that signed their certificates; there with `SSL`.
    pub cluster_ca_path: Option<PathBuf>,
    /// Our certificate; there with `SSL`.
    pub client_cert_path: Option<PathBuf>,
    /// Our key; there with `SSL`.
    pub client_key_path: Option<PathBuf>,
    /// How to log in; there with SASL.
    pub sasl_mechanism: Option<SaslMechanism>,
    /// As whom; there with SASL.
    pub sasl_username: Option<String>,
    /// With what; there with SASL.
    pub sasl_password: Option<SecretString>,
    /// Whether trouble fails what caused the event, instead of being logged.
    pub raise_on_error: bool,
    /// Pause after an event that could not be sent.
    pub backoff_interval: Duration,
}

/// The topic's beginning unless given.
const TOPIC_PREFIX: &str = "lsst.square.metrics.events";
/// Pause after a failure unless given.
const BACKOFF: HumanDuration = HumanDuration::from_seconds(300);

fn text(input: &Input<'_>) -> Option<Parsed<String>> {
    input.text(1, usize::MAX)
}

fn path(input: &Input<'_>) -> Option<Parsed<PathBuf>> {
    Some(text(input)?.map(PathBuf::from))
}

/// How to reach Kafka.
struct Kafka {
    bootstrap_servers: String,
    security_protocol: SecurityProtocol,
    cluster_ca_path: Option<PathBuf>,
    client_cert_path: Option<PathBuf>,
    client_key_path: Option<PathBuf>,
    sasl_mechanism: Option<SaslMechanism>,
    sasl_username: Option<String>,
    sasl_password: Option<SecretString>,
}

/// Reads a key that some protocols require.
fn when<T>(
    is_required: bool,
    fields: &mut Fields<'_>,
    key: &'static str,
    read: impl FnOnce(&Input<'_>) -> Option<Parsed<T>>,
) -> Option<T> {
    if is_required {
        fields.required_by(key, read)
    } else {
        fields.nullable_by(key, read)
    }
}

impl FromInput for Kafka {
    fn from_input(input: &Input<'_>) -> Option<Parsed<Self>> {
        use SecurityProtocol::{SaslPlaintext, SaslSsl, Ssl};

        let mut fields = input.model("Kafka")?;
        let bootstrap_servers = fields.required_by("bootstrapServers", text);
        let security_protocol = fields.required("securityProtocol");
        let needs_certificates = security_protocol == Some(Ssl);
        let needs_login = matches!(security_protocol, Some(SaslPlaintext | SaslSsl));
        let cluster_ca_path = when(needs_certificates, &mut fields, "clusterCaPath", path);
        let client_cert_path = when(needs_certificates, &mut fields, "clientCertPath", path);
        let client_key_path = when(needs_certificates, &mut fields, "clientKeyPath", path);
        let sasl_mechanism = when(needs_login, &mut fields, "saslMechanism", SaslMechanism::from_input);
        let sasl_username = when(needs_login, &mut fields, "saslUsername", text);
        let sasl_password = when(needs_login, &mut fields, "saslPassword", secret);
        let echo = fields.close(Extra::Forbidden)?;
        let kafka = Self {
            bootstrap_servers: bootstrap_servers?,
            security_protocol: security_protocol?,
            cluster_ca_path,
            client_cert_path,
            client_key_path,
            sasl_mechanism,
            sasl_username,
            sasl_password,
        };
        Some(Parsed::new(kafka, echo))
    }
}

fn topic_prefix(input: &Input<'_>) -> Option<Parsed<String>> {
    let mut fields = input.model("Events")?;
    let prefix = fields.or_by("topicPrefix", TOPIC_PREFIX.to_owned(), text);
    Some(Parsed::new(prefix, fields.close(Extra::Forbidden)?))
}

fn registry(input: &Input<'_>) -> Option<Parsed<(Url, String)>> {
    let mut fields = input.model("SchemaManager")?;
    let url = fields.required_by("registryUrl", http_url);
    let suffix = fields.or("suffix", String::new());
    let echo = fields.close(Extra::Forbidden)?;
    Some(Parsed::new((url?, suffix), echo))
}

impl FromInput for MetricsConfig {
    fn from_input(input: &Input<'_>) -> Option<Parsed<Self>> {
        let mut fields = input.model("Metrics")?;
        let is_enabled = fields.or("enabled", true);
        let is_mock = fields.or("mock", false);
        let application = fields.required_by("application", text);
        if !is_enabled {
            // The other keys may be there, so that a chart need not choose which to write.
            let echo = fields.close(Extra::Ignored)?;
            let application = application?;
            let config = if is_mock {
                Self::Mock { application }
            } else {
                Self::Disabled { application }
            };
            return Some(Parsed::new(config, echo));
        }
        let topic_prefix = fields.or_by("events", TOPIC_PREFIX.to_owned(), topic_prefix);
        let registry = fields.required_by("schemaManager", registry);
        let kafka = fields.required::<Kafka>("kafka");
        let raise_on_error = fields.or("raiseOnError", false);
        let backoff_interval = fields.or("backoffInterval", BACKOFF);
        let echo = fields.close(Extra::Forbidden)?;
        let (kafka, (registry_url, registry_suffix)) = (kafka?, registry?);
        let config = Self::Kafka(Box::new(KafkaMetrics {
            application: application?,
            topic_prefix,
            registry_url,
            registry_suffix,
            bootstrap_servers: kafka.bootstrap_servers,
            security_protocol: kafka.security_protocol,
            cluster_ca_path: kafka.cluster_ca_path,
            client_cert_path: kafka.client_cert_path,
            client_key_path: kafka.client_key_path,
            sasl_mechanism: kafka.sasl_mechanism,
            sasl_username: kafka.sasl_username,
            sasl_password: kafka.sasl_password,
            raise_on_error,
            backoff_interval: backoff_interval.to_std(),
        }));
        Some(Parsed::new(config, echo))
    }
}
