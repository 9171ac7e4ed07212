//! hobd.
fn main() {}
