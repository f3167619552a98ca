//! A stand-in for the ingress of the platform before one service: who comes with a token is named to the service, in a header, and
//! the token stays here; who comes without one is asked for it. It is no Gafaelfawr and no nginx, but services see from it what they
//! see from those (`contracts/businesses.md` 4.1).

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, OnceLock};

use anyhow::Result;
use mobu_fleet::runtime::tasks::{TaskKind, Tasks};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use crate::platform::Users;

/// Size of the largest head of a request, in bytes.
const HEAD: usize = 64 * 1024;

/// The stand-in. Ends, with all its connections, when it is dropped.
#[derive(Debug)]
pub struct Ingress {
    /// Where it listens.
    pub address: SocketAddr,
    inside: Arc<OnceLock<Inside>>,
    tasks: Tasks,
}

/// What it stands before.
#[derive(Debug)]
struct Inside {
    upstream: SocketAddr,
    users: Arc<Users>,
}

impl Ingress {
    /// Listens, and turns everybody away until it knows what to stand before.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let inside = Arc::new(OnceLock::new());
        let tasks = Tasks::new();
        let (shared, accepted) = (Arc::clone(&inside), tasks.clone());
        tasks.spawn(TaskKind::Expendable, "ingress", async move {
            while let Ok((client, _)) = listener.accept().await {
                let served = serve(client, Arc::clone(&shared));
                accepted.spawn(TaskKind::Expendable, "request", served);
            }
        });
        Ok(Self { address, inside, tasks })
    }

    /// Lets these users through to a service on this machine, from now on.
    ///
    /// # Panics
    ///
    /// If it stands before a service already.
    pub fn stand_before(&self, port: u16, users: Arc<Users>) {
        let upstream = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let is_new = self.inside.set(Inside { upstream, users }).is_ok();
        assert!(is_new, "an ingress stands before one service");
    }
}

impl Drop for Ingress {
    fn drop(&mut self) {
        self.tasks.abort_token().cancel();
    }
}

/// Serves one request; whatever comes after it on the connection belongs to it.
async fn serve(mut client: TcpStream, inside: Arc<OnceLock<Inside>>) {
    let Some(head) = head(&mut client).await else { return };
    let inside = inside.get();
    let token = header(&head, "authorization").and_then(|value| value.strip_prefix("Bearer "));
    let user = inside
        .zip(token)
        .and_then(|(inside, token)| inside.users.name_of(token));
    let (Some(inside), Some(user)) = (inside, user) else {
        let refusal = "HTTP/1.1 401 Unauthorized\r\nwww-authenticate: Bearer realm=\"ingress.test\"\r\ncontent-length: 0\r\n\
                       connection: close\r\n\r\n";
        client.write_all(refusal.as_bytes()).await.ok();
        return;
    };
    let Ok(mut service) = TcpStream::connect(inside.upstream).await else {
        let gone = "HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        client.write_all(gone.as_bytes()).await.ok();
        return;
    };
    if service.write_all(rewritten(&head, &user).as_bytes()).await.is_ok() {
        copy_bidirectional(&mut client, &mut service).await.ok();
    }
}

/// Returns the head of a request as the service gets it.
fn rewritten(head: &str, user: &str) -> String {
    let is_upgrade = header(head, "upgrade").is_some();
    let is_kept = |line: &&str| {
        let name = line.split(':').next().unwrap_or_default().to_ascii_lowercase();
        name != "authorization" && name != "x-auth-request-user" && (is_upgrade || name != "connection")
    };
    let mut lines: Vec<_> = head.trim_end().split("\r\n").filter(is_kept).collect();
    let named = format!("X-Auth-Request-User: {user}");
    lines.push(&named);
    lines.push("X-Forwarded-Proto: http");
    if !is_upgrade {
        // One request each: the next one may be another user's.
        lines.push("Connection: close");
    }
    format!("{}\r\n\r\n", lines.join("\r\n"))
}

fn header<'a>(head: &'a str, wanted: &str) -> Option<&'a str> {
    head.lines().skip(1).find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case(wanted).then_some(value.trim())
    })
}

/// Reads the head of a request, to the byte, so that what follows can be passed on.
async fn head(client: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.ok()?);
        if head.len() > HEAD {
            return None;
        }
    }
    String::from_utf8(head).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_sees_the_user_and_no_token() {
        let head = "GET /nb/hub/home HTTP/1.1\r\nHost: h\r\nAUTHORIZATION: Bearer gt-a.b\r\nConnection: keep-alive\r\n\
                    X-Auth-Request-User: admin\r\n\r\n";
        assert_eq!(header(head, "authorization"), Some("Bearer gt-a.b"));
        assert_eq!(
            rewritten(head, "bot-mobu-a1"),
            "GET /nb/hub/home HTTP/1.1\r\nHost: h\r\nX-Auth-Request-User: bot-mobu-a1\r\nX-Forwarded-Proto: http\r\n\
             Connection: close\r\n\r\n"
        );
        let upgrade = "GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
        let rewritten = rewritten(upgrade, "u");
        assert!(
            rewritten.contains("Connection: Upgrade\r\nUpgrade: websocket\r\n"),
            "{rewritten}"
        );
        assert!(!rewritten.contains("close"), "{rewritten}");
    }
}
