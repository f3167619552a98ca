//! The link inside one process.
