//! From a URL to a connection that can also be cut.

use std::io;
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lapin::tcp::{AsyncTcpStream, OwnedTLSConfig};
use lapin::uri::AMQPScheme;
use lapin::{Connection, ConnectionProperties};

use super::config::BrokerUrl;
use super::errors;
use super::tls::TlsFiles;
use crate::link::{BoxError, LinkError};

/// A second handle on a connection's socket.
///
/// lapin writes nothing while the broker blocks publishers, an orderly close included, and its thread waits for ever for a peer that
/// fell silent during the handshake. Shutting the socket down ends both at once.
#[derive(Debug, Clone, Default)]
pub(super) struct Socket(Arc<Mutex<Option<TcpStream>>>);

impl Socket {
    fn keep(&self, stream: &impl AsFd) -> io::Result<()> {
        let stream = TcpStream::from(stream.as_fd().try_clone_to_owned()?);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(stream);
        Ok(())
    }

    /// Ends the connection without a word; harmless if it has ended.
    pub(super) fn cut(&self) {
        if let Some(stream) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // It fails only if the peer was quicker.
            drop(stream.shutdown(Shutdown::Both));
        }
    }
}

/// Cuts the socket unless the connection was made: an abandoned handshake must not leave lapin's thread behind.
struct CutUnlessMade(Option<Socket>);

impl Drop for CutUnlessMade {
    fn drop(&mut self) {
        if let Some(socket) = &self.0 {
            socket.cut();
        }
    }
}

/// Connects to one broker; lapin's own recovery stays off.
///
/// # Cancel safety
///
/// Safe: nothing is left behind.
pub(super) async fn connect(
    broker: &BrokerUrl,
    tls: &TlsFiles,
    name: &str,
    limit: Duration,
) -> Result<(Connection, Socket), LinkError> {
    let socket = Socket::default();
    let mut guard = CutUnlessMade(Some(socket.clone()));
    let unreachable = |source: BoxError| LinkError::Unreachable {
        host: broker.host(),
        source,
    };
    let runtime = lapin::runtime::default_runtime().map_err(|error| unreachable(error.into()))?;
    let tls = match broker.uri().scheme {
        AMQPScheme::AMQP => OwnedTLSConfig::default(),
        // A few small local files: no reason to leave this thread.
        AMQPScheme::AMQPS => tls.read().map_err(|error| unreachable(error.into()))?,
    };
    let keep = socket.clone();
    let connecting = Connection::connector(
        broker.uri(),
        runtime,
        async move |uri, runtime| {
            // This runs on lapin's own thread, which would otherwise sit out the system's connect timeout.
            let open = async {
                let address = runtime.to_socket_addrs((uri.authority.host.clone(), uri.authority.port));
                let stream = AsyncTcpStream::connect(&runtime, address).await?;
                if let AsyncTcpStream::Plain(plain) = &stream {
                    plain.get_ref().set_nodelay(true)?;
                    keep.keep(plain.get_ref())?;
                }
                match uri.scheme {
                    AMQPScheme::AMQP => Ok(stream),
                    AMQPScheme::AMQPS => stream.into_tls(&uri.authority.host, tls.as_ref()).await,
                }
            };
            let stream = tokio::time::timeout(limit, open)
                .await
                .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
            Ok(stream)
        },
        ConnectionProperties::default().with_connection_name(name.into()),
    );
    let connection = tokio::time::timeout(limit, connecting)
        .await
        .map_err(|_| unreachable(format!("no answer within {limit:?}").into()))?
        .map_err(|error| errors::of_connect(broker, error))?;
    guard.0 = None;
    Ok((connection, socket))
}
