//! What may be shown of a URL and of an answer: enough to understand a failure, and no secret.

use std::borrow::Cow;

use mobu_fleet::domain::business::{may_hold_the_host, split_user_info};
use secrecy::{ExposeSecret, SecretString};
use url::Url;

/// Most bytes of an answer that an error repeats.
const EXCERPT: usize = 256;

/// Returns a URL without user, password, fragment and the values of its query.
pub(crate) fn shown_url(url: &Url) -> String {
    let mut shown = url.clone();
    // Both fail for URLs without a host only, and those have neither.
    if shown.set_username("").is_err() || shown.set_password(None).is_err() {
        return shown.scheme().to_owned();
    }
    shown.set_fragment(None);
    if url.query().is_some() {
        let keys: Vec<_> = url.query_pairs().map(|(key, _)| format!("{key}=***")).collect();
        shown.set_query(Some(&keys.join("&")));
    }
    shown.into()
}

/// Shortest second half of a token that is hidden also where it stands alone; shorter ones are nobody's real secret.
const LONE_HALF: usize = 16;

/// Returns a text with a token replaced by its public half; also one that was cut off in the middle of its secret, and a secret
/// half that stands alone.
pub(crate) fn without_token(text: &str, token: &SecretString) -> String {
    hide_token(text, token).into_owned()
}

/// Does what [`without_token`] does, and copies nothing if there is nothing to hide.
pub(crate) fn hide_token<'t>(text: &'t str, token: &SecretString) -> Cow<'t, str> {
    let secret = token.expose_secret();
    let dot = secret.find('.').filter(|_| secret.starts_with("gt-"));
    let Some((stem, hidden)) = dot.map(|dot| secret.split_at(dot + 1)) else {
        return if secret.is_empty() || !text.contains(secret) {
            Cow::Borrowed(text)
        } else {
            Cow::Owned(text.replace(secret, "***"))
        };
    };
    let has_stem = text.len() > stem.len() && text.contains(stem);
    let has_half = |text: &str| hidden.len() >= LONE_HALF && text.len() >= hidden.len() && text.contains(hidden);
    if !has_stem {
        return if has_half(text) {
            Cow::Owned(text.replace(hidden, "***"))
        } else {
            Cow::Borrowed(text)
        };
    }
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(stem) {
        let (before, after) = rest.split_at(at + stem.len());
        shown.push_str(before);
        let same = after
            .bytes()
            .zip(hidden.bytes())
            .take_while(|(one, other)| one == other)
            .count();
        if same > 0 {
            shown.push_str("***");
        }
        // What is equal byte by byte to a prefix of a text ends where one of its characters ends, for tokens are ASCII.
        rest = after.get(same..).unwrap_or_default();
    }
    shown.push_str(rest);
    if has_half(&shown) {
        shown = shown.replace(hidden, "***");
    }
    Cow::Owned(shown)
}

/// Returns a text, or its beginning and its end if it is longer than `most` bytes. What is secret must be gone already: a cut may go
/// through it.
pub(crate) fn shortened(text: &str, most: usize) -> Cow<'_, str> {
    if text.len() <= most {
        return Cow::Borrowed(text);
    }
    let (head, tail) = (first_bytes(text, most / 2), last_bytes(text, most / 2));
    let between = text.len() - head.len() - tail.len();
    Cow::Owned(format!("{head}\n… {between} bytes …\n{tail}"))
}

/// Returns the first `most` bytes of a text, cut between characters.
pub(crate) fn first_bytes(text: &str, most: usize) -> &str {
    let end = (0..=most.min(text.len())).rfind(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or_default()]
}

/// Returns the last `most` bytes of a text, cut between characters.
pub(crate) fn last_bytes(text: &str, most: usize) -> &str {
    let begin = (text.len().saturating_sub(most)..=text.len()).find(|begin| text.is_char_boundary(*begin));
    &text[begin.unwrap_or_default()..]
}

/// Returns the beginning of an answer, with everything escaped that is not plain text.
pub(crate) fn excerpt(body: &[u8]) -> String {
    if body.is_empty() {
        return "an empty body".to_owned();
    }
    let cut = &body[..body.len().min(EXCERPT)];
    let text = String::from_utf8_lossy(cut);
    let more = if body.len() > EXCERPT { "…" } else { "" };
    format!("`{}{more}`", text.escape_debug())
}

