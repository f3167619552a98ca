//! A stand-in for what surrounds services on the platform: Gafaelfawr, Repertoire and Muster behind its ingresses. It is none of them,
//! but answers as the contract says (`contracts/businesses.md` 2, 3, 9). What knows tokens asks it who is who.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn, map_response};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use mobu_fleet::runtime::tasks::{TaskKind, Tasks};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;

/// The token that may make others.
pub const ADMIN_TOKEN: &str = "gt-admin.secret";

/// Who has which token.
#[derive(Debug, Default)]
pub struct Users {
    /// Guards what is known of each user, by token; held for a look, never over an await.
    known: Mutex<BTreeMap<String, User>>,
    /// What the first users get for tokens, if services want certain ones.
    given: Vec<String>,
}

/// What Gafaelfawr and Muster say of a user.
#[derive(Debug, Clone)]
struct User {
    username: String,
    name: String,
    uid: u32,
    /// How many requests of a limited kind came with the token.
    counted: u64,
}

impl Users {
    /// Returns whose token it is.
    pub fn name_of(&self, token: &str) -> Option<String> {
        self.with(token, |user| user.username.clone())
    }

    fn with<T>(&self, token: &str, look: impl FnOnce(&mut User) -> T) -> Option<T> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get_mut(token).map(look)
    }

    /// Makes a token for a user: two times 22 characters after `gt-`, as the real one does, though not at random.
    fn issue(&self, username: &str, name: &str) -> String {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let half = || uuid::Uuid::new_v4().simple().to_string()[..22].to_owned();
        let token = self.given.get(known.len()).cloned();
        let token = token.unwrap_or_else(|| format!("gt-{}.{}", half(), half()));
        let user = User {
            username: username.to_owned(),
            name: name.to_owned(),
            uid: 4200 + u32::try_from(known.len()).unwrap_or_default(),
            counted: 0,
        };
        known.insert(token.clone(), user);
        token
    }
}

/// The stand-in. Ends when it is dropped.
#[derive(Debug)]
pub struct Platform {
    /// Who has which token.
    pub users: Arc<Users>,
    /// Its address.
    pub address: SocketAddr,
    router: Router,
    hangs: watch::Sender<bool>,
    tasks: Tasks,
}

#[derive(Debug)]
struct Shared {
    users: Arc<Users>,
    discovery: Value,
}

impl Platform {
    /// Starts it; `services` is what Repertoire shall say besides Gafaelfawr and Muster.
    pub async fn start(services: &Value) -> Result<Self> {
        Self::start_with(services, Vec::new()).await
    }

    /// The same, and its first users get these very tokens.
    pub async fn start_with(services: &Value, given: Vec<String>) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let users = Arc::new(Users {
            given,
            ..Users::default()
        });
        let hangs = watch::Sender::new(false);
        let shared = Shared {
            users: users.clone(),
            discovery: discovery(services, &format!("http://{address}")),
        };
        let router = router(shared, hangs.subscribe());
        Ok(Self {
            users,
            address,
            tasks: serve(listener, router.clone()),
            router,
            hangs,
        })
    }

    /// Answers nothing any more, though it accepts connections and reads requests; or answers again.
    pub fn hang(&self, hangs: bool) {
        self.hangs.send_replace(hangs);
    }

    /// Ends it with all its connections. It forgets nobody.
    pub async fn kill(&mut self) -> Result<()> {
        self.tasks.abort_token().cancel();
        // Only when its port can be had is it gone.
        let gone = async {
            while TcpListener::bind(self.address).await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), gone).await?;
        Ok(())
    }

    /// Brings it back where it was.
    pub async fn restart(&mut self) -> Result<()> {
        self.tasks = serve(TcpListener::bind(self.address).await?, self.router.clone());
        Ok(())
    }

    /// What a fleet's processes must be told.
    pub fn variables(&self) -> Vec<(&'static str, String)> {
        vec![
            ("REPERTOIRE_BASE_URL", format!("http://{}/repertoire", self.address)),
            ("MOBU_GAFAELFAWR_TOKEN", ADMIN_TOKEN.to_owned()),
        ]
    }
}

impl Drop for Platform {
    fn drop(&mut self) {
        self.tasks.abort_token().cancel();
    }
}

fn serve(listener: TcpListener, router: Router) -> Tasks {
    let tasks = Tasks::new();
    tasks.spawn(TaskKind::Expendable, "platform", async move {
        axum::serve(listener, router).await.ok();
    });
    tasks
}

