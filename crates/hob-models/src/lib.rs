//! Which models there are, where they lie, and whether they can be trusted.
//!

pub mod locations;
