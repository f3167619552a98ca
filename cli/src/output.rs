//! The only place that writes to stdout and stderr.
//!
//! `println!` would panic once nobody reads the pipe; here that is an orderly end. stdout carries results alone, so that scripts can
//! read it.

use std::io::{self, IsTerminal, Write};

use serde_json::Value;

use crate::config;
use crate::failure::{Failure, Outcome};

/// Where a command's results and remarks go.
pub(crate) struct Output {
    stdout: Box<dyn Write + Send>,
    stderr: Box<dyn Write + Send>,
    stdout_is_terminal: bool,
    stderr_is_terminal: bool,
    shows_colours: bool,
}

impl std::fmt::Debug for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Output").finish_non_exhaustive()
    }
}

impl Output {
    /// Makes the output of this process.
    pub(crate) fn process() -> Self {
        Self {
            stdout_is_terminal: io::stdout().is_terminal(),
            stderr_is_terminal: io::stderr().is_terminal(),
            shows_colours: io::stdout().is_terminal() && config::wants_colours(),
            stdout: Box::new(io::stdout()),
            stderr: Box::new(io::stderr()),
        }
    }

    /// Writes one line to stdout.
    pub(crate) fn line(&mut self, text: &str) -> Result<(), Failure> {
        self.bytes(text.as_bytes())?;
        self.bytes(b"\n")
    }

    /// Writes a JSON value to stdout, indented.
    pub(crate) fn json(&mut self, value: &Value) -> Result<(), Failure> {
        self.line(&format!("{value:#}"))
    }

    /// Writes bytes to stdout as they are, and shows them at once.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.stdout
            .write_all(bytes)
            .and_then(|()| self.stdout.flush())
            .map_err(|error| match error.kind() {
                io::ErrorKind::BrokenPipe => Failure::OutputClosed,
                _ => Failure::Output(error),
            })
    }

    /// Clears the screen if stdout is one; otherwise separates what follows by an empty line.
    pub(crate) fn clear(&mut self) -> Result<(), Failure> {
        if self.stdout_is_terminal {
            self.bytes(b"\x1b[H\x1b[2J\x1b[3J")
        } else {
            self.bytes(b"\n")
        }
    }

    /// Writes a remark to stderr. One that nobody can read is lost.
    pub(crate) fn note(&mut self, text: &str) {
        drop(writeln!(self.stderr, "mobu: {text}"));
    }

    /// Returns whether colours on stdout are seen, and wanted.
    pub(crate) const fn shows_colours(&self) -> bool {
        self.shows_colours
    }

    /// Returns whether somebody sees what moves on stderr.
    pub(crate) const fn shows_progress(&self) -> bool {
        self.stderr_is_terminal
    }

    /// Says why the command failed, if it did, and returns the exit code.
    pub(crate) fn finish(mut self, result: &Result<Outcome, Failure>) -> u8 {
        match result {
            Ok(outcome) => outcome.code(),
            Err(failure) => {
                if !matches!(failure, Failure::OutputClosed) {
                    self.note(&failure.chain());
                }
                failure.code()
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod captured {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// What was written to one of the two, shared with the test.
    #[derive(Debug, Clone, Default)]
    pub(crate) struct Captured(
        // Guards the bytes alone.
        Arc<Mutex<Vec<u8>>>,
    );

    impl Captured {
        pub(crate) fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Output {
        /// Makes an output that is no terminal, with its stdout and stderr.
        pub(crate) fn captured() -> (Self, Captured, Captured) {
            let (stdout, stderr) = (Captured::default(), Captured::default());
            let output = Self {
                stdout: Box::new(stdout.clone()),
                stderr: Box::new(stderr.clone()),
                stdout_is_terminal: false,
                stderr_is_terminal: false,
                shows_colours: false,
            };
            (output, stdout, stderr)
        }
    }

    struct Closed;

    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_closed_pipe_is_an_orderly_end() {
        let mut output = Output::captured().0;
        output.stdout = Box::new(Closed);
        let failure = output.line("nobody reads this").unwrap_err();
        assert_eq!(failure.code(), 0);
    }
}
