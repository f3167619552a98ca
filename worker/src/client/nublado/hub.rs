//! What a user asks the hub for (`contracts/businesses.md` 4.2 to 4.4, 4.10).

use serde_json::Value;
use url::form_urlencoded;

use super::browser::{Body, Mode, Route};
use super::{Nublado, NubladoError, Progress};

impl Nublado {
    /// Logs in, with nothing left of an earlier login.
    pub(crate) async fn log_in(&mut self) -> Result<(), NubladoError> {
        self.browser.forget();
        let page = self.browser.get(Route::Hub("hub/home"), Mode::Navigate).await?;
        page.success().await?.discard().await;
        Ok(())
    }

    /// Asks whether the user has no lab: neither one that runs, nor one that comes or goes.
    pub(crate) async fn is_lab_stopped(&mut self) -> Result<bool, NubladoError> {
        let path = format!("hub/api/users/{}", self.username);
        let answer = self.browser.get(Route::Hub(&path), Mode::SameOrigin).await?;
        let answer = answer.success().await?;
        let (request, status) = (answer.request().clone(), answer.status());
        let user = answer.json().await?;
        match user.get("servers") {
            Some(Value::Object(servers)) => Ok(servers.is_empty()),
            _ => Err(NubladoError::Answer {
                request,
                what: "it names no `servers`".to_owned(),
                status,
                body: Vec::new(),
            }),
        }
    }

    /// Opens the form for a lab. Without having shown it, the hub takes none.
    pub(crate) async fn open_spawn_form(&mut self) -> Result<(), NubladoError> {
        let page = self.browser.get(Route::Hub("hub/spawn"), Mode::Navigate).await?;
        page.success().await?.discard().await;
        Ok(())
    }

    /// Asks for a lab. That it was asked for does not mean that it comes: [`Nublado::progress`] tells.
    pub(crate) async fn spawn(&mut self, form: &[(&str, &str)]) -> Result<(), NubladoError> {
        let form = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(form)
            .finish();
        let posted = self
            .browser
            .post(Route::Hub("hub/spawn"), Mode::SameOrigin, Body::Form(form))
            .await?;
        posted.success().await?.discard().await;
        Ok(())
    }

    /// Watches how the lab comes.
    pub(crate) async fn progress(&mut self) -> Result<Progress, NubladoError> {
        let path = format!("hub/api/users/{}/server/progress", self.username);
        let answer = self.browser.stream(Route::Hub(&path)).await?;
        Progress::open(answer).await
    }

    /// Asks for the end of the lab; does not wait for it.
    pub(crate) async fn delete_lab(&mut self) -> Result<(), NubladoError> {
        let path = format!("hub/api/users/{}/server", self.username);
        let answer = self.browser.delete(Route::Hub(&path)).await?;
        answer.success().await?.discard().await;
        Ok(())
    }
}
