//! HTTP clients: one TLS configuration for the whole process, cookies and connections for each monkey alone.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use reqwest::cookie::{CookieStore, Jar};
use reqwest::redirect::Policy;
use reqwest::{Client, ClientBuilder};
use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt;
use tracing::warn;

use super::loopback::Loopback;

/// Name under which we show up in the logs of others.
pub(super) const USER_AGENT: &str = concat!("mobu-fleet/", env!("CARGO_PKG_VERSION"));

/// Most redirects that one request follows.
pub(crate) const MOST_REDIRECTS: usize = 10;

/// Read once: the system's certificates take milliseconds and a megabyte, which a hundred thousand monkeys share.
static TLS: LazyLock<ClientConfig> = LazyLock::new(tls);

/// Makes a client for one monkey, that leaves redirects to its user.
pub(crate) fn for_monkey(jar: Arc<Jar>) -> Result<Client, reqwest::Error> {
    for_monkey_following(Some(jar), None)
}

/// Makes a client for one monkey that follows so many redirects, or leaves them to its user. Without a jar it forgets cookies.
pub(crate) fn for_monkey_following(jar: Option<Arc<Jar>>, most: Option<usize>) -> Result<Client, reqwest::Error> {
    let redirects = most.map_or_else(Policy::none, Policy::limited);
    let mut builder = builder()
        .redirect(redirects)
        // Without a limit, no task of its own looks for idle connections: those of a monkey end with it.
        .pool_idle_timeout(None)
        .pool_max_idle_per_host(1);
    if let Some(jar) = jar {
        builder = builder.cookie_provider(jar);
    }
    builder.build()
}

/// Makes a client that leaves redirects to its user, and waits at most `limit` for the other side. It speaks HTTP/1.1, in which a
/// connection can become a WebSocket.
pub(crate) fn for_browser<C: CookieStore + 'static>(
    cookies: Arc<C>,
    limit: Duration,
) -> Result<Client, reqwest::Error> {
    let mut tls = TLS.clone();
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    Client::builder()
        .user_agent(USER_AGENT)
        .referer(false)
        .tls_backend_preconfigured(tls)
        .http1_only()
        .dns_resolver(Arc::new(Loopback))
        .redirect(Policy::none())
        .cookie_provider(cookies)
        .connect_timeout(limit)
        .read_timeout(limit)
        .pool_idle_timeout(None)
        .pool_max_idle_per_host(1)
        .build()
}

/// Makes a client for services that the replica itself needs.
pub(crate) fn for_service() -> Result<Client, reqwest::Error> {
    builder().redirect(Policy::limited(MOST_REDIRECTS)).build()
}

fn builder() -> ClientBuilder {
    Client::builder()
        .user_agent(USER_AGENT)
        // The URL that led to a redirect may have something in it that is not for everybody; and mobu does not send it.
        .referer(false)
        .tls_backend_preconfigured(TLS.clone())
}

fn tls() -> ClientConfig {
    let provider = CryptoProvider::get_default().cloned();
    let provider = provider.unwrap_or_else(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    let builder = || {
        ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .expect("every provider knows the default versions")
    };
    let mut config = match builder().with_platform_verifier() {
        Ok(verified) => verified.with_no_client_auth(),
        Err(error) => {
            warn!(error = %error, "this system has no certificates to check others by: every https request will fail");
            builder()
                .with_root_certificates(RootCertStore::empty())
                .with_no_client_auth()
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config
}
