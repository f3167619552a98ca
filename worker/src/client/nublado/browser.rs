//! What a browser does for its user: keeps cookies and XSRF tokens, and follows redirects.
//!
//! Redirects are followed by hand, because tokens come with any answer, also with one that only leads elsewhere.

use std::collections::HashMap;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use http::header::{
    ACCEPT, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION, REFERER,
};
use http::{Method, StatusCode};
use mobu_fleet::link::BoxError;
use reqwest::cookie::{CookieStore, Jar};
use reqwest::{Client, Response};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use url::Url;

use super::base::Base;
use super::error::{NubladoError, Request};
use super::xsrf;
use crate::client::http as clients;

/// How often redirects may lead to the same place: OAuth comes back to where it began once.
const MOST_VISITS: u32 = 2;
/// How many redirects are followed in all: a login needs about six.
pub(super) const MOST_REDIRECTS: u32 = 30;
/// Most bytes of a document that is read as JSON.
const DOCUMENT: usize = 4 * 1024 * 1024;
/// How much of an answer an error keeps.
const EXCERPT: usize = 4 * 1024;
const XSRF_TOKEN: HeaderName = HeaderName::from_static("x-xsrftoken");
const FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");

/// A path below one of the two bases.
#[derive(Debug, Clone, Copy)]
pub(super) enum Route<'a> {
    Hub(&'a str),
    Lab(&'a str),
}

/// What kind of request it is, as browsers say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// Somebody opens a page.
    Navigate,
    /// A page asks for something.
    SameOrigin,
}

/// What is sent along.
#[derive(Debug)]
pub(super) enum Body {
    None,
    Form(String),
    Json(String),
}

/// One user's browser.
#[derive(Debug)]
pub(super) struct Browser {
    client: Client,
    cookies: Arc<Cookies>,
    username: String,
    bearer: HeaderValue,
    limit: Duration,
    hub: Base,
    /// `None` until the first request to the lab has found it.
    lab: Option<Base>,
    hub_xsrf: Option<HeaderValue>,
    lab_xsrf: Option<HeaderValue>,
}

/// Cookies that can be thrown away without throwing away the connections.
#[derive(Debug, Default)]
struct Cookies(RwLock<Jar>);

impl Cookies {
    fn clear(&self) {
        *self.0.write().expect("no code panics while it holds the cookies") = Jar::default();
    }
}

impl CookieStore for Cookies {
    fn set_cookies(&self, headers: &mut dyn Iterator<Item = &HeaderValue>, url: &Url) {
        let jar = self.0.read().expect("no code panics while it holds the cookies");
        jar.set_cookies(headers, url);
    }

    fn cookies(&self, url: &Url) -> Option<HeaderValue> {
        let jar = self.0.read().expect("no code panics while it holds the cookies");
        jar.cookies(url)
    }
}

/// An answer to a request that led here.
#[derive(Debug)]
pub(super) struct Answer {
    request: Request,
    limit: Duration,
    response: Response,
}

impl Browser {
    pub(super) fn new(hub: &str, username: &str, token: &SecretString, limit: Duration) -> Result<Self, BoxError> {
        let mut bearer = HeaderValue::from_str(&format!("Bearer {}", token.expose_secret()))?;
        bearer.set_sensitive(true);
        let cookies = Arc::new(Cookies::default());
        Ok(Self {
            client: clients::for_browser(cookies.clone(), limit)?,
            cookies,
            username: username.to_owned(),
            bearer,
            limit,
            hub: Base::parse(hub)?,
            lab: None,
            hub_xsrf: None,
            lab_xsrf: None,
        })
    }

    /// Forgets everything that hub and lab have said so far: stale cookies are worse than none.
    pub(super) fn forget(&mut self) {
        self.cookies.clear();
        (self.lab, self.hub_xsrf, self.lab_xsrf) = (None, None, None);
    }

    /// Opens a page, or asks for something, and follows redirects to where they end.
    pub(super) async fn get(&mut self, route: Route<'_>, mode: Mode) -> Result<Answer, NubladoError> {
        self.follow(Method::GET, route, mode, Body::None).await
    }

    /// Sends something; a redirect is followed with GET.
    pub(super) async fn post(&mut self, route: Route<'_>, mode: Mode, body: Body) -> Result<Answer, NubladoError> {
        self.follow(Method::POST, route, mode, body).await
    }

    /// Deletes something; follows no redirect. Says which page it comes from, if that is the hub's.
    pub(super) async fn delete(&mut self, route: Route<'_>) -> Result<Answer, NubladoError> {
        let url = self.url(route).await?;
        let mut headers = self.headers(route, Mode::SameOrigin);
        if matches!(route, Route::Hub(_)) {
            headers.insert(REFERER, self.referer());
        }
        self.send(Method::DELETE, &url, &headers, Body::None).await
    }

