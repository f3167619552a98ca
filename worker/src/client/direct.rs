//! The shortest way to a service: a kept HTTP/1.1 connection without TLS, driven by the very task that asks.
//!
//! What generates load sends the same few requests to the same place for hours. Here they pass no pool, no layers and no other task. Whatever
//! needs more, such as TLS or a proxy, goes by a whole client, which [`super::http`] makes.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::LazyLock;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, COOKIE, Entry, HOST, HeaderMap, HeaderValue, USER_AGENT};
use http::uri::{Authority, Scheme};
use http::{Method, Request, Uri};
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{Connection, SendRequest, handshake};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::TokioIo;
use mobu_fleet::link::BoxError;
use reqwest::Body;
use tokio::net::TcpStream;
use tower::Service as _;

/// How many connections one user of this keeps: as many as he talks to places, unless their names vary without end.
const KEPT: usize = 16;
/// After how long without a sign of the other side it is asked for one, and how often.
const KEEP_ALIVE: (Duration, u32) = (Duration::from_secs(15), 3);
/// How long what was sent may stay unconfirmed.
const UNCONFIRMED: Duration = Duration::from_secs(30);

/// The proxies that the environment names; the same that a whole client takes.
static PROXIES: LazyLock<Matcher> = LazyLock::new(Matcher::from_system);

/// Finds and connects as a whole client does.
static CONNECTOR: LazyLock<HttpConnector> = LazyLock::new(|| {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    connector.set_keepalive(Some(KEEP_ALIVE.0));
    connector.set_keepalive_interval(Some(KEEP_ALIVE.0));
    connector.set_keepalive_retries(Some(KEEP_ALIVE.1));
    #[cfg(target_os = "linux")]
    connector.set_tcp_user_timeout(Some(UNCONFIRMED));
    connector
});

/// A request that can go this way, ready to be sent any number of times.
pub(crate) struct Direct {
    /// Where to connect to.
    place: Uri,
    authority: Authority,
    method: Method,
    path: Uri,
    headers: HeaderMap,
    body: Option<Bytes>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DirectError {
    /// There is no connection.
    #[error("no connection")]
    Connect(#[source] BoxError),
    /// It ended before the answer did, or the answer is none.
    #[error(transparent)]
    Broken(#[from] hyper::Error),
}

impl Direct {
    /// Returns a request as it is sent; `None` if it cannot go this way.
    pub(crate) fn of(request: &reqwest::Request) -> Option<Self> {
        let place: Uri = request.url().as_str().parse().ok()?;
        if place.scheme() != Some(&Scheme::HTTP)
            || request.method() == Method::CONNECT
            || PROXIES.intercept(&place).is_some()
        {
            return None;
        }
        let authority = place.authority()?.clone();
        let mut headers = request.headers().clone();
        let defaults = [(ACCEPT, "*/*"), (USER_AGENT, super::http::USER_AGENT)];
        for (name, value) in defaults {
            if let Entry::Vacant(entry) = headers.entry(name) {
                entry.insert(HeaderValue::from_static(value));
            }
        }
        if let Entry::Vacant(entry) = headers.entry(HOST) {
            let host = match place.port_u16() {
                None | Some(80) => authority.host().to_owned(),
                Some(port) => format!("{}:{port}", authority.host()),
            };
            entry.insert(HeaderValue::try_from(host).ok()?);
        }
        let body = match request.body() {
            None => None,
            Some(body) => Some(Bytes::copy_from_slice(body.as_bytes()?)),
        };
        Some(Self {
            path: Uri::from(place.path_and_query()?.clone()),
            method: request.method().clone(),
            place,
            authority,
            headers,
            body,
        })
    }

    fn request(&self, cookies: Option<HeaderValue>) -> Request<Body> {
        let mut request = Request::new(self.body.clone().map_or_else(Body::default, Body::from));
        request.method_mut().clone_from(&self.method);
        request.uri_mut().clone_from(&self.path);
        request.headers_mut().clone_from(&self.headers);
        if let Some(cookies) = cookies {
            request.headers_mut().insert(COOKIE, cookies);
        }
        request
    }

    /// Whether it has cookies of its own, so that those of a jar stay there.
    pub(crate) fn has_cookies(&self) -> bool {
        self.headers.contains_key(COOKIE)
    }
}

/// The connections of one user, none of which is in use: one for each place.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    idle: Vec<(Authority, Box<Line>)>,
}

impl Lines {
    /// Sends a request, over the connection that is there or a new one. Its answer has come as far as its headers.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it closes the connection.
    pub(crate) async fn ask(&mut self, direct: &Direct, cookies: Option<HeaderValue>) -> Result<Answer, DirectError> {
        let mut request = direct.request(cookies);
        loop {
            let kept = self.idle.iter().position(|(place, _)| *place == direct.authority);
            let (mut line, is_old) = match kept {
                Some(kept) => (self.idle.swap_remove(kept).1, true),
                None => (Line::connect(&direct.place).await?, false),
            };
            match line.ask(request).await {
                Ok(response) => {
                    return Ok(Answer {
                        response,
                        line,
                        is_read: false,
                    });
                }
                // The other side closed it while nobody looked, and has not seen this request.
                Err(mut error) if is_old && error.message().is_some() => {
                    let Some(unsent) = error.take_message() else {
                        return Err(error.into_error().into());
                    };
                    request = unsent;
                }
                Err(error) => return Err(error.into_error().into()),
            }
        }
    }

    /// Keeps the connection of an answer that was read to its end.
    pub(crate) fn keep(&mut self, direct: &Direct, answer: Answer) {
        if answer.is_read && answer.line.connection.is_some() {
            if self.idle.len() == KEPT {
                self.idle.remove(0);
            }
            self.idle.push((direct.authority.clone(), answer.line));
        }
    }
}

/// An answer whose body is still to be read.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) response: http::Response<Incoming>,
    line: Box<Line>,
    /// Whether it was read to its end. Its body knows that only if it was told the length beforehand.
    is_read: bool,
}

impl Answer {
    /// Returns the next part of the body; `None` at its end.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, DirectError> {
        let body = self.response.body_mut();
        while !self.is_read && !body.is_end_stream() {
            let frame = poll_fn(|context| Pin::new(&mut *body).poll_frame(context));
            match drive(&mut self.line.connection, frame).await {
                None => break,
                // What is no data is trailers.
                Some(frame) => {
                    if let Ok(part) = frame?.into_data() {
                        return Ok(Some(part));
                    }
                }
            }
        }
        self.is_read = true;
        Ok(None)
    }
}

