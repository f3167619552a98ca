//! What both processes need to live and die well.

pub mod backoff;
pub mod clock;
pub mod config;
pub mod http;
pub mod lifecycle;
pub mod process;
pub mod tasks;
pub mod telemetry;
