//! The only place that asks for the time.
//!
//! Deadlines use [`Instant`], which tests can pause; the wall clock is for display fields alone and
//! never orders anything.

use jiff::Timestamp;
pub use tokio::time::Instant;

/// Returns the time that deadlines are measured in.
pub fn now() -> Instant {
    Instant::now()
}

/// Waits until a moment; for ever if there is none.
///
/// # Cancel safety
///
/// Safe.
pub async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// Returns the wall clock's time, rounded down to microseconds as mobu shows it.
pub fn wall() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now)
}
