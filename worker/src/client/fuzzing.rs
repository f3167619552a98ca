//! See [`crate::fuzzing`].

use bytes::Bytes;
use futures_lite::{future, stream};
use url::Url;

use super::gafaelfawr;
use super::repository::{Notebook, parse_config};
use super::shown::{UrlSecrets, shown_url};
use super::uws::Job;
use super::vosi::Capabilities;
use super::votable::{self, Verdict};

/// Judges a VOTable that comes in these pieces.
pub fn votable(chunks: &[&[u8]]) -> Result<(), String> {
    let chunks: Vec<_> = chunks.iter().map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
    match future::block_on(votable::judge(stream::iter(chunks))) {
        Verdict::Good => Ok(()),
        Verdict::Bad(bad) => Err(bad.to_string()),
        Verdict::NotVoTable => Err("no VOTable".to_owned()),
        Verdict::BrokeOff(error) => Err(error.to_string()),
    }
}

/// Reads a job description, and where the result is.
pub fn job(text: &str) -> Result<Option<Url>, String> {
    let job = Job::parse(text).map_err(|error| error.to_string())?;
    let _ = job.progress();
    let at = Url::parse("https://tap.example/async/1/").map_err(|error| error.to_string())?;
    Ok(job.result(&at))
}

/// Reads what a service can do, and where it is asked for images.
pub fn capabilities(text: &str) -> Result<Option<Url>, String> {
    let capabilities = Capabilities::parse(text).map_err(|error| error.to_string())?;
    Ok(capabilities.sia2())
}

/// Reads a notebook; returns its code.
pub fn notebook(bytes: &[u8]) -> Result<Vec<String>, String> {
    let notebook = Notebook::parse(bytes).map_err(|error| error.to_string())?;
    Ok(notebook.cells.into_iter().map(|cell| cell.code).collect())
}

/// Reads a repository's `mobu.yaml`.
pub fn repository_config(bytes: &[u8]) -> Result<(), String> {
    parse_config(bytes).map(drop).map_err(|error| error.to_string())
}

/// Reads Gafaelfawr's answer to the wish for a token.
pub fn token_answer(bytes: &[u8]) -> Result<(), String> {
    gafaelfawr::fuzzing::created(bytes)
}

/// Reads Gafaelfawr's answer to the question who somebody is.
pub fn user_answer(bytes: &[u8]) -> Result<(), String> {
    gafaelfawr::fuzzing::user(bytes)
}

/// Returns a text about the place of a repository as it is shown, and that place as a URL is shown.
pub fn git_url(place: &str) -> (String, Option<String>) {
    let said = format!("fatal: unable to access '{place}/': nobody there");
    let shown = UrlSecrets::of(place).hide(&said);
    (shown, Url::parse(place).ok().map(|url| shown_url(&url)))
}
