//! Where the broker is and how long it may take.

use std::fmt;
use std::time::Duration;

use lapin::uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo};
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::tls::TlsFiles;
use crate::domain::ids::FleetName;
use crate::link::topology::Role;

/// Heartbeat in seconds unless the URL names another. A silent peer is noticed after 2 to 3 of them; the
/// broker's documentation warns of false alarms below 5.
const HEARTBEAT: u16 = 5;

/// Largest frame in bytes unless the URL names another. lapin keeps, and fills, two buffers of 32 frames for each connection: 8 MiB at
/// the broker's 128 KiB. Longer messages travel in several frames.
const FRAME_MAX: u32 = 16 * 1024;

/// Why a broker URL cannot be used. Never contains the URL: that may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "broker URL {position} of {count} is not usable: {problem}; right would be `amqp://user:password@host:5672/vhost`"
)]
pub struct InvalidBrokerUrl {
    position: usize,
    count: usize,
    problem: String,
}

/// How to reach a fleet's broker.
#[derive(Debug, Clone)]
pub struct AmqpConfig {
    /// `amqp://` or `amqps://` URLs of one broker or of the nodes of one cluster, at least one. The first is tried first, the others in
    /// random order, so that a fleet that lost a node spreads over the rest.
    ///
    /// User, password and virtual host may be percent-encoded, and must be where they contain `/ : @ , ? #`. Without a user it is `guest`; without a virtual host it
    /// is `/`. Query keys: `heartbeat` (seconds, 1 to 3600, default 5), `frame_max` (bytes, 4096 up, default 16384) and
    /// `channel_max`.
    pub urls: Vec<SecretString>,
    /// Whose exchanges and queues.
    pub fleet: FleetName,
    /// Whom `amqps://` trusts besides the authorities that the system knows, and what it shows. Sessions can use it; a pool of
    /// connections ([`super::client::AmqpClient`]) cannot, because deadpool-lapin has no way to pass it on: for that, add
    /// the authority to the system's store.
    pub tls: TlsFiles,
    /// As what to log in. Who is no coordinator looks for durable objects first and makes them only if they are not there: each refusal
    /// would be a line in the broker's log.
    pub role: Role,
    /// How long the broker may take to answer one operation.
    pub operation_timeout: Duration,
    /// How long one URL may take from the first packet to the end of the handshake.
    pub connect_timeout: Duration,
}

impl AmqpConfig {
    /// Makes a configuration of a coordinator with the default time limits: 5 s for an operation, 10 s to connect.
    pub fn new(urls: Vec<SecretString>, fleet: FleetName) -> Self {
        Self {
            urls,
            fleet,
            tls: TlsFiles::default(),
            role: Role::Coordinator,
            operation_timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(10),
        }
    }

    /// Splits a list of URLs at its commas and checks each.
    ///
    /// # Errors
    ///
    /// [`InvalidBrokerUrl`] names the first that cannot be used, by its position.
    ///
    /// ```
    /// use mobu_fleet::link::amqp::AmqpConfig;
    ///
    /// assert_eq!(AmqpConfig::parse_urls("amqp://a:pw@rabbit-0/, amqp://a:pw@rabbit-1/")?.len(), 2);
    /// let wrong = AmqpConfig::parse_urls("http://a:secret@rabbit-0").unwrap_err().to_string();
    /// assert!(wrong.contains("`http`") && !wrong.contains("secret"));
    /// # Ok::<(), mobu_fleet::link::amqp::InvalidBrokerUrl>(())
    /// ```
    pub fn parse_urls(list: &str) -> Result<Vec<SecretString>, InvalidBrokerUrl> {
        let urls: Vec<_> = list
            .split(',')
            .map(|url| SecretString::from(url.trim().to_owned()))
            .collect();
        parse_all(&urls)?;
        Ok(urls)
    }

    pub(super) fn brokers(&self) -> Result<Vec<BrokerUrl>, InvalidBrokerUrl> {
        parse_all(&self.urls)
    }
}

