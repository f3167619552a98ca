//! The ways that a request can go: directly where that does, or by a whole client.

use std::sync::Arc;

use http::header::{
    AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HeaderMap, LOCATION, PROXY_AUTHORIZATION,
    SET_COOKIE, TRANSFER_ENCODING, WWW_AUTHENTICATE,
};
use http::{Method, StatusCode};
use mobu_fleet::link::BoxError;
use reqwest::cookie::{CookieStore as _, Jar};
use reqwest::{Client, Request, Response};

use super::check::Answered;
use super::exchange::Failure;
use crate::client::direct::{Answer, Direct, DirectError, Lines};
use crate::client::http::{MOST_REDIRECTS, for_monkey_following};

/// How many bytes of an answer's body are kept; the rest is read and counted.
const BODY_KEPT: usize = 64 * 1024;

/// Why there is no answer, and what caused that.
pub(super) type Trouble = (Failure, BoxError);

/// The connections of one run of a monkey, and its cookies.
#[derive(Debug)]
pub(super) struct Ways {
    jar: Option<Arc<Jar>>,
    lines: Lines,
    /// Whole clients, once one is needed, by how many redirects they follow.
    clients: Vec<(Option<usize>, Client)>,
}

impl Ways {
    pub(super) fn new(keeps_cookies: bool) -> Self {
        Self {
            jar: keeps_cookies.then(Arc::default),
            lines: Lines::default(),
            clients: Vec::new(),
        }
    }

    /// Sends a request and reads its answer. Also returns whether a redirect was followed.
    pub(super) async fn ask(
        &mut self,
        request: &Request,
        direct: Option<&Direct>,
        follows: bool,
    ) -> Result<(Answered, bool), Trouble> {
        let copy = |request: &Request| request.try_clone().expect("its body is no stream");
        let Some(direct) = direct else {
            let most = follows.then_some(MOST_REDIRECTS);
            return Ok((self.ask_client(copy(request), most).await?, false));
        };
        let cookies = self.jar.as_ref().filter(|_| !direct.has_cookies());
        let cookies = cookies.and_then(|jar| jar.cookies(request.url()));
        let answer = self.lines.ask(direct, cookies).await.map_err(trouble)?;
        let headers = answer.response.headers();
        if let Some(jar) = &self.jar
            && headers.contains_key(SET_COOKIE)
        {
            jar.set_cookies(&mut headers.get_all(SET_COOKIE).iter(), request.url());
        }
        if follows && let Some(next) = redirected(request, answer.response.status(), headers) {
            drop(answer);
            // The first one was followed here.
            return Ok((self.ask_client(next, Some(MOST_REDIRECTS - 1)).await?, true));
        }
        Ok((self.read(direct, answer).await.map_err(trouble)?, false))
    }

    async fn read(&mut self, direct: &Direct, mut answer: Answer) -> Result<Answered, DirectError> {
        let status = answer.response.status().as_u16();
        let mut answered = Answered::new(status, std::mem::take(answer.response.headers_mut()));
        while let Some(part) = answer.chunk().await? {
            answered.take(&part);
        }
        self.lines.keep(direct, answer);
        Ok(answered)
    }

    async fn ask_client(&mut self, request: Request, most: Option<usize>) -> Result<Answered, Trouble> {
        let known = self.clients.iter().position(|(its, _)| *its == most);
        let known = if let Some(known) = known {
            known
        } else {
            let client = for_monkey_following(self.jar.clone(), most).map_err(trouble_of_client)?;
            self.clients.push((most, client));
            self.clients.len() - 1
        };
        let (_, client) = &self.clients[known];
        let response = client.execute(request).await.map_err(trouble_of_client)?;
        read_response(response).await.map_err(trouble_of_client)
    }
}

impl Answered {
    fn new(status: u16, headers: HeaderMap) -> Self {
        Self {
            status,
            headers,
            body: Vec::new(),
            size: 0,
        }
    }

    fn take(&mut self, part: &[u8]) {
        let room = BODY_KEPT - self.body.len();
        self.body.extend_from_slice(&part[..part.len().min(room)]);
        self.size += part.len() as u64;
    }
}

async fn read_response(mut response: Response) -> Result<Answered, reqwest::Error> {
    let status = response.status().as_u16();
    let mut answered = Answered::new(status, std::mem::take(response.headers_mut()));
    while let Some(part) = response.chunk().await? {
        answered.take(&part);
    }
    Ok(answered)
}