/// What nobody may see of what a command says.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Secrets<'a> {
    /// A user's token.
    Token(&'a SecretString),
    /// What somebody wrote into a URL, to get at a repository.
    Url(&'a UrlSecrets),
}

impl Secrets<'_> {
    /// Returns the beginning of a text without the secrets, as [`plain`] does.
    pub(crate) fn plain(self, text: &[u8]) -> String {
        match self {
            Self::Token(token) => plain(text, token),
            Self::Url(secrets) => {
                let hidden = secrets.hide(&String::from_utf8_lossy(text));
                plain(hidden.as_bytes(), &SecretString::default())
            }
        }
    }

    /// Returns the length of the longest secret, in bytes.
    pub(crate) fn longest(self) -> usize {
        match self {
            Self::Token(token) => token.expose_secret().len(),
            Self::Url(UrlSecrets(secrets)) => {
                let lengths = secrets.iter().map(|secret| secret.expose_secret().len());
                lengths.max().unwrap_or_default()
            }
        }
    }
}

/// Shortest name in a URL that may be a secret by itself: tokens of services are longer than what people are called.
const LIKE_A_TOKEN: usize = 16;

/// The secrets of a URL: user and password, as they are written and as they are meant, and the values of its query.
#[derive(Debug, Clone, Default)]
pub(crate) struct UrlSecrets(Vec<SecretString>);

impl UrlSecrets {
    /// Finds the secrets of a text that git takes for the place of a repository, which need not be a URL. Most have none.
    pub(crate) fn of(text: &str) -> Self {
        let Some((_, whole)) = text.split_once("://") else {
            return Self::default();
        };
        let mut secrets = Vec::new();
        let (written, rest) = split_user_info(whole);
        add_secrets(written, rest, &mut secrets);
        if written.is_some_and(may_hold_the_host) {
            // It may mean one thing or another, so each is hidden, and the whole.
            let authority = &whole[..whole.find(['/', '?', '#']).unwrap_or(whole.len())];
            let written = authority.rsplit_once('@').map(|(written, _)| written);
            add_secrets(written, whole, &mut secrets);
            secrets.push(whole.to_owned());
        }
        secrets.retain(|secret| !secret.is_empty());
        // The whole goes before its parts.
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        secrets.dedup();
        Self(secrets.into_iter().map(SecretString::from).collect())
    }

    /// Returns a text without the secrets.
    pub(crate) fn hide(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, secret| {
            let secret = secret.expose_secret();
            let stand_in = if secret.ends_with('@') { "" } else { "***" };
            text.replace(secret, stand_in)
        })
    }
}

/// Adds the secrets of what a URL has as user and password, and of the query behind that.
fn add_secrets(written: Option<&str>, rest: &str, secrets: &mut Vec<String>) {
    if let Some(written) = written {
        let (user, password) = written.split_once(':').unwrap_or((written, ""));
        secrets.push(format!("{written}@"));
        secrets.extend(spellings(password));
        secrets.extend(spellings(user).into_iter().filter(|user| user.len() >= LIKE_A_TOKEN));
    }
    let query = rest.split_once('?').map(|(_, query)| query).unwrap_or_default();
    for pair in query.split('&') {
        secrets.extend(spellings(
            pair.split_once('=').map(|(_, value)| value).unwrap_or_default(),
        ));
    }
}

/// Returns a part of a URL as it is written, as it is meant, and as a browser would write it.
pub(crate) fn spellings(written: &str) -> [String; 3] {
    let pair = format!("x={}", written.replace('+', "%2B"));
    let meant = url::form_urlencoded::parse(pair.as_bytes()).next();
    let meant = meant.map(|(_, value)| value.into_owned()).unwrap_or_default();
    let encoded = url::form_urlencoded::byte_serialize(meant.as_bytes()).collect::<String>();
    [written.to_owned(), meant, encoded.replace('+', "%20")]
}

/// Most bytes of a text that is repeated as it is.
const PLAIN: usize = 2048;

