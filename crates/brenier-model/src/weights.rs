//! Parameters: where they come from, fresh ones, and how they are written.

use std::collections::HashMap;
use std::convert::Infallible;
use std::path::Path;

use brenier_files::Existing;
use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{DType, Device, Tensor, TensorData};
use half::{bf16, f16};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use safetensors::tensor::{Dtype, TensorView};

use crate::config::Config;
use crate::error::ModelError;

/// The name of the embedding table in a checkpoint.
pub(crate) const EMBEDDING: &str = "model.embed_tokens.weight";
/// The name of the output matrix in a checkpoint.
pub(crate) const HEAD: &str = "lm_head.weight";

/// Where a decoder's parameters come from; asked for by checkpoint name.
pub(crate) trait Parameters {
    type Error;
    /// The embedding table; `tied` as the configuration says.
    fn embedding(&mut self, shape: [usize; 2], tied: bool) -> Result<Param<Tensor<2>>, Self::Error>;
    /// The output matrix; none where the embedding table serves.
    fn head(&mut self, shape: [usize; 2], tied: bool) -> Result<Option<Param<Tensor<2>>>, Self::Error>;
    fn matrix(&mut self, name: &str, shape: [usize; 2]) -> Result<Param<Tensor<2>>, Self::Error>;
    fn bias(&mut self, name: &str, width: usize) -> Result<Param<Tensor<1>>, Self::Error>;
    /// The weight of a norm; `neutral` is the one that changes nothing.
    fn gain(&mut self, name: &str, width: usize, neutral: f32) -> Result<Param<Tensor<1>>, Self::Error>;
}

/// Untrained parameters.
pub(crate) struct Fresh<'a> {
    rng: StdRng,
    deviation: f64,
    device: &'a Device,
}

impl<'a> Fresh<'a> {
    pub(crate) fn new(config: &Config, seed: u64, device: &'a Device) -> Self {
        Self { rng: StdRng::seed_from_u64(seed), deviation: config.initializer_range, device }
    }

    /// Box-Muller: a uniform number in (0, 1] and an angle.
    fn normal(&mut self) -> f32 {
        let radius = (-2.0 * (1.0 - self.rng.random::<f64>()).ln()).sqrt();
        let angle = std::f64::consts::TAU * self.rng.random::<f64>();
        (self.deviation * radius * angle.cos()) as f32
    }

    fn vector(&self, value: f32, width: usize) -> Param<Tensor<1>> {
        let data = TensorData::new(vec![value; width], [width]);
        Param::from_tensor(Tensor::from_data(data, (self.device, DType::F32)))
    }
}

impl Parameters for Fresh<'_> {
    type Error = Infallible;

    fn embedding(&mut self, shape: [usize; 2], _: bool) -> Result<Param<Tensor<2>>, Infallible> {
        self.matrix(EMBEDDING, shape)
    }

    fn head(&mut self, shape: [usize; 2], tied: bool) -> Result<Option<Param<Tensor<2>>>, Infallible> {
        if tied { Ok(None) } else { self.matrix(HEAD, shape).map(Some) }
    }

    fn matrix(&mut self, _: &str, shape: [usize; 2]) -> Result<Param<Tensor<2>>, Infallible> {
        let values: Vec<f32> = (0..shape[0] * shape[1]).map(|_| self.normal()).collect();
        Ok(Param::from_tensor(Tensor::from_data(TensorData::new(values, shape), (self.device, DType::F32))))
    }

    fn bias(&mut self, _: &str, width: usize) -> Result<Param<Tensor<1>>, Infallible> {
        Ok(self.vector(0.0, width))
    }

    fn gain(&mut self, _: &str, width: usize, neutral: f32) -> Result<Param<Tensor<1>>, Infallible> {
        Ok(self.vector(neutral, width))
    }
}

/// Writes all parameters of a module under their paths in the module tree.
pub(crate) fn save<M: Module>(module: &M, path: &Path, dtype: DType) -> Result<(), ModelError> {
    let stored = match dtype {
        DType::F32 => Dtype::F32,
        DType::F16 => Dtype::F16,
        DType::BF16 => Dtype::BF16,
        other => {
            return Err(ModelError::Layout {
                path: path.to_owned(),
                reason: format!("expected F32, F16 or BF16 weights, found {other:?}"),
            });
        }
    };
    let unwritten = |reason: String| ModelError::Layout { path: path.to_owned(), reason };
    let mut collector = Collector { stored, path: Vec::new(), tensors: Vec::new() };
    module.visit(&mut collector);
    let mut views = Vec::with_capacity(collector.tensors.len());
    for (name, shape, bytes) in &collector.tensors {
        let view =
            TensorView::new(stored, shape.clone(), bytes).map_err(|error| unwritten(error.to_string()))?;
        views.push((name.as_str(), view));
    }
    // transformers refuses files whose metadata does not name a framework.
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let bytes =
        safetensors::serialize(views, Some(metadata)).map_err(|error| unwritten(error.to_string()))?;
    Ok(brenier_files::write_bytes(path, Existing::Replace, &bytes)?)
}

struct Collector {
    stored: Dtype,
    path: Vec<String>,
    tensors: Vec<(String, Vec<usize>, Vec<u8>)>,
}

impl ModuleVisitor for Collector {
    fn enter_module(&mut self, name: &str, container: &str) {
        // An enum stands for the fields of its variant: its own name is part of no key, nor is the variant's.
        let in_enum = container.starts_with("Enum:");
        if let Some(last) = self.path.last_mut().filter(|_| in_enum) {
            last.clear();
        }
        self.path.push(if in_enum { String::new() } else { name.to_owned() });
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let tensor = param.val();
        let shape = tensor.dims().to_vec();
        let values = tensor.into_data();
        let floats = values.iter::<f32>();
        let bytes = match self.stored {
            Dtype::F16 => floats.flat_map(|x| f16::from_f32(x).to_le_bytes()).collect(),
            Dtype::BF16 => floats.flat_map(|x| bf16::from_f32(x).to_le_bytes()).collect(),
            _ => floats.flat_map(f32::to_le_bytes).collect(),
        };
        let name: Vec<&str> = self.path.iter().map(String::as_str).filter(|part| !part.is_empty()).collect();
        self.tensors.push((name.join("."), shape, bytes));
    }
}
