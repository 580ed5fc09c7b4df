//! Parameters: fresh ones, and those of safetensors files, single or sharded.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::path::{Path, PathBuf};

use brenier_files::Existing;
use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{DType, Device, Tensor, TensorData};
use half::{bf16, f16};
use memmap2::Mmap;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use safetensors::tensor::{Dtype, Metadata, SafeTensors, TensorInfo, TensorView};
use serde_json::Value;

use crate::config::Config;
use crate::error::ModelError;
use crate::fields::{Fields, kind, read_object};

/// The file of weights that are not sharded.
const SINGLE: &str = "model.safetensors";
/// The file that says which shard holds which tensor.
const INDEX: &str = "model.safetensors.index.json";

/// Where a decoder's parameters come from; asked for by checkpoint name.
pub(crate) trait Parameters {
    type Error;
    fn matrix(&mut self, name: &str, shape: [usize; 2]) -> Result<Param<Tensor<2>>, Self::Error>;
    fn bias(&mut self, name: &str, width: usize) -> Result<Param<Tensor<1>>, Self::Error>;
    /// The weight of a norm.
    fn gain(&mut self, name: &str, width: usize) -> Result<Param<Tensor<1>>, Self::Error>;
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

    fn matrix(&mut self, _: &str, shape: [usize; 2]) -> Result<Param<Tensor<2>>, Infallible> {
        let values: Vec<f32> = (0..shape[0] * shape[1]).map(|_| self.normal()).collect();
        Ok(Param::from_tensor(Tensor::from_data(TensorData::new(values, shape), (self.device, DType::F32))))
    }

    fn bias(&mut self, _: &str, width: usize) -> Result<Param<Tensor<1>>, Infallible> {
        Ok(self.vector(0.0, width))
    }

    fn gain(&mut self, _: &str, width: usize) -> Result<Param<Tensor<1>>, Infallible> {
        Ok(self.vector(1.0, width))
    }
}

/// The weights of a checkpoint directory: files memory-mapped, tensors read when asked for.
pub(crate) struct Checkpoint<'a> {
    files: Vec<WeightFile>,
    /// Tensor name to file.
    index: HashMap<String, usize>,
    /// The file to name where a tensor is in none.
    root: PathBuf,
    device: &'a Device,
    dtype: DType,
}

struct WeightFile {
    path: PathBuf,
    map: Mmap,
    /// Where tensors begin in the file.
    start: usize,
    metadata: Metadata,
}

impl<'a> Checkpoint<'a> {
    /// Opens `model.safetensors`, or all shards of `model.safetensors.index.json`, and checks their headers.
    pub(crate) fn open(dir: &Path, device: &'a Device, dtype: DType) -> Result<Self, ModelError> {
        let (root, paths) = weight_files(dir)?;
        let files = paths.iter().map(|path| WeightFile::open(path)).collect::<Result<Vec<_>, _>>()?;
        let mut index = HashMap::new();
        for (number, file) in files.iter().enumerate() {
            index.extend(file.metadata.offset_keys().into_iter().map(|name| (name, number)));
        }
        Ok(Self { files, index, root, device, dtype })
    }

    fn tensor<const D: usize>(&self, name: &str, shape: [usize; D]) -> Result<Param<Tensor<D>>, ModelError> {
        let missing = || ModelError::MissingTensor { path: self.root.clone(), tensor: name.to_owned() };
        let file = self.index.get(name).and_then(|&number| self.files.get(number)).ok_or_else(missing)?;
        let info = file.metadata.info(name).ok_or_else(missing)?;
        if info.shape != shape {
            return Err(ModelError::Shape {
                path: file.path.clone(),
                tensor: name.to_owned(),
                expected: shape.to_vec(),
                found: info.shape.clone(),
            });
        }
        let values = file.floats(name, info)?;
        // Through f32 whatever the file holds: exact for all three dtypes.
        let data = TensorData::new(values, shape);
        Ok(Param::from_tensor(Tensor::from_data(data, (self.device, self.dtype))))
    }
}

