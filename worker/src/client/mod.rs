//! The services that a replica talks to, one file each, and what they have in common.

pub(crate) mod gafaelfawr;
pub(crate) mod git;
pub(crate) mod http;
pub(crate) mod muster;
pub(crate) mod repertoire;
pub(crate) mod shown;
pub(crate) mod tokens;
