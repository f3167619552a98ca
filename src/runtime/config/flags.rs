//! The flags that every process of a fleet has.

use std::path::PathBuf;

/// Flags, which go before the environment and the file. They are texts, so that their mistakes are reported with all
/// others, in the same words.
///
/// There is no flag for a secret: everybody on the machine could read it.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
pub struct Flags {
    /// Configuration file [default: $`MOBU_CONFIG_PATH`, or /etc/mobu/config.yaml if it exists]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Say what is wrong with the configuration, and exit
    #[arg(long)]
    pub check_config: bool,
    /// Where to listen for HTTP; port 0 takes any free one
    #[arg(long, value_name = "IP:PORT")]
    pub http_bind: Option<String>,
    /// Name of the fleet
    #[arg(long, value_name = "NAME")]
    pub fleet: Option<String>,
    /// How many replicas the fleet is meant to have
    #[arg(long, value_name = "N")]
    pub replica_count: Option<String>,
    /// Name of this replica for life
    #[arg(long, value_name = "ID")]
    pub instance_id: Option<String>,
    /// Least severity that is logged: debug, info, warning, error or critical
    #[arg(long, value_name = "LEVEL")]
    pub log_level: Option<String>,
    /// Form of the log: development (text) or production (JSON lines)
    #[arg(long, value_name = "PROFILE")]
    pub log_profile: Option<String>,
}

impl Flags {
    /// Returns the flags that were given, by the path of their key.
    pub(super) fn given(&self) -> impl Iterator<Item = (&'static str, &str)> {
        [
            ("httpBind", &self.http_bind),
            ("fleet", &self.fleet),
            ("replicaCount", &self.replica_count),
            ("instanceId", &self.instance_id),
            ("logLevel", &self.log_level),
            ("logProfile", &self.log_profile),
        ]
        .into_iter()
        .filter_map(|(path, value)| Some((path, value.as_deref()?)))
    }
}
