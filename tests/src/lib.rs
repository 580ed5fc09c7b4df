//! Whole-way tests of the workspace; they live in `tests/tests/`.