    /// Opens a stream of events; follows no redirect.
    pub(super) async fn stream(&mut self, route: Route<'_>) -> Result<Answer, NubladoError> {
        let url = self.url(route).await?;
        let mut headers = self.headers(route, Mode::SameOrigin);
        headers.insert(REFERER, self.referer());
        headers.insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        self.send(Method::GET, &url, &headers, Body::None).await
    }

    /// Asks for another protocol than HTTP on the connection; `extra` says for which.
    pub(super) async fn upgrade(&mut self, route: Route<'_>, extra: HeaderMap) -> Result<Answer, NubladoError> {
        let url = self.url(route).await?;
        let mut headers = self.headers(route, Mode::SameOrigin);
        headers.extend(extra);
        self.send(Method::GET, &url, &headers, Body::None).await
    }

    /// Finds out where the lab is, unless that is known: it may have a host of the user's own.
    pub(super) async fn find_lab(&mut self) -> Result<(), NubladoError> {
        if self.lab.is_some() {
            return Ok(());
        }
        let path = format!("user/{}/lab", self.username);
        let mut lab = self.hub.clone();
        let url = self.hub.join(&path);
        let headers = self.headers(Route::Lab(&path), Mode::Navigate);
        let answer = self.walk(Method::GET, url, &headers, Body::None, &mut lab).await?;
        answer.success().await?.discard().await;
        self.lab = Some(lab);
        Ok(())
    }

    async fn follow(
        &mut self,
        method: Method,
        route: Route<'_>,
        mode: Mode,
        body: Body,
    ) -> Result<Answer, NubladoError> {
        let url = self.url(route).await?;
        let headers = self.headers(route, mode);
        let mut lab = self.lab_or_hub().clone();
        self.walk(method, url, &headers, body, &mut lab).await
    }

    /// Sends a request and goes where it is redirected. Where the lab is not known yet, a redirect may say so.
    async fn walk(
        &mut self,
        mut method: Method,
        mut url: Url,
        headers: &HeaderMap,
        mut body: Body,
        lab: &mut Base,
    ) -> Result<Answer, NubladoError> {
        let mut visits = HashMap::new();
        let mut followed = 0;
        loop {
            let sent = std::mem::replace(&mut body, Body::None);
            let answer = self.send_below(method, &url, headers, sent, lab).await?;
            let Some(target) = answer.redirects_to(&url) else {
                return Ok(answer);
            };
            if self.lab.is_none()
                && let Some(found) = self.hub.subdomain(&self.username, &target)
            {
                *lab = found;
            }
            let request = || answer.request.clone();
            if !self.hub.contains(&target) && !lab.contains(&target) {
                let (request, target) = (request(), Request::new("GET", &target).url().to_owned());
                return Err(NubladoError::UnexpectedRedirect { request, target });
            }
            let visited: &mut u32 = visits.entry(target.clone()).or_default();
            *visited += 1;
            if *visited > MOST_VISITS {
                let (request, target) = (request(), Request::new("GET", &target).url().to_owned());
                return Err(NubladoError::RedirectLoop { request, target });
            }
            followed += 1;
            if followed > MOST_REDIRECTS {
                let (request, target) = (request(), Request::new("GET", &target).url().to_owned());
                return Err(NubladoError::TooManyRedirects { request, target });
            }
            answer.discard().await;
            (method, url) = (Method::GET, target);
        }
    }

    async fn send(
        &mut self,
        method: Method,
        url: &Url,
        headers: &HeaderMap,
        body: Body,
    ) -> Result<Answer, NubladoError> {
        let lab = self.lab_or_hub().clone();
        self.send_below(method, url, headers, body, &lab).await
    }

    /// Sends one request, and notes the token that comes with its answer.
    async fn send_below(
        &mut self,
        method: Method,
        url: &Url,
        headers: &HeaderMap,
        body: Body,
        lab: &Base,
    ) -> Result<Answer, NubladoError> {
        let request = Request::new(name(&method), url);
        let builder = self.client.request(method, url.clone()).headers(headers.clone());
        let builder = match body {
            Body::None => builder,
            Body::Form(form) => builder
                .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
                .body(form),
            Body::Json(json) => builder.header(CONTENT_TYPE, "application/json").body(json),
        };
        // Boxed, because it is by far the largest part of a monkey, and needed for a moment only.
        let response = match Box::pin(builder.send()).await {
            Ok(response) => response,
            Err(error) => return Err(NubladoError::of(request, self.limit, error)),
        };
        if let Some(token) = xsrf::token(response.headers()) {
            let is_labs = url.path().starts_with(lab.join("user/").path()) && lab.contains(url);
            *if is_labs {
                &mut self.lab_xsrf
            } else {
                &mut self.hub_xsrf
            } = Some(token);
        }
        Ok(Answer {
            request,
            limit: self.limit,
            response,
        })
    }

