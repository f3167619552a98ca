//! What coordinator, workers and tools of a mobu fleet share.

pub mod domain;
