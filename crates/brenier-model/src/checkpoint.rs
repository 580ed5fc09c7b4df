//! The weights of a checkpoint directory: safetensors, single or sharded.

mod file;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use brenier_kernels::activation_dtype;
use burn::module::{Param, ParamId};
use burn::tensor::{DType, Device, Shape, Tensor};
use serde_json::Value;

use self::file::WeightFile;
use crate::config::{Config, Rope, RopeScaling};
use crate::error::{ModelError, excerpt};
use crate::fields::{Fields, few, kind, read_object};
use crate::rope::Frequencies;
use crate::weights::{EMBEDDING, HEAD, Parameters};

/// The file of weights that are not sharded.
const SINGLE: &str = "model.safetensors";
/// The file that says which shard holds which tensor.
const INDEX: &str = "model.safetensors.index.json";
/// What stands before the names of all tensors but the output matrix; checkpoints of the model without one leave it
/// out.
const PREFIX: &str = "model.";

/// The weights of a checkpoint directory, one tensor after the other as they are asked for. In the end
/// [`finish`](Self::finish) judges those that nobody asked for.
pub(crate) struct Checkpoint<'a> {
    files: Vec<WeightFile>,
    /// Tensor name to file.
    index: HashMap<String, usize>,
    unread: BTreeSet<String>,
    /// The file to name where a tensor is in none.
    root: PathBuf,
    warnings: Vec<String>,
    device: &'a Device,
    dtypes: Dtypes,
    read: Read,
}

/// What parameters are held as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Dtypes {
    /// Matrices.
    pub weights: DType,
    /// All else that meets activations: norms and biases.
    pub activations: DType,
}

impl Dtypes {
    /// Weights in `weights`, beside the activations that go with them on a device.
    pub(crate) fn on(device: &Device, weights: DType) -> Result<Self, ModelError> {
        let float = matches!(weights, DType::F64 | DType::F32 | DType::F16 | DType::BF16);
        if float && device.supports_dtype(weights) {
            return Ok(Self { weights, activations: activation_dtype(device, weights) });
        }
        let expected = "a float type that the device has, e.g. f32".to_owned();
        Err(ModelError::Option { name: "dtype", expected, found: format!("{weights:?}") })
    }
}

/// How much of a checkpoint is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Read {
    /// Everything.
    Values,
    /// Names, shapes and dtypes. The parameters have no values and must not be asked for them.
    Headers,
}

impl<'a> Checkpoint<'a> {
    /// Opens `model.safetensors`, or all shards of `model.safetensors.index.json`, and checks their headers.
    pub(crate) fn open(
        dir: &Path,
        device: &'a Device,
        dtypes: Dtypes,
        read: Read,
    ) -> Result<Self, ModelError> {
        let Weights { root, files: paths, shard_of } = Weights::find(dir)?;
        let files = paths.iter().map(|path| WeightFile::open(path)).collect::<Result<Vec<_>, _>>()?;
        let mut warnings = Vec::new();
        if root.ends_with(SINGLE) && dir.join(INDEX).exists() {
            warnings.push(format!(
                "{}: {INDEX} lies beside it and is not read, as in transformers",
                root.display()
            ));
        }
        let mut index = HashMap::new();
        for (tensor, shard) in &shard_of {
            let number = paths.iter().position(|path| path.ends_with(shard));
            match number.filter(|&number| files.get(number).is_some_and(|file| file.holds(tensor))) {
                Some(number) => index.insert(tensor.clone(), number),
                None => {
                    let (index, tensor, shard) = (root.clone(), excerpt(tensor), excerpt(shard));
                    return Err(ModelError::NotInShard { index, tensor, shard });
                }
            };
        }
        for (number, file) in files.iter().enumerate() {
            for tensor in file.names() {
                let other = *index.entry(tensor.clone()).or_insert(number);
                let Some(other) = files.get(other).filter(|_| other != number) else { continue };
                if file.equals(&tensor, other, &tensor)? {
                    continue;
                }
                let by_index = shard_of.contains_key(&tensor);
                let (tensor, this, that) = (excerpt(&tensor), file.path().display(), other.path().display());
                if by_index {
                    warnings.push(format!(
                        "{this}: tensor `{tensor}` differs from that in {that}; the latter is used, as the index says"
                    ));
                } else {
                    let first = format!("tensor `{tensor}` is in {this}");
                    let second = format!("a different one is in {that} and the index names neither");
                    return Err(ModelError::Contradiction { path: root, first, second });
                }
            }
        }
        let unread = index.keys().cloned().collect();
        Ok(Self { files, index, unread, root, warnings, device, dtypes, read })
    }

