//! JupyterHub and the labs that it spawns (`contracts/businesses.md` 4), as a browser sees them: cookies, XSRF tokens and
//! redirects, and no API token.
//!
//! [`Nublado`] is one user's way to hub and lab; [`hub`] and [`lab`] add what can be asked there. A [`Kernel`] is the
//! connection over which a session's kernel gets code.

mod base;
mod browser;
mod error;
mod execution;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod hub;
mod kernel;
mod lab;
mod message;
mod progress;
mod xsrf;

use std::time::Duration;

use mobu_fleet::link::BoxError;
use secrecy::SecretString;

use self::browser::Browser;
pub(crate) use self::error::NubladoError;
pub(crate) use self::execution::{Execution, Meaning, Raised, plain};
pub(crate) use self::kernel::{Kernel, SocketError};
pub(crate) use self::lab::SessionIds;
pub(crate) use self::message::Incoming;
pub(crate) use self::progress::Progress;

/// One user's way to hub and lab: connections, cookies and tokens of one run.
#[derive(Debug)]
pub(crate) struct Nublado {
    browser: Browser,
    username: String,
}

impl Nublado {
    /// Prepares a client of the hub with this base URL; asks for nothing yet. `limit` bounds each wait for the other side.
    pub(crate) fn new(hub: &str, username: &str, token: &SecretString, limit: Duration) -> Result<Self, BoxError> {
        Ok(Self {
            browser: Browser::new(hub, username, token, limit)?,
            username: username.to_owned(),
        })
    }
}
