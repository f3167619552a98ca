//! The connection to a kernel: a WebSocket over which code goes and messages come (`contracts/businesses.md` 4.6 to 4.8).

use std::time::Duration;

use bytes::Bytes;
use futures_lite::StreamExt;
use futures_util::SinkExt;
use http::header::{
    CONNECTION, HeaderMap, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use mobu_fleet::link::BoxError;
use mobu_fleet::runtime::clock::{self, Instant};
use reqwest::Upgraded;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{self};

use super::browser::Answer;
use super::error::{NubladoError, Request};
use super::execution::Execution;
use super::message::{ExecuteRequest, Framing, Incoming, V1};

/// How long nothing may come before the other side is asked whether it is still there.
const PING: Duration = Duration::from_secs(20);
/// How long it may take to say so.
const PONG: Duration = Duration::from_secs(20);
/// How long it may take to take what it is sent.
const SEND: Duration = Duration::from_secs(20);
/// How long the other side may take to agree to the end.
const CLOSE: Duration = Duration::from_secs(10);
/// Memory of a connection for what comes; what is longer gets more while it comes.
const BUFFER: usize = 8 * 1024;

/// Why a connection to a kernel is of no more use, or never was.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SocketError {
    /// The lab does not want it.
    #[error("JupyterLab WebSocket unexpectedly closed: {0}")]
    Refused(NubladoError),
    /// The lab took too long to open it.
    #[error("Timed out attempting to open WebSocket to lab session")]
    OpenTimedOut,
    /// What should have become a WebSocket did not.
    #[error("Error talking to lab WebSocket: {what}")]
    Handshake {
        /// Whom it was asked of.
        request: Request,
        /// What is wrong.
        what: &'static str,
    },
    /// The lab closed it.
    #[error("JupyterLab WebSocket unexpectedly closed: {reason}")]
    Closed {
        /// Code and reason, as the lab gives them.
        reason: String,
    },
    /// It broke.
    #[error("Error talking to lab WebSocket: {0}")]
    Broken(BoxError),
    /// The kernel has died, and with it all that code has left in it. The lab may have started another one in its place.
    #[error("the kernel died; its lab calls it `{state}`")]
    Died {
        /// What the lab says about it.
        state: &'static str,
    },
    /// The lab takes nothing any more.
    #[error("Error talking to lab WebSocket: it has taken nothing for {SEND:?}")]
    Stuck,
    /// The lab is silent, also when asked.
    #[error("Error talking to lab WebSocket: no answer to a ping within {PONG:?}")]
    Silent,
}

impl From<NubladoError> for SocketError {
    fn from(error: NubladoError) -> Self {
        match error {
            NubladoError::TimedOut { .. } => Self::OpenTimedOut,
            error => Self::Refused(error),
        }
    }
}

/// Returns a key for a handshake, as random as it must be.
pub(super) fn key() -> String {
    generate_key()
}

