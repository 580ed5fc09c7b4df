//! Benchmarks of the workspace; they live in `benches/benches/`, their records in `benches/record/`.
