//! The coordinator of a mobu fleet: holds the desired state, broadcasts it, and answers for all replicas.

pub mod api;
pub mod fleet;
