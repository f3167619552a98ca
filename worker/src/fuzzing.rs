//! What reads foreign input, one function per kind, for the tests that give each millions of inputs.
//!
//! Each returns what it made of the input, or the text of its refusal. Without the feature `fuzzing` none of it exists.

pub use crate::business::query_sets::fuzzing::{query_field, query_template};
pub use crate::client::fuzzing::{
    capabilities, git_url, job, notebook, repository_config, token_answer, user_answer, votable,
};
pub use crate::client::nublado::fuzzing::{cookie, execute_request, kernel_conversation, progress};

/// Reads a glob, and asks it about a path.
pub fn glob(pattern: &str, path: &str) -> Result<bool, String> {
    crate::business::glob_finds(pattern, path)
}
