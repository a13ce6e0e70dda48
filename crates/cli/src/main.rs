//! The binary `flott`.
fn main() {}
