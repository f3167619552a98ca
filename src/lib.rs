//! What coordinator, workers and tools of a mobu fleet share.

pub mod domain;
pub mod link;
pub mod runtime;
