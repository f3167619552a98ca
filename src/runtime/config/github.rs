//! The GitHub apps (`contracts/config.md` 3).

use secrecy::SecretString;

use super::settings::secret;
use crate::domain::flock::User;
use crate::domain::validation::{Extra, FromInput, Input, Parsed};

/// The app that refreshes flocks after a push.
#[derive(Debug, Clone)]
pub struct GithubRefreshApp {
    /// Secret with which GitHub signs.
    pub webhook_secret: SecretString,
    /// Organizations whose pushes count, capitals mattering; none of them: nobody's.
    pub accepted_orgs: Vec<String>,
}

impl FromInput for GithubRefreshApp {
    fn from_input(input: &Input<'_>) -> Option<Parsed<Self>> {
        let mut fields = input.model("GitHubRefreshApp")?;
        let webhook_secret = fields.required_by("webhookSecret", secret);
        let accepted_orgs = fields.or("acceptedGithubOrgs", Vec::new());
        let echo = fields.close(Extra::Forbidden)?;
        let app = Self {
            webhook_secret: webhook_secret?,
            accepted_orgs,
        };
        Some(Parsed::new(app, echo))
    }
}

/// The app that runs the changed notebooks of pull requests.
#[derive(Debug, Clone)]
pub struct GithubCiApp {
    /// Number of the app.
    pub id: i64,
    /// Its private key, as PEM.
    pub private_key: SecretString,
    /// Secret with which GitHub signs.
    pub webhook_secret: SecretString,
    /// Whom jobs run as; one job at a time for each.
    pub users: Vec<User>,
    /// Scopes of the jobs' tokens.
    pub scopes: Vec<String>,
    /// Organizations whose pull requests count, capitals mattering; none of them: nobody's.
    pub accepted_orgs: Vec<String>,
}

impl FromInput for GithubCiApp {
    fn from_input(input: &Input<'_>) -> Option<Parsed<Self>> {
        let mut fields = input.model("GitHubCIApp")?;
        let id = fields.required("id");
        let private_key = fields.required_by("privateKey", secret);
        let webhook_secret = fields.required_by("webhookSecret", secret);
        let users = fields.required("users");
        let scopes = fields.required("scopes");
        let accepted_orgs = fields.or("acceptedGithubOrgs", Vec::new());
        let echo = fields.close(Extra::Forbidden)?;
        let app = Self {
            id: id?,
            private_key: private_key?,
            webhook_secret: webhook_secret?,
            users: users?,
            scopes: scopes?,
            accepted_orgs,
        };
        Some(Parsed::new(app, echo))
    }
}
