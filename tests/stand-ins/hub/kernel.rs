//! Kernels. They understand the code that asks for image, node and directory, and these, one per line:
//! `print(...)` prints what stands there (`2+2` is 4), `late(x)` prints it after the reply, `err(x)` to the standard error,
//! `raise X` fails, `raise_quietly` fails without traceback, `sleep` goes on until it is interrupted, `garbage` sends what is no
//! message, `reply_only` never says that it is idle, `close` closes the connection normally, `drop` without a word, `flood` sends
//! a message of a megabyte, `chatter` one of 60 KiB, `die` ends the kernel, of which the lab tells, `die_late` does so soon after the reply.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request, State as Shared};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_lite::StreamExt;
use futures_util::SinkExt;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Message, Role};

use super::{State, header};

const V1: &str = "v1.kernel.websocket.jupyter.org";

/// Makes a WebSocket of a request's connection.
pub(super) fn open(state: Arc<State>, user: String, mut request: Request) -> Response {
    let headers = request.headers();
    let is_upgrade = header(headers, "upgrade").eq_ignore_ascii_case("websocket")
        && header(headers, "connection").eq_ignore_ascii_case("upgrade")
        && header(headers, "sec-websocket-version") == "13";
    if !is_upgrade {
        return state.complain(StatusCode::BAD_REQUEST, "a kernel is connected to without a WebSocket");
    }
    let speaks_v1 = state.lock().knobs.speaks_v1 && header(headers, "sec-websocket-protocol") == V1;
    let accept = derive_accept_key(header(headers, "sec-websocket-key").as_bytes());
    let mut answer = Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-accept", accept);
    if speaks_v1 {
        answer = answer.header("sec-websocket-protocol", V1);
    }
    let upgrade = hyper::upgrade::on(&mut request);
    let tasks = mobu_fleet::runtime::tasks::Tasks::new();
    drop(
        tasks.spawn(mobu_fleet::runtime::tasks::TaskKind::Expendable, "kernel", async move {
            let Ok(upgraded) = upgrade.await else { return };
            let socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await;
            let mut kernel = Kernel {
                state,
                user,
                speaks_v1,
                socket,
            };
            kernel.state.lock().sockets += 1;
            // The other side may go at any time.
            drop(kernel.serve().await);
            kernel.state.lock().sockets -= 1;
        }),
    );
    answer.body(Body::empty()).unwrap().into_response()
}

/// Kernels without a lab around them, `/bare/{name}`, and how much code all kernels have got so far, `/bare`: for
/// measurements.
pub(super) fn bare() -> Router<Arc<State>> {
    Router::new()
        .route(
            "/bare",
            get(async |Shared(state): Shared<Arc<State>>| state.lock().code.len().to_string()),
        )
        .route(
            "/bare/{name}",
            get(
                async |Shared(state): Shared<Arc<State>>, Path(name): Path<String>, request: Request| {
                    state.lock().labs.entry(name.clone()).or_default();
                    open(state, name, request)
                },
            ),
        )
}

struct Kernel {
    state: Arc<State>,
    user: String,
    speaks_v1: bool,
    socket: WebSocketStream<TokioIo<Upgraded>>,
}

/// The connection is to end, or has.
struct Gone;

impl Kernel {
    async fn serve(&mut self) -> Result<(), Gone> {
        while let Some(Ok(message)) = self.socket.next().await {
            let request = match message {
                Message::Binary(bytes) if self.speaks_v1 => from_v1(&bytes),
                Message::Text(text) if !self.speaks_v1 => serde_json::from_str(&text).ok(),
                Message::Close(_) => return Ok(()),
                Message::Ping(_) | Message::Pong(_) => continue,
                _ => None,
            };
            let Some(request) = request else {
                drop(
                    self.state
                        .complain(StatusCode::BAD_REQUEST, "a kernel gets what is no message"),
                );
                continue;
            };
            self.run(
                &request["header"],
                request["content"]["code"].as_str().unwrap_or_default(),
            )
            .await?;
        }
        Ok(())
    }