    /// Refuses tensors that the architecture does not use, and gives what is worth a warning.
    pub(crate) fn finish(mut self, config: &Config) -> Result<Vec<String>, ModelError> {
        let (rotary, unused): (Vec<&String>, Vec<&String>) =
            self.unread.iter().partition(|name| is_rotary(name));
        if let Some(first) = unused.first() {
            let file = self.index.get(*first).and_then(|&number| self.files.get(number));
            return Err(ModelError::UnusedTensors {
                path: file.map_or(self.root, |file| file.path().to_owned()),
                architecture: config.architecture.name(),
                layers: config.layers,
                names: few(unused.iter().map(|name| name.as_str())),
            });
        }
        if let Some(name) = rotary.into_iter().find(|name| self.other_rotation(name, config)) {
            self.warnings.push(format!(
                "{}: the frequencies in `{name}` are not those of theta {} in config.json; the latter are used, as in \
                 transformers",
                self.root.display(),
                config.rope.theta
            ));
        }
        Ok(self.warnings)
    }

    /// Whether a table of rotary frequencies is another one than the configuration gives, scaled or not.
    fn other_rotation(&self, name: &str, config: &Config) -> bool {
        // Tables were stored in 16 bits at times.
        const TOLERANCE: f32 = 1.0 / 64.0;
        let file = self.index.get(name).and_then(|&number| self.files.get(number));
        let Some(Ok(stored)) = file.map(|file| file.values(name)).filter(|_| name.ends_with("inv_freq"))
        else {
            return false;
        };
        let near = |frequencies: &[f32]| {
            frequencies.len() == stored.len()
                && frequencies.iter().zip(&stored).all(|(a, b)| (a - b).abs() <= TOLERANCE * a.abs())
        };
        let plain = Rope { scaling: RopeScaling::Default, ..config.rope.clone() };
        let ropes = [Some(&config.rope), config.local_rope.as_ref(), Some(&plain)];
        !ropes.into_iter().flatten().any(|rope| near(Frequencies::new(rope, config.head_dim).values()))
    }

    /// The file that holds a tensor, and its name there: with the prefix or without, never both.
    fn find(&mut self, name: &str) -> Result<Option<(usize, String)>, ModelError> {
        let other = match name.strip_prefix(PREFIX) {
            Some(bare) => bare.to_owned(),
            None => format!("{PREFIX}{name}"),
        };
        let found = match (self.index.get(name), self.index.get(&other)) {
            (Some(_), Some(_)) => {
                return Err(ModelError::Contradiction {
                    path: self.root.clone(),
                    first: format!("there is a tensor `{name}`"),
                    second: format!("there is a tensor `{other}` too"),
                });
            }
            (Some(&number), None) => (number, name.to_owned()),
            (None, Some(&number)) => (number, other),
            (None, None) => return Ok(None),
        };
        self.unread.remove(&found.1);
        Ok(Some(found))
    }

    fn tensor<const D: usize>(
        &mut self,
        name: &str,
        shape: [usize; D],
        dtype: DType,
    ) -> Result<Param<Tensor<D>>, ModelError> {
        let found = self.find(name)?;
        let file = found.as_ref().and_then(|(number, name)| Some((self.files.get(*number)?, name)));
        let Some((file, name)) = file else {
            return Err(ModelError::MissingTensor { path: self.root.clone(), tensor: name.to_owned() });
        };
        if self.read == Read::Headers {
            file.check(name, &shape)?;
            let none = move |device: &Device, _: bool| Tensor::empty(shape, (device, dtype));
            let device = self.device.clone();
            return Ok(Param::uninitialized(ParamId::new(), none, device, false, Shape::from(shape)));
        }
        let data = file.data(name, &shape, dtype)?;
        Ok(Param::from_tensor(Tensor::from_data(data, (self.device, dtype))))
    }
}

