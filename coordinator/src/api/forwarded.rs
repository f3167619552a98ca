//! What proxies say about a request (`contracts/rest-api.md` 1.1).

use http::header::HOST;
use http::{HeaderMap, HeaderName, HeaderValue};
use mobu_fleet::runtime::http::Peer;

const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Returns the entries of a header that is there exactly once.
fn entries(headers: &HeaderMap, name: &HeaderName) -> Option<Vec<String>> {
    let mut given = headers.get_all(name).iter();
    let (Some(only), None) = (given.next(), given.next()) else {
        return None;
    };
    let text = only.to_str().ok()?;
    Some(text.split(',').map(|entry| entry.trim().to_owned()).collect())
}

/// Returns who calls, by the last proxy or else by the connection.
pub(super) fn client(headers: &HeaderMap, peer: Option<Peer>) -> String {
    let forwarded = entries(headers, &FOR).and_then(|mut entries| entries.pop());
    forwarded.unwrap_or_else(|| peer.map_or_else(String::new, |Peer(address)| address.ip().to_string()))
}

/// Returns the scheme by which the client came.
fn scheme(headers: &HeaderMap) -> &'static str {
    let Some(clients) = entries(headers, &FOR) else {
        return "http";
    };
    let protocols = entries(headers, &PROTO).unwrap_or_default();
    let chosen = match protocols.as_slice() {
        [only] => Some(only),
        several if several.len() == clients.len() => several.last(),
        _ => None,
    };
    // Nothing but these two can be the scheme of a request.
    if chosen.is_some_and(|scheme| scheme == "https") {
        "https"
    } else {
        "http"
    }
}

/// Returns the absolute URL of a path on this service; only the path if the client named no host.
pub(super) fn absolute(headers: &HeaderMap, path: &str) -> Option<HeaderValue> {
    let Some(host) = headers.get(HOST) else {
        return HeaderValue::from_str(path).ok();
    };
    let mut url = format!("{}://", scheme(headers)).into_bytes();
    url.extend_from_slice(host.as_bytes());
    url.extend_from_slice(path.as_bytes());
    HeaderValue::from_bytes(&url).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(given: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in given {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn the_scheme_comes_from_the_proxy_only_beside_one_list_of_clients() {
        for (given, expected) in [
            (vec![("x-forwarded-proto", "https")], "http"),
            (
                vec![("x-forwarded-for", "1.2.3.4"), ("x-forwarded-proto", "https")],
                "https",
            ),
            (
                vec![("x-forwarded-for", "1.2.3.4, 5.6.7.8"), ("x-forwarded-proto", "https")],
                "https",
            ),
            (
                vec![
                    ("x-forwarded-for", "1.2.3.4, 5.6.7.8"),
                    ("x-forwarded-proto", "http, https"),
                ],
                "https",
            ),
            (
                vec![("x-forwarded-for", "1.2.3.4"), ("x-forwarded-proto", "https, https")],
                "http",
            ),
            (
                vec![
                    ("x-forwarded-for", "1.2.3.4"),
                    ("x-forwarded-for", "5.6.7.8"),
                    ("x-forwarded-proto", "https"),
                ],
                "http",
            ),
            (
                vec![("x-forwarded-for", "1.2.3.4"), ("x-forwarded-proto", "gopher")],
                "http",
            ),
        ] {
            assert_eq!(scheme(&headers(&given)), expected, "{given:?}");
        }
    }

    #[test]
    fn the_client_is_the_last_that_a_proxy_saw() {
        let peer = Some(Peer("127.0.0.1:1".parse().unwrap()));
        assert_eq!(
            client(&headers(&[("x-forwarded-for", "1.2.3.4, 5.6.7.8")]), peer),
            "5.6.7.8"
        );
        assert_eq!(client(&headers(&[]), peer), "127.0.0.1");
    }

    #[test]
    fn a_forwarded_host_is_ignored() {
        let given = headers(&[("host", "a.example"), ("x-forwarded-host", "b.example")]);
        assert_eq!(absolute(&given, "/mobu/").unwrap(), "http://a.example/mobu/");
    }
}
