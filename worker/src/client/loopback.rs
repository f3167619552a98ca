//! Names below `localhost` mean this host, as browsers have it (RFC 6761 6.3) and system resolvers often do not. Hubs that give
//! each user a subdomain can so be tried on one's own machine.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Asks the system for all other names.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Loopback;

impl Resolve for Loopback {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let host = name.as_str().trim_end_matches('.');
            // The port is set by whoever asks.
            let addresses: Vec<SocketAddr> = if host.to_ascii_lowercase().ends_with(".localhost") {
                let hosts = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
                hosts.map(|host| SocketAddr::new(host, 0)).into()
            } else {
                tokio::net::lookup_host((host, 0)).await?.collect()
            };
            Ok::<Addrs, _>(Box::new(addresses.into_iter()))
        })
    }
}
