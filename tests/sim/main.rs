//! The seeded simulation of whole fleets: see `docs/reliability.md`.

mod planted;
mod seeds;