/// Returns the beginning of a text without the token, with control characters escaped except for line ends.
pub(crate) fn plain(text: &[u8], token: &SecretString) -> String {
    let whole = without_token(&String::from_utf8_lossy(text), token);
    let end = (0..=PLAIN.min(whole.len())).rfind(|end| whole.is_char_boundary(*end));
    let cut = &whole[..end.unwrap_or_default()];
    let mut shown = String::with_capacity(cut.len());
    for character in cut.chars() {
        if character.is_control() && character != '\n' {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    if cut.len() < whole.len() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_part_of_a_url_that_may_be_secret_is_shown() {
        let url = "https://user:word@example.org:8443/a/b?token=abc&x=1&flag#frag"
            .parse()
            .unwrap();
        assert_eq!(shown_url(&url), "https://example.org:8443/a/b?token=***&x=***&flag=***");
    }

    #[test]
    fn a_token_in_a_text_becomes_its_public_half() {
        let token = SecretString::from("gt-key.secret");
        assert_eq!(without_token("say gt-key.secret!", &token), "say gt-key.***!");
        assert_eq!(without_token("say gt-key.sec", &token), "say gt-key.***", "cut off");
        assert_eq!(
            without_token("gt-key.*** gt-key.secret gt-key.", &token),
            "gt-key.*** gt-key.*** gt-key."
        );
        assert_eq!(without_token("say plain", &SecretString::from("plain")), "say ***");
        assert_eq!(without_token("say", &SecretString::from("")), "say");
    }

    #[test]
    fn a_secret_half_is_hidden_also_where_its_token_was_cut_off_before() {
        let token = SecretString::from("gt-0123456789abcdefghijkl.ABCDEFGHIJKLMNOPQRSTUV");
        assert_eq!(without_token("…hijkl.ABCDEFGHIJKLMNOPQRSTUV!", &token), "…hijkl.***!");
        let both = "gt-0123456789abcdefghijkl.ABCD ABCDEFGHIJKLMNOPQRSTUV";
        assert_eq!(without_token(both, &token), "gt-0123456789abcdefghijkl.*** ***");
        assert!(matches!(hide_token("nothing to hide", &token), Cow::Borrowed(_)));
    }

    #[test]
    fn of_a_long_text_both_ends_are_shown() {
        assert_eq!(shortened("short", 64), "short");
        let long = format!("begin{}end", "é".repeat(1000));
        let shown = shortened(&long, 64);
        assert!(shown.len() < 128, "{}", shown.len());
        assert!(
            shown.starts_with("begin") && shown.ends_with("end") && shown.contains(" bytes …\n"),
            "{shown}"
        );
    }

    #[test]
    fn what_opens_a_repository_is_hidden_in_every_spelling() {
        let url = "https://me:p%40ss:w@git.test/a.git?key=abc%20d";
        let hidden = UrlSecrets::of(url).hide(&format!("fatal: {url} p@ss:w p%40ss%3Aw `abc d`"));
        assert_eq!(hidden, "fatal: https://git.test/a.git?key=*** *** *** `***`");
        let token = UrlSecrets::of("https://ghp_0123456789abcdef@git.test/a.git");
        assert_eq!(token.hide("ghp_0123456789abcdef"), "***");
        let unencoded = "https://me:p/w@git.test/a.git";
        let hidden = UrlSecrets::of(unencoded).hide(&format!("cannot reach '{unencoded}'"));
        assert_eq!(hidden, "cannot reach 'https://git.test/a.git'");
        let either = "https://u:word@git.test/?key=@abc";
        assert_eq!(
            UrlSecrets::of(either).hide(&format!("{either} word")),
            "https://*** ***"
        );
        for plain in [
            "https://git.test/a.git",
            "git@git.test:a.git",
            "/srv/a.git",
            "ssh://git@git.test/a",
        ] {
            assert_eq!(UrlSecrets::of(plain).hide("git says git.test"), "git says git.test");
        }
    }

    #[test]
    fn an_excerpt_is_short_and_plain() {
        assert_eq!(excerpt(b"a\nb\x1b[0m\xff\""), "`a\\nb\\u{1b}[0m\u{fffd}\\\"`");
        assert_eq!(excerpt(&[b'x'; 500]).chars().count(), EXCERPT + 3);
        assert_eq!(excerpt(b""), "an empty body");
    }

    #[test]
    fn a_plain_text_keeps_its_lines_and_loses_the_token_also_where_it_is_cut() {
        let token = SecretString::from("gt-key.secret");
        assert_eq!(
            plain(b"a\nb\x1b \"gt-key.secret\"", &token),
            "a\nb\\u{1b} \"gt-key.***\""
        );
        let long = format!("{}gt-key.secret", "x".repeat(PLAIN - 9));
        assert_eq!(
            plain(long.as_bytes(), &token),
            format!("{}gt-key.**…", "x".repeat(PLAIN - 9))
        );
    }
}