fn parse_all(urls: &[SecretString]) -> Result<Vec<BrokerUrl>, InvalidBrokerUrl> {
    let count = urls.len();
    if urls.is_empty() {
        return Err(InvalidBrokerUrl {
            position: 0,
            count,
            problem: "there is none".to_owned(),
        });
    }
    urls.iter()
        .enumerate()
        .map(|(index, url)| {
            BrokerUrl::parse(url.expose_secret()).map_err(|problem| InvalidBrokerUrl {
                position: index + 1,
                count,
                problem,
            })
        })
        .collect()
}

/// A broker URL taken apart. Its debug form is host and port alone.
#[derive(Clone)]
pub(super) struct BrokerUrl {
    uri: AMQPUri,
}

impl fmt::Debug for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BrokerUrl").field(&self.host()).finish()
    }
}

impl BrokerUrl {
    /// Parses by our own rules, because lapin's parser takes an IPv6 address for `localhost`, ignores misspelt query keys and
    /// repeats the URL in its errors.
    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("it is empty".to_owned());
        }
        let url = Url::parse(text).map_err(|error| error.to_string())?;
        let scheme = match url.scheme() {
            "amqp" => AMQPScheme::AMQP,
            "amqps" => AMQPScheme::AMQPS,
            other => return Err(format!("its scheme is `{other}`, not `amqp` or `amqps`")),
        };
        let host = match url.host_str() {
            None | Some("") => return Err("it names no host".to_owned()),
            Some(host) => host.trim_start_matches('[').trim_end_matches(']').to_owned(),
        };
        let userinfo = match (url.username(), url.password()) {
            ("", None) => AMQPUserInfo::default(),
            ("", Some(_)) => return Err("it has a password but no user".to_owned()),
            (_, None) => return Err("it has a user but no password".to_owned()),
            (username, Some(password)) => AMQPUserInfo {
                username: decode(username, "user")?,
                password: decode(password, "password")?,
            },
        };
        if url.fragment().is_some() {
            return Err("it has a `#` part; in a password write %23".to_owned());
        }
        Ok(Self {
            uri: AMQPUri {
                authority: AMQPAuthority {
                    userinfo,
                    host,
                    port: url.port().unwrap_or_else(|| scheme.default_port()),
                },
                scheme,
                vhost: vhost(url.path())?,
                query: query(&url)?,
            },
        })
    }

    /// Host and port.
    pub(super) fn host(&self) -> String {
        let AMQPAuthority { host, port, .. } = &self.uri.authority;
        if host.contains(':') {
            format!("[{host}]:{port}")
        } else {
            format!("{host}:{port}")
        }
    }

    /// The user's name.
    pub(super) fn user(&self) -> &str {
        &self.uri.authority.userinfo.username
    }

    /// The virtual host.
    pub(super) fn vhost(&self) -> &str {
        &self.uri.vhost
    }

    /// For lapin; holds the password.
    pub(super) fn uri(&self) -> AMQPUri {
        self.uri.clone()
    }

    /// Returns whether the host is an IPv6 address, which lapin's own parser cannot read.
    pub(super) fn is_ipv6(&self) -> bool {
        self.uri.authority.host.contains(':')
    }
}

fn vhost(path: &str) -> Result<String, String> {
    match path.strip_prefix('/').unwrap_or(path) {
        // The standard reads a lone slash as the virtual host with the empty name, which nobody has.
        "" => Ok("/".to_owned()),
        name if name.contains('/') => Err("its virtual host has a `/`; write %2F".to_owned()),
        name => decode(name, "virtual host"),
    }
}