impl Parameters for Checkpoint<'_> {
    type Error = ModelError;

    /// Tied tables are stored under either name.
    fn embedding(&mut self, shape: [usize; 2], tied: bool) -> Result<Param<Tensor<2>>, ModelError> {
        let head_alone = tied && self.find(EMBEDDING)?.is_none() && self.find(HEAD)?.is_some();
        self.tensor(if head_alone { HEAD } else { EMBEDDING }, shape, self.dtypes.weights)
    }

    /// An output matrix that differs from the table is used, tied or not.
    fn head(&mut self, shape: [usize; 2], tied: bool) -> Result<Option<Param<Tensor<2>>>, ModelError> {
        if !tied {
            return self.tensor(HEAD, shape, self.dtypes.weights).map(Some);
        }
        let (Some(table), Some(head)) = (self.find(EMBEDDING)?, self.find(HEAD)?) else { return Ok(None) };
        let same = match (self.files.get(table.0), self.files.get(head.0)) {
            // Both tables are compared when they are read anyway.
            _ if self.read == Read::Headers => true,
            (Some(file), Some(other)) => file.equals(&table.1, other, &head.1)?,
            _ => false,
        };
        if same {
            return Ok(None);
        }
        self.warnings.push(format!(
            "{}: `{}` differs from `{}`, though `tie_word_embeddings` is true in config.json; it is used, as in \
             transformers",
            self.root.display(),
            head.1,
            table.1
        ));
        self.tensor(HEAD, shape, self.dtypes.weights).map(Some)
    }

    fn matrix(&mut self, name: &str, shape: [usize; 2]) -> Result<Param<Tensor<2>>, ModelError> {
        self.tensor(name, shape, self.dtypes.weights)
    }

    fn bias(&mut self, name: &str, width: usize) -> Result<Param<Tensor<1>>, ModelError> {
        self.tensor(name, [width], self.dtypes.activations)
    }

    fn gain(&mut self, name: &str, width: usize, _: f32) -> Result<Param<Tensor<1>>, ModelError> {
        self.tensor(name, [width], self.dtypes.activations)
    }
}

/// Tables that older exports stored beside the weights and that follow from the configuration.
fn is_rotary(name: &str) -> bool {
    ["inv_freq", "cos_cached", "sin_cached"]
        .iter()
        .any(|table| name.ends_with(&format!("rotary_emb.{table}")))
}

/// Which files hold the weights of a directory.
pub(crate) struct Weights {
    /// The file that stands for the weights as a whole.
    pub root: PathBuf,
    /// The files that hold them, sorted.
    pub files: Vec<PathBuf>,
    /// Tensor to the name of its shard; empty without an index.
    shard_of: BTreeMap<String, String>,
}

impl Weights {
    pub(crate) fn find(dir: &Path) -> Result<Self, ModelError> {
        let (single, index) = (dir.join(SINGLE), dir.join(INDEX));
        if single.exists() {
            return Ok(Self { root: single.clone(), files: vec![single], shard_of: BTreeMap::new() });
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
        let mut shard_of = BTreeMap::new();
        for (tensor, shard) in map {
            // Shards lie beside their index: no path leads elsewhere.
            let name = shard.as_str().filter(|name| Path::new(name).file_name() == Some(name.as_ref()));
            let Some(name) = name else {
                let field = format!("weight_map.{tensor}");
                return Err(fields.wrong(&field, "the name of a file beside the index", &kind(shard)));
            };
            shard_of.insert(tensor.clone(), name.to_owned());
        }
        let shards: BTreeSet<&String> = shard_of.values().collect();
        if let Some(shard) = shards.iter().find(|shard| !dir.join(shard).exists()) {
            return Err(ModelError::MissingShard { index, shard: (*shard).clone() });
        }
        let files = shards.into_iter().map(|shard| dir.join(shard)).collect();
        Ok(Self { root: index, files, shard_of })
    }
}