type Wire = Connection<TokioIo<TcpStream>, Body>;

/// One connection.
struct Line {
    sender: SendRequest<Body>,
    /// `None` once it is over.
    connection: Option<Wire>,
}

impl std::fmt::Debug for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Line")
            .field("is_open", &self.connection.is_some())
            .finish_non_exhaustive()
    }
}

impl Line {
    async fn connect(place: &Uri) -> Result<Box<Self>, DirectError> {
        let mut connector = CONNECTOR.clone();
        // It is ready at any time.
        let stream = connector.call(place.clone()).await;
        let stream = stream.map_err(|error| DirectError::Connect(error.into()))?;
        let (sender, connection) = handshake(stream).await?;
        Ok(Box::new(Self {
            sender,
            connection: Some(connection),
        }))
    }

    async fn ask(&mut self, request: Request<Body>) -> Result<http::Response<Incoming>, TrySendError<Request<Body>>> {
        let Self { sender, connection } = self;
        // Nobody looked at the connection since the last answer: what has come meanwhile is found here. If it is over, so is the sender, and
        // gives the request back.
        drive(connection, sender.ready()).await.ok();
        drive(connection, sender.try_send_request(request)).await
    }
}

/// Waits for a future to which the connection has to do something.
async fn drive<T>(connection: &mut Option<Wire>, future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    poll_fn(|context| {
        if let Poll::Ready(value) = future.as_mut().poll(context) {
            return Poll::Ready(value);
        }
        if let Some(wire) = connection
            && Pin::new(wire).poll(context).is_ready()
        {
            // However it ended, the future says so.
            *connection = None;
        }
        future.as_mut().poll(context)
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    async fn get(lines: &mut Lines, port: u16) -> Result<String, DirectError> {
        let url = format!("http://127.0.0.1:{port}/a?b#c").parse().unwrap();
        let direct = Direct::of(&reqwest::Request::new(Method::GET, url)).unwrap();
        let mut answer = lines.ask(&direct, None).await?;
        let mut body = String::new();
        while let Some(part) = answer.chunk().await? {
            body.push_str(std::str::from_utf8(&part).unwrap());
        }
        lines.keep(&direct, answer);
        Ok(body)
    }

    /// Answers so many requests on each connection, with its number, before it closes it without a word.
    async fn serve(listener: TcpListener, requests: &[usize]) {
        let mut answers = 0;
        for (number, requests) in requests.iter().enumerate() {
            let (mut stream, _) = listener.accept().await.unwrap();
            for _ in 0..*requests {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.unwrap());
                }
                let head = String::from_utf8(head).unwrap();
                assert!(head.starts_with("GET /a?b HTTP/1.1\r\n"), "{head}");
                let port = listener.local_addr().unwrap().port();
                for line in [
                    "accept: */*",
                    "user-agent: mobu-fleet/",
                    &format!("host: 127.0.0.1:{port}"),
                ] {
                    assert!(head.contains(&format!("\r\n{line}")), "{head}");
                }
                // Of which each says in another way where it ends.
                let answer = match answers % 3 {
                    0 => format!("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n{number}"),
                    1 => format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\n{number}\r\n0\r\n\r\n"),
                    _ => "HTTP/1.1 204 No Content\r\n\r\n".to_owned(),
                };
                answers += 1;
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        }
    }

    #[tokio::test]
    async fn a_connection_is_used_until_the_other_side_closes_it_and_then_another_one() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut lines = Lines::default();
        let asking = async {
            let mut seen = Vec::new();
            for _ in 0..6 {
                seen.push(get(&mut lines, port).await.unwrap());
            }
            seen.concat()
        };
        let asked = tokio::time::timeout(Duration::from_secs(60), async {
            tokio::join!(asking, serve(listener, &[4, 2])).0
        });
        assert_eq!(asked.await.unwrap(), "0001");
    }

    #[tokio::test]
    async fn who_does_not_answer_or_is_not_there_is_an_error() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut lines = Lines::default();
        let (asked, ()) = tokio::join!(get(&mut lines, port), serve(listener, &[0]));
        assert!(matches!(asked, Err(DirectError::Broken(_))), "{asked:?}");
        let asked = get(&mut lines, port).await;
        assert!(matches!(asked, Err(DirectError::Connect(_))), "{asked:?}");
        assert!(lines.idle.is_empty());
    }

    #[test]
    fn what_needs_more_goes_another_way() {
        let goes = |method, url: &str| Direct::of(&reqwest::Request::new(method, url.parse().unwrap())).is_some();
        assert!(goes(Method::GET, "http://[::1]:1/"));
        assert!(!goes(Method::GET, "https://host/"));
        assert!(!goes(Method::GET, "ftp://host/"));
        assert!(!goes(Method::CONNECT, "http://host/"));
    }
}