fn query(url: &Url) -> Result<AMQPQueryString, String> {
    let mut query = AMQPQueryString {
        heartbeat: Some(HEARTBEAT),
        frame_max: Some(FRAME_MAX),
        ..AMQPQueryString::default()
    };
    for (key, value) in url.query_pairs() {
        // What stands here is not repeated: behind a `?` that should have been escaped it is the rest of a password.
        let wrong = |range: &str| format!("`{key}` is not a number from {range}");
        match &*key {
            "heartbeat" => {
                let seconds = value.parse().ok().filter(|seconds| (1..=3600).contains(seconds));
                query.heartbeat = Some(seconds.ok_or_else(|| wrong("1 to 3600"))?);
            }
            "frame_max" => {
                let bytes = value.parse().ok().filter(|bytes| *bytes >= 4096);
                query.frame_max = Some(bytes.ok_or_else(|| wrong("4096 up"))?);
            }
            "channel_max" => {
                // A session has at most a dozen channels open at once.
                let channels = value.parse().ok().filter(|channels| *channels >= 32);
                query.channel_max = Some(channels.ok_or_else(|| wrong("32 to 65535"))?);
            }
            _ => {
                return Err(
                    "a query key is unknown (known: heartbeat, frame_max, channel_max; in a password write %3F for `?`)"
                        .to_owned(),
                );
            }
        }
    }
    Ok(query)
}

/// Undoes percent-encoding, through the one function of the `url` crate that does.
fn decode(text: &str, what: &str) -> Result<String, String> {
    let escaped = text.replace('+', "%2B").replace('&', "%26").replace('=', "%3D");
    let (decoded, _) = url::form_urlencoded::parse(escaped.as_bytes())
        .next()
        .unwrap_or_default();
    if decoded.contains('\u{fffd}') || decoded.contains('\0') {
        return Err(format!("its {what} is not UTF-8 text after percent-decoding"));
    }
    Ok(decoded.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(url: &str) -> String {
        AmqpConfig::parse_urls(url).unwrap_err().to_string()
    }

    #[test]
    fn each_mistake_is_named_and_no_password_is_shown() {
        for (url, words) in [
            ("", "it is empty"),
            ("rabbit", "relative URL"),
            ("http://u:hunter2@h", "`http`"),
            ("amqp://u:hunter2@/x", "host"),
            ("amqp://u@h", "no password"),
            ("amqp://:hunter2@h", "no user"),
            ("amqp://u:hunter2@h/a/b", "%2F"),
            ("amqp://u:hunter2@h/?heartbeat=0", "1 to 3600"),
            ("amqp://u:hunter2@h/?hearbeat=5", "a query key is unknown"),
            ("amqp://u:hunter2@h:99999/", "port"),
            ("amqp://u:hunter2@h/#x", "%23"),
            ("amqp://u:%ff@h", "UTF-8"),
            ("amqp:opaque", "host"),
        ] {
            let text = problem(url);
            assert!(text.contains(words), "{url}: {text}");
            assert!(!text.contains("hunter2"), "{text}");
        }
        assert!(problem("amqp://u:p@h,").starts_with("broker URL 2 of 2"));
        assert!(AmqpConfig::new(Vec::new(), "t".parse().unwrap()).brokers().is_err());
    }

    #[test]
    fn all_parts_of_a_url_are_read() {
        let broker = BrokerUrl::parse("amqps://us%20er:p%40ss+word%26=@[::1]/my%2Fhost?heartbeat=2").unwrap();
        let uri = broker.uri();
        assert_eq!(broker.user(), "us er");
        assert_eq!(uri.authority.userinfo.password, "p@ss+word&=");
        assert_eq!(broker.host(), "[::1]:5671");
        assert_eq!(broker.vhost(), "my/host");
        assert_eq!(uri.query.heartbeat, Some(2));
        let plain = BrokerUrl::parse("amqp://rabbit").unwrap();
        assert_eq!(
            (plain.vhost(), plain.user(), plain.host().as_str()),
            ("/", "guest", "rabbit:5672")
        );
        assert_eq!(plain.uri().query.heartbeat, Some(5));
        assert_eq!(plain.uri().query.frame_max, Some(16384));
        assert!(!format!("{broker:?}").contains("p@ss"));
    }
}
