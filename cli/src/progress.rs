//! Shows that the fleet is at work, to people only.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget};

use crate::output::Output;

/// Something that turns on stderr until it is dropped; nothing at all unless stderr is a terminal.
#[derive(Debug)]
pub(crate) struct Progress(Option<ProgressBar>);

impl Progress {
    /// Starts to show `text`.
    pub(crate) fn start(out: &Output, text: String) -> Self {
        if !out.shows_progress() {
            return Self(None);
        }
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        bar.set_message(text);
        bar.enable_steady_tick(Duration::from_millis(100));
        Self(Some(bar))
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}
