//! What may be repeated of an answer: nothing of what let its request in, should the service send that back.

use mobu_fleet::domain::business::{HttpRequest, lets_in, split_user_info};
use secrecy::SecretString;
use url::Url;

use crate::client::shown::{excerpt, spellings, without_token};

/// Shortest secret that is hidden, in bytes: whoever may read a log guesses shorter ones, and hiding them hides everything else.
const SHORTEST: usize = 4;
/// Shortest user name in a URL that may be a token by itself.
const LIKE_A_TOKEN: usize = 16;

/// The secrets of one request: the user's token, and what its author wrote into headers, parameters, body and URL. They are looked for when
/// something has failed, not before.
#[derive(Clone, Copy)]
pub(super) struct Veil<'a> {
    pub(super) request: &'a HttpRequest,
    /// Where it was sent, whole.
    pub(super) url: &'a Url,
    pub(super) token: &'a SecretString,
}

impl Veil<'_> {
    /// Returns the beginning of an answer's body or header without the secrets.
    pub(super) fn excerpt(&self, bytes: &[u8]) -> String {
        excerpt(self.hide(&String::from_utf8_lossy(bytes)).as_bytes())
    }

    /// Returns a text without the secrets, also without one that its end cuts off.
    pub(super) fn hide(&self, text: &str) -> String {
        let secrets = self.secrets();
        let mut shown = without_token(text, self.token);
        for secret in &secrets {
            if shown.contains(secret.as_str()) {
                shown = shown.replace(secret.as_str(), "***");
            }
        }
        let cut_off = secrets.iter().filter_map(|secret| {
            let mut ends = (SHORTEST..secret.len())
                .rev()
                .filter(|end| secret.is_char_boundary(*end));
            ends.find(|end| shown.ends_with(&secret[..*end]))
        });
        if let Some(length) = cut_off.max() {
            shown.truncate(shown.len() - length);
            shown.push_str("***");
        }
        shown
    }

    /// Returns every secret in every spelling in which a service may repeat it, the longest first: the whole goes before its parts.
    fn secrets(&self) -> Vec<String> {
        let mut secrets: Vec<_> = self
            .request
            .secrets()
            .iter()
            .flat_map(|secret| spelled(secret))
            .collect();
        if let Some((_, rest)) = self.url.as_str().split_once("://")
            && let (Some(written), _) = split_user_info(rest)
        {
            let (user, password) = written.split_once(':').unwrap_or((written, ""));
            secrets.extend(spelled(password));
            secrets.extend(spelled(user).into_iter().filter(|user| user.len() >= LIKE_A_TOKEN));
        }
        let pairs = self.url.query().unwrap_or_default().split('&');
        let pairs = pairs.filter_map(|pair| pair.split_once('='));
        secrets.extend(
            pairs
                .filter(|(name, _)| lets_in(name))
                .flat_map(|(_, value)| spelled(value)),
        );
        secrets.retain(|secret| secret.len() >= SHORTEST);
        secrets.sort_by(|one, other| other.len().cmp(&one.len()).then_with(|| one.cmp(other)));
        secrets.dedup();
        secrets
    }
}

/// Returns a text as it is written, as it is meant, as a URL has it, as JSON has it, and as our own messages do.
fn spelled(secret: &str) -> Vec<String> {
    let mut spelled = spellings(secret).to_vec();
    spelled.push(serde_json::Value::from(secret).to_string().trim_matches('"').to_owned());
    spelled.push(secret.escape_debug().to_string());
    spelled
}

#[cfg(test)]
mod tests {
    use mobu_fleet::domain::business::BusinessOptions;
    use mobu_fleet::domain::flock::FlockConfig;
    use serde_json::{Value, json};

    use super::*;

    fn hidden(request: &Value, text: &str) -> String {
        let flock = FlockConfig::parse(&json!({
            "name": "a", "count": 1, "user_spec": {"username_prefix": "bot-mobu-a"}, "scopes": [],
            "business": {"type": "HTTPRunner", "options": {"requests": [request]}},
        }))
        .unwrap();
        let BusinessOptions::HttpRunner(options) = &flock.business.options else {
            unreachable!()
        };
        let veil = Veil {
            request: &options.requests[0],
            url: &request["url"].as_str().unwrap().parse().unwrap(),
            token: &SecretString::from("gt-key.secret"),
        };
        veil.hide(text)
    }

    #[test]
    fn what_let_a_request_in_is_hidden_however_it_comes_back() {
        let request = json!({
            "url": "https://me:p%40ssword@x.test/?token=in%20url&page=1",
            "headers": {"authorization": "Bearer one\"two", "x-page": "page"},
            "json": {"password": "three"},
        });
        for (text, shown) in [
            ("Bearer one\"two!", "***!"),
            ("{\"auth\": \"one\\\"two\"}", "{\"auth\": \"***\"}"),
            ("one%22two", "***"),
            ("three, page 1, of p@ssword, p%40ssword", "***, page 1, of ***, ***"),
            ("in url, in%20url", "***, ***"),
            ("gt-key.secret", "gt-key.***"),
            ("it ends with one\"t", "it ends with ***"),
            ("nothing", "nothing"),
        ] {
            assert_eq!(hidden(&request, text), shown, "{text}");
        }
    }
}