fn trouble(error: DirectError) -> Trouble {
    match error {
        DirectError::Connect(source) => (Failure::Connect, source),
        DirectError::Broken(source) => (Failure::Transport, source.into()),
    }
}

fn trouble_of_client(error: reqwest::Error) -> Trouble {
    let failure = if error.is_connect() {
        Failure::Connect
    } else if error.is_redirect() {
        Failure::Redirect
    } else {
        Failure::Transport
    };
    (failure, error.without_url().into())
}

/// Returns what is to be asked next after an answer; `None` if that is no redirect to anywhere. The same rules as those of a whole client.
fn redirected(request: &Request, status: StatusCode, headers: &HeaderMap) -> Option<Request> {
    let is_get_next = match status {
        StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND => request.method() == Method::POST,
        StatusCode::SEE_OTHER => true,
        StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT => false,
        _ => return None,
    };
    let url = request.url();
    let mut next_url = url
        .join(std::str::from_utf8(headers.get(LOCATION)?.as_bytes()).ok()?)
        .ok()?;
    next_url.set_fragment(None);
    let mut next = request.try_clone().expect("its body is no stream");
    if is_get_next {
        if request.method() != Method::HEAD {
            *next.method_mut() = Method::GET;
        }
        *next.body_mut() = None;
        for name in [CONTENT_TYPE, CONTENT_LENGTH, CONTENT_ENCODING, TRANSFER_ENCODING] {
            next.headers_mut().remove(name);
        }
    }
    let place = |url: &url::Url| {
        (
            url.scheme().to_owned(),
            url.host_str().map(str::to_owned),
            url.port_or_known_default(),
        )
    };
    if place(url) != place(&next_url) {
        for name in [AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION, WWW_AUTHENTICATE] {
            next.headers_mut().remove(name);
        }
        next.headers_mut().remove("cookie2");
    }
    *next.url_mut() = next_url;
    Some(next)
}

#[cfg(test)]
mod tests {
    use http::header::HeaderValue;

    use super::*;

    fn posted() -> Request {
        let mut request = Request::new(Method::POST, "http://u:p@host:81/a/b?c#d".parse().unwrap());
        *request.body_mut() = Some("text".into());
        for (name, value) in [
            (CONTENT_TYPE, "text/plain"),
            (AUTHORIZATION, "Bearer x"),
            (COOKIE, "a=b"),
        ] {
            request.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        request.headers_mut().insert("x-own", HeaderValue::from_static("1"));
        request
    }

    /// Returns what is asked next: method, URL, whether there is a body, and which headers.
    fn next(status: u16, location: &'static str) -> Option<(Method, String, bool, Vec<String>)> {
        let mut headers = HeaderMap::new();
        headers.insert(LOCATION, HeaderValue::from_static(location));
        let next = redirected(&posted(), StatusCode::from_u16(status).unwrap(), &headers)?;
        let mut names: Vec<_> = next.headers().keys().map(ToString::to_string).collect();
        names.sort();
        Some((
            next.method().clone(),
            next.url().to_string(),
            next.body().is_some(),
            names,
        ))
    }

    #[test]
    fn a_redirect_is_followed_as_a_whole_client_would() {
        let own = || ["authorization", "cookie", "x-own"].map(str::to_owned).to_vec();
        for status in [301, 302, 303] {
            let expected = (Method::GET, "http://u:p@host:81/a/x?y".to_owned(), false, own());
            assert_eq!(next(status, "x?y#z"), Some(expected));
        }
        for status in [307, 308] {
            let names = ["authorization", "content-type", "cookie", "x-own"]
                .map(str::to_owned)
                .to_vec();
            let expected = (Method::POST, "http://u:p@host:81/x".to_owned(), true, names);
            assert_eq!(next(status, "/x"), Some(expected));
        }
        for status in [200, 300, 304, 404] {
            assert_eq!(next(status, "/x"), None);
        }
        assert_eq!(next(302, "http://["), None);
    }

    #[test]
    fn what_lets_somebody_in_is_not_taken_to_another_place() {
        for location in ["http://other:81/", "https://host:81/", "http://host/"] {
            let (_, url, _, names) = next(307, location).unwrap();
            assert_eq!(
                (url.as_str(), names),
                (location, vec!["content-type".to_owned(), "x-own".to_owned()])
            );
        }
    }
}