    async fn run(&mut self, parent: &Value, code: &str) -> Result<(), Gone> {
        let (interrupt, time) = {
            let mut inner = self.state.lock();
            inner.code.push(code.to_owned());
            let lab = inner.labs.get(&self.user).ok_or(Gone)?;
            (lab.interrupt.clone(), inner.knobs.cell_time)
        };
        let elsewhere = json!({"msg_id": "another"});
        self.send(
            "iopub",
            "stream",
            &elsewhere,
            &json!({"name": "stdout", "text": "not yours"}),
        )
        .await?;
        self.send("iopub", "status", parent, &json!({"execution_state": "busy"}))
            .await?;
        self.send(
            "iopub",
            "execute_input",
            parent,
            &json!({"code": code, "execution_count": 1}),
        )
        .await?;
        tokio::time::sleep(time).await;
        let mut status = json!({"status": "ok", "execution_count": 1});
        let mut late = Vec::new();
        let (mut is_idle, mut dies_late) = (true, false);
        for line in code.lines() {
            let argument = line
                .split_once('(')
                .and_then(|(_, rest)| rest.rsplit_once(')'))
                .map_or("", |(text, _)| text);
            let said = self.state.said(&self.user, line);
            let fail = json!({"ename": "E", "evalue": said, "traceback": ["\u{1b}[31mTraceback\u{1b}[0m\n", said]});
            match line.split(['(', ' ']).next().unwrap_or_default() {
                "print" => self.print("stdout", parent, &self.printed(argument)).await?,
                "err" => self.print("stderr", parent, argument).await?,
                "late" => late.push(argument),
                "raise" => {
                    self.send("iopub", "error", parent, &fail).await?;
                    status = fail;
                    status["status"] = json!("error");
                    break;
                }
                "raise_quietly" => status = json!({"status": "aborted"}),
                "sleep" => {
                    // Told while it listens: whoever interrupts can see that it runs.
                    interrupt.notified().await;
                    status = json!({"status": "error", "ename": "KeyboardInterrupt", "evalue": "", "traceback": []});
                    break;
                }
                "garbage" => {
                    for garbage in [
                        Message::text("no JSON"),
                        Message::binary(vec![0xff; 40]),
                        Message::text("{}"),
                    ] {
                        self.socket.send(garbage).await.map_err(|_| Gone)?;
                    }
                    let kind = self.state.said(&self.user, "debug_event");
                    self.send("iopub", &kind, parent, &json!({})).await?;
                }
                "reply_only" => is_idle = false,
                "die" => return self.die("restarting").await,
                "die_late" => dies_late = true,
                "close" => {
                    self.socket.close(None).await.map_err(|_| Gone)?;
                    while let Some(Ok(_)) = self.socket.next().await {}
                    return Err(Gone);
                }
                "drop" => return Err(Gone),
                "chatter" => self.print("stdout", parent, &"0123456789abcde\n".repeat(3840)).await?,
                "flood" => self.print("stdout", parent, &"x".repeat(1 << 20)).await?,
                _ => {}
            }
        }
        self.send("shell", "execute_reply", parent, &status).await?;
        for text in late {
            tokio::time::sleep(Duration::from_millis(20)).await;
            self.print("stdout", parent, text).await?;
        }
        if is_idle {
            self.send("iopub", "status", parent, &json!({"execution_state": "idle"}))
                .await?;
        }
        if dies_late {
            self.die("dead").await?;
        }
        Ok(())
    }

    /// The lab tells of the kernel's death, in answer to nothing.
    async fn die(&mut self, state: &str) -> Result<(), Gone> {
        self.send("iopub", "status", &json!({}), &json!({"execution_state": state}))
            .await
    }

    fn printed(&self, argument: &str) -> String {
        match argument {
            _ if argument.contains("JUPYTER_IMAGE_SPEC") => {
                if self.state.lock().knobs.tells_image {
                    "example.org/lab:w_2026_01\n".to_owned()
                } else {
                    String::new()
                }
            }
            _ if argument.contains("IMAGE_DESCRIPTION") => {
                if self.state.lock().knobs.tells_image {
                    "Weekly 2026_01\n".to_owned()
                } else {
                    String::new()
                }
            }
            _ if argument.contains("get_node") => "node-1".to_owned(),
            _ if argument.starts_with("2+2") => "4".to_owned(),
            _ => argument.to_owned(),
        }
    }

    async fn print(&mut self, name: &str, parent: &Value, text: &str) -> Result<(), Gone> {
        let text = self.state.said(&self.user, text);
        self.send("iopub", "stream", parent, &json!({"name": name, "text": text}))
            .await
    }

    async fn send(&mut self, channel: &str, kind: &str, parent: &Value, content: &Value) -> Result<(), Gone> {
        let header = json!({"msg_id": "k", "msg_type": kind, "username": "kernel", "session": "k", "version": "5.4"});
        let message = if self.speaks_v1 {
            Message::binary(to_v1(channel, &header, parent, content))
        } else {
            let whole = json!({
                "header": header, "msg_type": kind, "parent_header": parent, "content": content,
                "channel": channel, "metadata": {}, "buffers": [],
            });
            Message::text(whole.to_string())
        };
        self.socket.send(message).await.map_err(|_| Gone)
    }
}

fn to_v1(channel: &str, header: &Value, parent: &Value, content: &Value) -> Vec<u8> {
    let parts = [
        channel.to_owned(),
        header.to_string(),
        parent.to_string(),
        "{}".to_owned(),
        content.to_string(),
    ];
    let mut offsets = vec![8 * 7];
    for part in &parts {
        offsets.push(offsets[offsets.len() - 1] + part.len());
    }
    let mut out = Vec::new();
    for number in std::iter::once(offsets.len()).chain(offsets) {
        out.extend_from_slice(&(number as u64).to_le_bytes());
    }
    out.extend_from_slice(parts.concat().as_bytes());
    out
}

fn from_v1(bytes: &[u8]) -> Option<Value> {
    let number = |index: usize| {
        let number = bytes.get(index * 8..index * 8 + 8)?.try_into().ok()?;
        usize::try_from(u64::from_le_bytes(number)).ok()
    };
    if number(0)? != 6 || number(6)? != bytes.len() {
        return None;
    }
    let part = |index: usize| bytes.get(number(index)?..number(index + 1)?);
    let json = |index: usize| serde_json::from_slice::<Value>(part(index)?).ok();
    (part(1)? == b"shell").then_some(())?;
    Some(json!({"header": json(2)?, "parent_header": json(3)?, "metadata": json(4)?, "content": json(5)?}))
}
