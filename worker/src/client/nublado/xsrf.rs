//! The token against requests from other sites: hub and lab each set one as a cookie, and want it back in a header.

use http::header::{HeaderMap, HeaderValue, SET_COOKIE};

/// Name of the cookie, at hub and lab alike.
const COOKIE: &str = "_xsrf";

/// Returns the token that an answer sets, ready to be sent back.
pub(super) fn token(headers: &HeaderMap) -> Option<HeaderValue> {
    let cookies = headers.get_all(SET_COOKIE).iter();
    let token = cookies
        .filter_map(|cookie| of_cookie(cookie.to_str().ok()?))
        .next_back()?;
    let mut value = HeaderValue::from_str(&token).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn of_cookie(cookie: &str) -> Option<String> {
    let (name, value) = cookie.split(';').next()?.split_once('=')?;
    let value = value.trim();
    // An empty value is how a cookie is taken back.
    (name.trim() == COOKIE && !value.is_empty()).then(|| unquoted(value))
}

/// Returns a cookie's value as Python's `http.cookies` reads it: quoted, `\"` stands for `"` and `\054` for `,`.
fn unquoted(value: &str) -> String {
    let Some(quoted) = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')) else {
        return value.to_owned();
    };
    let mut text = String::with_capacity(quoted.len());
    let mut rest = quoted;
    while let Some((before, after)) = rest.split_once('\\') {
        text.push_str(before);
        let octal = after.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        let escaped = after.chars().next();
        let taken = match (octal, escaped) {
            (Some(code), _) => {
                text.push(char::from(code));
                3
            }
            (None, Some(c)) => {
                text.push(c);
                c.len_utf8()
            }
            (None, None) => 0,
        };
        rest = &after[taken..];
    }
    text + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(cookies: &[&'static str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for cookie in cookies {
            headers.append(SET_COOKIE, HeaderValue::from_static(cookie));
        }
        token(&headers).map(|token| token.to_str().unwrap().to_owned())
    }

    #[test]
    fn the_token_is_found_among_other_cookies_and_unquoted() {
        assert_eq!(found(&[]), None);
        assert_eq!(found(&["jupyterhub-session-id=abc; Path=/", "x_xsrf=no"]), None);
        assert_eq!(found(&["a=b", "_xsrf=2|ab|cd; Path=/nb/hub/"]).unwrap(), "2|ab|cd");
        assert_eq!(found(&["_xsrf=one", "_xsrf=two; Path=/"]).unwrap(), "two");
        assert_eq!(found(&["_xsrf=; expires=Thu, 01 Jan 1970 00:00:00 GMT"]), None);
        assert_eq!(
            found(&[r#"_xsrf="MnwyZg==:a\054b\"c\\"; Path=/"#]).unwrap(),
            "MnwyZg==:a,b\"c\\"
        );
    }
}
