//! hyper, bare: one connection, one request after the other.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// A connection.
pub(crate) struct Bare {
    sender: SendRequest<String>,
    address: SocketAddr,
    host: String,
}

impl Bare {
    pub(crate) async fn connect(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(async move {
            // Its end shows in the next request.
            connection.await.ok();
        });
        Ok(Self {
            sender,
            address,
            host: address.to_string(),
        })
    }

    /// Sends a request and reads the answer to its end; returns its size.
    pub(crate) async fn call(
        &mut self,
        method: &Method,
        path: &str,
        headers: &[(&str, &str)],
        body: String,
    ) -> Result<(StatusCode, usize)> {
        let (status, answer) = self.send(method, path, headers, body).await?;
        let mut size = 0;
        read(answer, |part| size += part.len()).await?;
        Ok((status, size))
    }

    /// The same, and returns the answer's body.
    pub(crate) async fn fetch(
        &mut self,
        method: &Method,
        path: &str,
        headers: &[(&str, &str)],
        body: String,
    ) -> Result<(StatusCode, Vec<u8>)> {
        let (status, answer) = self.send(method, path, headers, body).await?;
        let mut all = Vec::new();
        read(answer, |part| all.extend_from_slice(&part)).await?;
        Ok((status, all))
    }

    async fn send(
        &mut self,
        method: &Method,
        path: &str,
        headers: &[(&str, &str)],
        body: String,
    ) -> Result<(StatusCode, Incoming)> {
        let mut request = Request::builder().method(method).uri(path).header("host", &self.host);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if self.sender.ready().await.is_err() {
            // A server closes what was idle for long, between two measurements.
            *self = Self::connect(self.address).await?;
            self.sender.ready().await?;
        }
        let response = self.sender.send_request(request.body(body)?).await?;
        Ok((response.status(), response.into_body()))
    }

    /// As the coordinator's API wants it.
    ///
    /// # Errors
    ///
    /// Also if the answer is another one than expected.
    pub(crate) async fn api(&mut self, method: &Method, path: &str, body: &str, expected: u16) -> Result<()> {
        let headers = [("x-auth-request-user", "bench"), ("content-type", "application/json")];
        let (status, _) = self.call(method, path, &headers, body.to_owned()).await?;
        ensure!(
            status == expected,
            "{method} {path} answered {status} where {expected} is right"
        );
        Ok(())
    }
}

/// Reads a body to its end.
async fn read(mut body: Incoming, mut take: impl FnMut(Bytes)) -> Result<()> {
    while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        if let Ok(part) = frame.context("the body breaks off")?.into_data() {
            take(part);
        }
    }
    Ok(())
}
