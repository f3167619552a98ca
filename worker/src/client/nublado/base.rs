//! Base URLs of hub and labs, and what lies below them.

use url::{Host, Url};

/// A base URL. What is below it may get the user's token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Base {
    /// Without query and fragment; its path does not end with a slash, unless it is nothing else.
    url: Url,
}

impl Base {
    pub(super) fn parse(text: &str) -> Result<Self, url::ParseError> {
        let mut url = Url::parse(text.trim_end_matches('/'))?;
        url.set_query(None);
        url.set_fragment(None);
        Ok(Self { url })
    }

    /// Returns the URL of a path below it.
    pub(super) fn join(&self, path: &str) -> Url {
        let mut url = self.url.clone();
        let base = url.path().trim_end_matches('/').to_owned();
        url.set_path(&format!("{base}/{path}"));
        url
    }

    /// Returns whether a URL is this one or below it.
    pub(super) fn contains(&self, url: &Url) -> bool {
        let base = self.url.path().trim_end_matches('/');
        let rest = url.path().strip_prefix(base);
        url.origin() == self.url.origin() && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// Returns the base of a user's labs, if this URL leads to a host of the user's own beside or below the hub's.
    pub(super) fn subdomain(&self, user: &str, url: &Url) -> Option<Self> {
        let (Some(Host::Domain(hub)), Some(Host::Domain(host))) = (self.url.host(), url.host()) else {
            return None;
        };
        let domain = host.strip_prefix(user)?.strip_prefix('.')?;
        let below = |one: &str, other: &str| one.strip_suffix(other).is_some_and(|rest| rest.ends_with('.'));
        let is_related = domain == hub || below(domain, hub) || (domain.contains('.') && below(hub, domain));
        if host == hub || !is_related || url.scheme() != self.url.scheme() {
            return None;
        }
        let mut base = self.url.clone();
        base.set_host(Some(host)).ok()?;
        base.set_port(url.port()).ok()?;
        Some(Self { url: base })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(text: &str) -> Base {
        Base::parse(text).unwrap()
    }

    fn url(text: &str) -> Url {
        text.parse().unwrap()
    }

    #[test]
    fn what_only_looks_alike_is_not_below() {
        for hub in ["https://example.org/nb", "https://example.org/nb/"] {
            let hub = base(hub);
            assert_eq!(hub.join("hub/home"), url("https://example.org/nb/hub/home"));
            assert!(
                hub.contains(&url("https://example.org/nb")) && hub.contains(&url("https://example.org/nb/hub?a=b"))
            );
            for other in [
                "https://example.org/nbx",
                "http://example.org/nb",
                "https://example.org:8443/nb",
                "https://a.org/nb",
            ] {
                assert!(!hub.contains(&url(other)), "{other}");
            }
        }
        let root = base("https://example.org");
        assert_eq!(root.join("hub/home"), url("https://example.org/hub/home"));
        assert!(root.contains(&url("https://example.org/a")) && !root.contains(&url("https://example.org.evil.com/a")));
    }

    #[test]
    fn only_hosts_of_the_hubs_own_domain_are_a_users_subdomain() {
        let hub = base("https://nb.example.org:8443/nb");
        let lab = hub.subdomain("bob", &url("https://bob.nb.example.org:8443/nb/user/bob/lab"));
        assert_eq!(lab, Some(base("https://bob.nb.example.org:8443/nb")));
        assert!(
            hub.subdomain("bob", &url("https://bob.example.org/nb/user/bob/lab"))
                .is_some()
        );
        for other in [
            "https://bob.evil.com/nb",
            "https://bob.org/nb",
            "https://bobnb.example.org/nb",
            "http://bob.nb.example.org/nb",
            "https://alice.nb.example.org/nb",
            "https://nb.example.org/nb",
            "https://127.0.0.1/nb",
        ] {
            assert_eq!(hub.subdomain("bob", &url(other)), None, "{other}");
        }
    }
}
