//! Tests of the workspace as a whole; they live in `tests/tests/`.

pub mod conformance;
