//! What a replica knows about its monkeys' work in figures: counted by the monkeys themselves, cheaply, and never by monkey.

pub(crate) mod causes;
pub(crate) mod histogram;
pub(crate) mod lateness;
pub(crate) mod outlet;
pub(crate) mod tally;
