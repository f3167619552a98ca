//! Services that tests put in the place of real ones: true to their protocols, with failures on demand. Not for anything else.
#![expect(clippy::unwrap_used, reason = "what fails in a test's service fails the test")]

pub mod hub;
