//! Optimal transport of language-model activations: capture, fit, intervene, measure.
//!
//! This crate holds no logic. It re-exports the libraries of Brenier under one name and is the one place
//! where a backend is chosen, by feature: `flex` (CPU, the default), `x86-v4` (the same with AVX-512),
//! `wgpu`, `vulkan`, `metal`, `cuda`, `rocm`. Several may be compiled in; a device is picked at run time
//! and passed in.
//!
//! | module | what it does |
//! |---|---|
//! | [`files`] | files written whole or not at all |
//! | [`linalg`] | PCA, symmetric roots, shrinkage in f64 |
//! | [`hub`] | model directories by name, with the feature `hub` downloaded |
//! | [`map`] | the affine row operator and its file |
//! | [`transport`] | optimal-transport maps, baselines, certificates |
//! | [`kernels`] | products with bf16 weights on a CPU |
//! | [`residual`] | the seam to any model: hook points, taps, batches |
//! | [`model`] | Hugging Face directories as models |
//! | [`capture`] | recording activations |
//! | [`hooks`] | maps inside the forward pass |
//! | [`eval`] | judges, perplexity, KL, study, report |
//! | [`organism`] | the built-in model organism |
//! | [`device`] | devices by name |
#![deny(missing_docs)]

pub use brenier_capture as capture;
pub use brenier_eval as eval;
pub use brenier_files as files;
pub use brenier_hooks as hooks;
pub use brenier_hub as hub;
pub use brenier_kernels as kernels;
pub use brenier_linalg as linalg;
pub use brenier_map as map;
pub use brenier_model as model;
pub use brenier_organism as organism;
pub use brenier_residual as residual;
pub use brenier_transport as transport;

pub use burn::tensor::{DType, Device};

pub mod device;