/// Returns the headers that ask for a WebSocket, and offer the newer sub-protocol.
pub(super) fn offer(key: &str) -> HeaderMap {
    let key = HeaderValue::from_str(key).expect("a key is base64");
    HeaderMap::from_iter([
        (CONNECTION, HeaderValue::from_static("Upgrade")),
        (UPGRADE, HeaderValue::from_static("websocket")),
        (SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13")),
        (SEC_WEBSOCKET_KEY, key),
        (SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(V1)),
    ])
}

/// A connection to the kernel of a session.
#[derive(Debug)]
pub(crate) struct Kernel {
    socket: Box<WebSocketStream<Upgraded>>,
    framing: Framing,
    username: String,
    session: String,
    /// Whether it has died, and what the lab calls that.
    died: Option<&'static str>,
    /// When something came last, and when it was asked for if that is longer ago.
    heard: Instant,
    asked: Option<Instant>,
}

impl Kernel {
    pub(super) async fn open(
        answer: Answer,
        key: &str,
        username: &str,
        session: &str,
        largest: Option<usize>,
    ) -> Result<Self, SocketError> {
        if answer.status() != 101 {
            return Err(answer.refusal().await.into());
        }
        let accept = answer.header(SEC_WEBSOCKET_ACCEPT);
        let is_accepted = accept == Some(derive_accept_key(key.as_bytes()).as_str());
        let framing = match answer.header(SEC_WEBSOCKET_PROTOCOL) {
            None | Some("") => Some(Framing::Json),
            Some(V1) => Some(Framing::V1),
            Some(_) => None,
        };
        let (request, response) = answer.into_parts();
        let bad = |what| SocketError::Handshake {
            request: request.clone(),
            what,
        };
        if !is_accepted {
            return Err(bad("the handshake is answered with another key"));
        }
        let framing = framing.ok_or_else(|| bad("the lab speaks a sub-protocol that was not offered"))?;
        let upgraded = response.upgrade().await;
        let upgraded = upgraded.map_err(|error| SocketError::Broken(error.without_url().into()))?;
        let config = WebSocketConfig::default()
            .read_buffer_size(BUFFER)
            .write_buffer_size(0)
            .max_message_size(largest)
            .max_frame_size(largest);
        let socket = WebSocketStream::from_raw_socket(upgraded, Role::Client, Some(config)).await;
        Ok(Self {
            socket: Box::new(socket),
            framing,
            username: username.to_owned(),
            session: session.to_owned(),
            died: None,
            heard: clock::now(),
            asked: None,
        })
    }

    /// Sends code; [`Kernel::next`] then brings what the kernel says about it.
    pub(crate) async fn execute(&mut self, code: &str, execution: &Execution) -> Result<(), SocketError> {
        if let Some(state) = self.died {
            return Err(SocketError::Died { state });
        }
        let request = ExecuteRequest {
            username: &self.username,
            session: &self.session,
            id: execution.id(),
            at: clock::wall(),
            code,
        };
        let message = match self.framing {
            Framing::Json => Message::text(request.to_json()),
            Framing::V1 => Message::binary(request.to_v1()),
        };
        send(&mut self.socket, message).await
    }

    /// Waits for the next message, and keeps the connection alive meanwhile. That the kernel has died is an error, now and ever after.
    ///
    /// # Cancel safety
    ///
    /// Safe: nothing that has come is lost.
    pub(crate) async fn next(&mut self) -> Result<Incoming, SocketError> {
        let next = self.receive().await?;
        if let Incoming::Message(message) = &next {
            self.died = self.died.or_else(|| message.death());
        }
        match self.died {
            Some(state) => Err(SocketError::Died { state }),
            None => Ok(next),
        }
    }

    async fn receive(&mut self) -> Result<Incoming, SocketError> {
        loop {
            let wake = self.asked.map_or(self.heard + PING, |asked| asked + PONG);
            let next = tokio::select! {
                biased;
                next = self.socket.next() => next,
                () = tokio::time::sleep_until(wake) => {
                    self.ask().await?;
                    continue;
                }
            };
            (self.heard, self.asked) = (clock::now(), None);
            let message = next.ok_or_else(|| closed(None))?.map_err(broken)?;
            return Ok(match (message, self.framing) {
                (Message::Binary(bytes), Framing::V1) => Incoming::from_v1(&bytes),
                (Message::Binary(bytes), Framing::Json) => Incoming::from_json(&bytes),
                (Message::Text(text), _) => Incoming::from_json(text.as_bytes()),
                (Message::Close(frame), _) => return Err(closed(frame)),
                (Message::Ping(_) | Message::Pong(_) | Message::Frame(_), _) => continue,
            });
        }
    }

    /// Says goodbye, and waits a little for an answer.
    pub(crate) async fn close(mut self) {
        let frame = CloseFrame {
            code: CloseCode::Normal,
            reason: "".into(),
        };
        let farewell = async {
            if (*self.socket).close(Some(frame)).await.is_ok() {
                while let Some(Ok(_)) = self.socket.next().await {}
            }
        };
        // Nothing depends on how it ends.
        drop(tokio::time::timeout(CLOSE, farewell).await);
    }

    /// Nothing came for a while: asks whether anybody is there, or finds that nobody is.
    async fn ask(&mut self) -> Result<(), SocketError> {
        if self.asked.is_some() {
            return Err(SocketError::Silent);
        }
        self.asked = Some(clock::now());
        send(&mut self.socket, Message::Ping(Bytes::new())).await
    }
}

/// Sends a message to its end, for which the other side must read.
async fn send<S: AsyncRead + AsyncWrite + Unpin>(
    socket: &mut WebSocketStream<S>,
    message: Message,
) -> Result<(), SocketError> {
    let sent = tokio::time::timeout(SEND, socket.send(message)).await;
    sent.map_err(|_| SocketError::Stuck)?.map_err(broken)
}

fn broken(error: tungstenite::Error) -> SocketError {
    match error {
        tungstenite::Error::ConnectionClosed | tungstenite::Error::AlreadyClosed => closed(None),
        error => SocketError::Broken(error.into()),
    }
}

fn closed(frame: Option<CloseFrame>) -> SocketError {
    let reason = match frame {
        Some(CloseFrame { code, reason }) if reason.is_empty() => format!("{code}"),
        Some(CloseFrame { code, reason }) => format!("{code} ({})", reason.escape_debug()),
        None => "no reason given".to_owned(),
    };
    SocketError::Closed { reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_lab_that_does_not_read_is_not_waited_for_without_end() {
        let (ours, _theirs) = tokio::io::duplex(64);
        let mut socket = WebSocketStream::from_raw_socket(ours, Role::Client, None).await;
        let begun = clock::now();
        let sent = send(&mut socket, Message::text("x".repeat(1000))).await;
        assert!(matches!(sent, Err(SocketError::Stuck)), "{sent:?}");
        assert_eq!(begun.elapsed(), SEND);
    }

    #[test]
    fn no_extension_of_the_protocol_is_offered() {
        let headers = offer(&key());
        assert!(
            !headers.contains_key(http::header::SEC_WEBSOCKET_EXTENSIONS),
            "{headers:?}"
        );
    }
}