    async fn url(&mut self, route: Route<'_>) -> Result<Url, NubladoError> {
        match route {
            Route::Hub(path) => Ok(self.hub.join(path)),
            Route::Lab(path) => {
                self.find_lab().await?;
                Ok(self.lab_or_hub().join(path))
            }
        }
    }

    fn lab_or_hub(&self) -> &Base {
        self.lab.as_ref().unwrap_or(&self.hub)
    }

    fn headers(&self, route: Route<'_>, mode: Mode) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, self.bearer.clone());
        let mode = match mode {
            Mode::Navigate => "navigate",
            Mode::SameOrigin => "same-origin",
        };
        headers.insert(FETCH_MODE, HeaderValue::from_static(mode));
        let xsrf = match route {
            Route::Hub(_) => &self.hub_xsrf,
            Route::Lab(_) => &self.lab_xsrf,
        };
        if let Some(token) = xsrf {
            headers.insert(XSRF_TOKEN, token.clone());
        }
        headers
    }

    fn referer(&self) -> HeaderValue {
        let page = self.hub.join("hub/home");
        HeaderValue::from_str(page.as_str()).expect("a URL consists of visible ASCII characters")
    }
}

const fn name(method: &Method) -> &'static str {
    match *method {
        Method::POST => "POST",
        Method::DELETE => "DELETE",
        _ => "GET",
    }
}

impl Answer {
    /// Returns the answer, if it is a good one.
    pub(super) async fn success(self) -> Result<Self, NubladoError> {
        if self.response.status().is_success() {
            return Ok(self);
        }
        Err(self.refusal().await)
    }

    /// Returns the error that says which status came instead of a good one.
    pub(super) async fn refusal(self) -> NubladoError {
        let status = self.status();
        let request = self.request.clone();
        // How an error goes on does not matter, and even less that it breaks off.
        let body = self.read(EXCERPT).await.unwrap_or_default();
        NubladoError::Status { request, status, body }
    }

    /// Returns the error that says what is wrong with it.
    pub(super) async fn unexpected(self, what: impl Into<String>) -> NubladoError {
        let (request, status) = (self.request.clone(), self.status());
        NubladoError::Answer {
            request,
            what: what.into(),
            status,
            body: self.read(EXCERPT).await.unwrap_or_default(),
        }
    }

    pub(super) fn status(&self) -> u16 {
        self.response.status().as_u16()
    }

    pub(super) fn header(&self, name: impl reqwest::header::AsHeaderName) -> Option<&str> {
        self.response.headers().get(name)?.to_str().ok()
    }

    /// Reads it to its end, so that the connection can be used again, as long as that is not far.
    pub(super) async fn discard(self) {
        // Whatever happens, the answer itself was read already.
        drop(self.read(DOCUMENT).await);
    }

    /// Reads a JSON document.
    pub(super) async fn json(self) -> Result<Value, NubladoError> {
        let (request, status) = (self.request.clone(), self.status());
        let mut body = self.read(DOCUMENT).await?;
        serde_json::from_slice(&body).map_err(|error| {
            body.truncate(EXCERPT);
            NubladoError::Answer {
                request,
                what: error.to_string(),
                status,
                body,
            }
        })
    }

    pub(super) const fn request(&self) -> &Request {
        &self.request
    }

    /// How long the other side may be silent.
    pub(super) const fn limit(&self) -> Duration {
        self.limit
    }

    /// Returns what was asked, and what comes as an answer.
    pub(super) fn into_parts(self) -> (Request, Response) {
        (self.request, self.response)
    }

    fn redirects_to(&self, from: &Url) -> Option<Url> {
        let is_redirect = matches!(
            self.response.status(),
            StatusCode::MOVED_PERMANENTLY
                | StatusCode::FOUND
                | StatusCode::SEE_OTHER
                | StatusCode::TEMPORARY_REDIRECT
                | StatusCode::PERMANENT_REDIRECT
        );
        let location = self.header(LOCATION).filter(|_| is_redirect)?;
        from.join(location).ok()
    }

    /// Reads at most so many bytes, and for no longer than the other side may be silent: a body may come byte by byte.
    async fn read(self, most: usize) -> Result<Vec<u8>, NubladoError> {
        let Self {
            request,
            limit,
            mut response,
        } = self;
        let mut body = Vec::new();
        let reading = async {
            while let Some(chunk) = response.chunk().await? {
                let room = most - body.len();
                body.extend_from_slice(&chunk[..chunk.len().min(room)]);
                if chunk.len() >= room {
                    break;
                }
            }
            Ok(())
        };
        match tokio::time::timeout(limit, reading).await {
            Ok(Ok(())) => Ok(body),
            Ok(Err(error)) => Err(NubladoError::of(request, limit, error)),
            Err(_) => Err(NubladoError::TooSlow { request, limit }),
        }
    }
}
