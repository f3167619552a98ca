//! What a user asks the lab for (`contracts/businesses.md` 4.5, 4.6).

use serde_json::{Value, json};

use super::browser::{Body, Mode, Route};
use super::kernel::{self, Kernel};
use super::{Nublado, NubladoError, SocketError};

/// Kernel of the Rubin Science Platform's stack.
const KERNEL: &str = "lsst";

/// What a session is called where it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SessionIds {
    /// The session.
    pub(crate) session: String,
    /// Its kernel.
    pub(crate) kernel: String,
}

impl Nublado {
    /// Logs in to the lab, or renews the login; finds out where the lab is.
    pub(crate) async fn log_in_to_lab(&mut self) -> Result<(), NubladoError> {
        let path = format!("user/{}/lab", self.username);
        let page = self.browser.get(Route::Lab(&path), Mode::Navigate).await?;
        page.success().await?.discard().await;
        Ok(())
    }

    /// Starts a kernel: in a session of that notebook, or in a console that is named by `id`.
    pub(crate) async fn create_session(
        &mut self,
        notebook: Option<&str>,
        id: &str,
    ) -> Result<SessionIds, NubladoError> {
        let session = match notebook {
            Some(name) => json!({"kernel": {"name": KERNEL}, "name": name, "path": name, "type": "notebook"}),
            None => json!({"kernel": {"name": KERNEL}, "name": "(no notebook)", "path": id, "type": "console"}),
        };
        let path = self.lab_path("sessions");
        let body = Body::Json(session.to_string());
        let answer = self.browser.post(Route::Lab(&path), Mode::SameOrigin, body).await?;
        let answer = answer.success().await?;
        let (request, status) = (answer.request().clone(), answer.status());
        let session = answer.json().await?;
        let id = |value: Option<&Value>| Some(value?.as_str()?.to_owned());
        let ids = id(session.get("id")).zip(id(session.pointer("/kernel/id")));
        let (session, kernel) = ids.ok_or_else(|| NubladoError::Answer {
            request,
            what: "it names no session and kernel".to_owned(),
            status,
            body: Vec::new(),
        })?;
        Ok(SessionIds { session, kernel })
    }

    /// Connects to the kernel of a session. Messages above `largest` bytes break the connection.
    pub(crate) async fn connect(&mut self, ids: &SessionIds, largest: Option<usize>) -> Result<Kernel, SocketError> {
        let path = self.lab_path(&format!("kernels/{}/channels", ids.kernel));
        let key = kernel::key();
        let answer = self.browser.upgrade(Route::Lab(&path), kernel::offer(&key)).await?;
        Kernel::open(answer, &key, &self.username, &ids.session, largest).await
    }

    /// Asks the kernel to stop what it runs, as Ctrl+C does.
    pub(crate) async fn interrupt(&mut self, ids: &SessionIds) -> Result<(), NubladoError> {
        let path = self.lab_path(&format!("kernels/{}/interrupt", ids.kernel));
        let answer = self
            .browser
            .post(Route::Lab(&path), Mode::SameOrigin, Body::None)
            .await?;
        answer.success().await?.discard().await;
        Ok(())
    }

    /// Ends a session and its kernel.
    pub(crate) async fn delete_session(&mut self, ids: &SessionIds) -> Result<(), NubladoError> {
        let path = self.lab_path(&format!("sessions/{}", ids.session));
        let answer = self.browser.delete(Route::Lab(&path)).await?;
        answer.success().await?.discard().await;
        Ok(())
    }

    fn lab_path(&self, path: &str) -> String {
        format!("user/{}/api/{path}", self.username)
    }
}
