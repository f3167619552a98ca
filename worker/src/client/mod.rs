//! The services that a replica talks to, one file each, and what they have in common.

pub(crate) mod direct;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
pub(crate) mod gafaelfawr;
pub(crate) mod git;
pub(crate) mod http;
mod loopback;
pub(crate) mod muster;
pub(crate) mod nublado;
mod pieces;
pub(crate) mod repertoire;
pub(crate) mod repository;
pub(crate) mod shown;
pub(crate) mod sia;
pub(crate) mod tap;
pub(crate) mod tokens;
mod uws;
pub(crate) mod vo;
mod vosi;
mod votable;
mod xml;