impl Parameters for Checkpoint<'_> {
    type Error = ModelError;

    fn matrix(&mut self, name: &str, shape: [usize; 2]) -> Result<Param<Tensor<2>>, ModelError> {
        self.tensor(name, shape)
    }

    fn bias(&mut self, name: &str, width: usize) -> Result<Param<Tensor<1>>, ModelError> {
        self.tensor(name, [width])
    }

    fn gain(&mut self, name: &str, width: usize) -> Result<Param<Tensor<1>>, ModelError> {
        self.tensor(name, [width])
    }
}

impl WeightFile {
    fn open(path: &Path) -> Result<Self, ModelError> {
        let file = brenier_files::open(path).map_err(ModelError::io(path))?;
        // SAFETY: the map is read only, and all access goes through bounds-checked slices. A file that another
        // program changes meanwhile can give wrong numbers, as with any reader of weights.
        let map = unsafe { Mmap::map(&file) }.map_err(ModelError::io(path))?;
        let unsound = |reason: String| ModelError::SafeTensors { path: path.to_owned(), reason };
        let (header, metadata) =
            SafeTensors::read_metadata(&map).map_err(|error| unsound(error.to_string()))?;
        // The header is 8 bytes of length and `header` bytes of JSON.
        let start = header.saturating_add(8);
        let (expected, found) = (metadata.data_len(), map.len().saturating_sub(start));
        if expected != found {
            return Err(unsound(format!(
                "the header announces {expected} bytes of tensors, the file has {found}"
            )));
        }
        Ok(Self { path: path.to_owned(), map, start, metadata })
    }

    fn floats(&self, name: &str, info: &TensorInfo) -> Result<Vec<f32>, ModelError> {
        let (begin, end) = info.data_offsets;
        let bytes =
            self.map.get(self.start + begin..self.start + end).ok_or_else(|| ModelError::SafeTensors {
                path: self.path.clone(),
                reason: format!("tensor `{name}` lies outside the file"),
            })?;
        let (halves, _) = bytes.as_chunks::<2>();
        match info.dtype {
            Dtype::F32 => Ok(bytes.as_chunks::<4>().0.iter().map(|&b| f32::from_le_bytes(b)).collect()),
            Dtype::BF16 => Ok(halves.iter().map(|&b| bf16::from_le_bytes(b).to_f32()).collect()),
            Dtype::F16 => Ok(halves.iter().map(|&b| f16::from_le_bytes(b).to_f32()).collect()),
            other => Err(ModelError::Dtype {
                path: self.path.clone(),
                tensor: name.to_owned(),
                found: format!("{other:?}"),
            }),
        }
    }
}

/// The file that stands for the weights as a whole, and the files that hold them, sorted.
pub(crate) fn weight_files(dir: &Path) -> Result<(PathBuf, Vec<PathBuf>), ModelError> {
    let (single, index) = (dir.join(SINGLE), dir.join(INDEX));
    if single.exists() {
        return Ok((single.clone(), vec![single]));
    }
    if !index.exists() {
        return Err(ModelError::NotFound {
            path: single,
            hint: format!("expected {SINGLE} or {INDEX}; convert other formats to safetensors"),
        });
    }
    let object = read_object(&index)?;
    let fields = Fields::new(&index, &object);
    let Some(Value::Object(map)) = fields.value("weight_map") else {
        return Err(fields.wrong("weight_map", "an object of tensor names and shards", "none"));
    };
    let mut shards = BTreeMap::new();
    for (tensor, shard) in map {
        // Shards lie beside their index: no path leads elsewhere.
        let name = shard.as_str().filter(|name| Path::new(name).file_name() == Some(name.as_ref()));
        let Some(name) = name else {
            let found = kind(shard);
            return Err(fields.wrong(
                &format!("weight_map.{tensor}"),
                "the name of a file beside the index",
                &found,
            ));
        };
        shards.entry(name).or_insert_with(|| dir.join(name));
    }
    if let Some((shard, _)) = shards.iter().find(|(_, path)| !path.exists()) {
        return Err(ModelError::MissingShard { index: index.clone(), shard: (*shard).to_owned() });
    }
    let shards = shards.into_values().collect();
    Ok((index, shards))
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
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
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
        self.tensors.push((self.path.join("."), shape, bytes));
    }
}