fn discovery(services: &Value, base: &str) -> Value {
    let mut discovery = json!({
        "applications": ["gafaelfawr", "mobu", "muster"],
        "services": {"internal": {
            "gafaelfawr": {"url": format!("{base}/auth/api"), "versions": {"v1": {"url": format!("{base}/auth/api/v1")}}},
            "muster": {"url": format!("{base}/muster")},
        }},
    });
    merge(&mut discovery, services);
    discovery
}

fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from.clone(),
    }
}

fn router(shared: Shared, hangs: watch::Receiver<bool>) -> Router {
    Router::new()
        .route("/repertoire/discovery", get(discover))
        .route("/auth/api/v1/tokens", post(create))
        .route("/auth/api/v1/user-info", get(user_info))
        .route("/muster/{*path}", get(muster))
        .layer(from_fn(move |request: Request, next: Next| {
            let mut hangs = hangs.clone();
            async move {
                // It ends only with the stand-in, and the request with it.
                drop(hangs.wait_for(|hangs| !hangs).await);
                next.run(request).await
            }
        }))
        // A connection for each request: when it is killed, none is left that would still be served.
        .layer(map_response(async |mut response: Response| {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert("connection", close);
            response
        }))
        .with_state(Arc::new(shared))
}

async fn discover(State(shared): State<Arc<Shared>>) -> Json<Value> {
    Json(shared.discovery.clone())
}

async fn create(State(shared): State<Arc<Shared>>, headers: HeaderMap, Json(wish): Json<Value>) -> Response {
    if bearer(&headers) != Some(ADMIN_TOKEN) {
        return refusal(StatusCode::FORBIDDEN, "permission_denied");
    }
    let username = wish["username"].as_str().unwrap_or_default();
    if !username.starts_with("bot-") || wish["token_type"] != "service" {
        return refusal(StatusCode::UNPROCESSABLE_ENTITY, "invalid_username");
    }
    let name = wish["name"].as_str().unwrap_or_default();
    let token = shared.users.issue(username, name);
    (StatusCode::CREATED, Json(json!({"token": token}))).into_response()
}

async fn user_info(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    match who(&shared, &headers) {
        Some(user) => Json(person(&user)).into_response(),
        None => refusal(StatusCode::UNAUTHORIZED, "invalid_token"),
    }
}

/// Muster with its ingresses. A minute of its quota is over when it has refused once, so that nobody has to wait.
async fn muster(State(shared): State<Arc<Shared>>, Path(path): Path<String>, headers: HeaderMap) -> Response {
    let user = who(&shared, &headers);
    match (path.as_str(), user) {
        ("anonymous", _) => Json(json!({"ok": true})).into_response(),
        ("auth/redirect", None) => (StatusCode::FOUND, [("location", "/login?rd=x")]).into_response(),
        ("auth/fail", None) if headers.contains_key("authorization") => StatusCode::BAD_REQUEST.into_response(),
        ("auth/fail", None) => {
            let challenge = [("www-authenticate", "Bearer realm=\"platform.test\"")];
            (StatusCode::UNAUTHORIZED, challenge).into_response()
        }
        ("auth/redirect" | "auth/fail", Some(user)) => Json(json!({"username": user.username})).into_response(),
        ("auth/quota", Some(_)) => {
            let limits = [
                ("x-ratelimit-limit", "1"),
                ("x-ratelimit-remaining", "0"),
                ("x-ratelimit-reset", "1700000000"),
                ("x-ratelimit-resource", "muster-quota"),
                ("x-ratelimit-used", "1"),
            ];
            let token = bearer(&headers).unwrap_or_default();
            let count = shared.users.with(token, |user| {
                user.counted += 1;
                user.counted
            });
            if count.is_some_and(|count| count % 2 == 1) {
                return (limits, Json(json!({}))).into_response();
            }
            (StatusCode::TOO_MANY_REQUESTS, limits, [("retry-after", "42")]).into_response()
        }
        ("delegated/header" | "delegated/authorization", Some(user)) => Json(person(&user)).into_response(),
        (path, _) => (StatusCode::NOT_FOUND, format!("nothing at {path}")).into_response(),
    }
}

fn who(shared: &Shared, headers: &HeaderMap) -> Option<User> {
    shared.users.with(bearer(headers)?, |user| user.clone())
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    headers.get("authorization")?.to_str().ok()?.strip_prefix("Bearer ")
}

fn person(user: &User) -> Value {
    let User {
        username, name, uid, ..
    } = user;
    json!({
        "username": username, "name": name, "uid": uid, "gid": uid,
        "groups": [{"name": username, "id": uid}, {"name": "g_monkeys", "id": 9}],
    })
}

fn refusal(status: StatusCode, kind: &str) -> Response {
    let detail = json!({"detail": [{"msg": "no", "type": kind}]});
    (status, Json(detail)).into_response()
}
