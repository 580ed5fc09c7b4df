//! One safetensors file of weights.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use burn::tensor::{DType, TensorData};
use half::{bf16, f16};
use safetensors::tensor::{Dtype, Metadata, TensorInfo};

use crate::error::ModelError;

/// Bytes that are read from a file at once. A multiple of the size of every dtype.
const PIECE: usize = 1 << 20;

/// A file of weights. Its header is read when it is opened; of its tensors, those that are asked for: into their place
/// in memory, with one small piece of the file beside it.
pub(crate) struct WeightFile {
    path: PathBuf,
    file: File,
    /// Where tensors begin in the file.
    start: u64,
    metadata: Metadata,
}

impl WeightFile {
    /// Opens a file and checks that its header accounts for its bytes.
    pub(crate) fn open(path: &Path) -> Result<Self, ModelError> {
        let mut file = brenier_files::open(path).map_err(ModelError::io(path))?;
        let size = file.metadata().map_err(ModelError::io(path))?.len();
        let unsound = |reason: String| ModelError::SafeTensors { path: path.to_owned(), reason };
        let short = || unsound("its bytes do not hold the header announced".to_owned());

        let mut length = [0; 8];
        if size < 8 {
            return Err(short());
        }
        file.read_exact(&mut length).map_err(ModelError::io(path))?;
        let length = u64::from_le_bytes(length);
        // The header is 8 bytes of length and `length` bytes of JSON.
        let start = length.checked_add(8).filter(|&start| start <= size).ok_or_else(short)?;
        let mut header = Vec::new();
        (&mut file).take(length).read_to_end(&mut header).map_err(ModelError::io(path))?;

        // Not `SafeTensors::read_metadata`, which adds up sizes that the header only announces (0.8.0).
        let metadata: Metadata =
            serde_json::from_slice(&header).map_err(|error| unsound(error.to_string()))?;
        let (expected, found) = (metadata.data_len() as u64, size - start);
        if expected != found {
            return Err(unsound(format!(
                "the header announces {expected} bytes of tensors, the file has {found}"
            )));
        }
        Ok(Self { path: path.to_owned(), file, start, metadata })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The names of its tensors.
    pub(crate) fn names(&self) -> Vec<String> {
        self.metadata.offset_keys()
    }

    pub(crate) fn holds(&self, name: &str) -> bool {
        self.metadata.info(name).is_some()
    }

    /// Checks that a tensor is here, has a shape, and holds floats.
    pub(crate) fn check(&self, name: &str, shape: &[usize]) -> Result<(), ModelError> {
        let info = self.info(name)?;
        if info.shape != shape {
            return Err(ModelError::Shape {
                path: self.path.clone(),
                tensor: name.to_owned(),
                expected: shape.to_vec(),
                found: info.shape.clone(),
            });
        }
        self.is_float(name, info)
    }

    /// The values of a tensor that must have a shape, as `dtype`; through f32, which is exact for all that files hold.
    pub(crate) fn data(&self, name: &str, shape: &[usize], dtype: DType) -> Result<TensorData, ModelError> {
        self.check(name, shape)?;
        Ok(match dtype {
            DType::F64 => TensorData::new(self.read(name, f64::from)?, shape),
            DType::F16 => TensorData::new(self.read(name, f16::from_f32)?, shape),
            DType::BF16 => TensorData::new(self.read(name, bf16::from_f32)?, shape),
            _ => TensorData::new(self.read(name, |x| x)?, shape),
        })
    }

    /// The values of a tensor in the order of the file.
    pub(crate) fn values(&self, name: &str) -> Result<Vec<f32>, ModelError> {
        self.is_float(name, self.info(name)?)?;
        self.read(name, |x| x)
    }

    /// Whether two tensors have the same shape and values.
    pub(crate) fn equals(&self, name: &str, other: &Self, other_name: &str) -> Result<bool, ModelError> {
        let (info, other_info) = (self.info(name)?, other.info(other_name)?);
        if info.shape != other_info.shape {
            return Ok(false);
        }
        if info.dtype == other_info.dtype {
            // Byte for byte, a piece at a time.
            let mut pieces = other.pieces(other_name, other_info);
            for piece in self.pieces(name, info) {
                if Some(piece?) != pieces.next().transpose()? {
                    return Ok(false);
                }
            }
            return Ok(true);
        }
        if self.is_float(name, info).and(other.is_float(other_name, other_info)).is_err() {
            return Ok(false);
        }
        Ok(self.values(name)? == other.values(other_name)?)
    }

    fn info(&self, name: &str) -> Result<&TensorInfo, ModelError> {
        let missing = || ModelError::MissingTensor { path: self.path.clone(), tensor: name.to_owned() };
        self.metadata.info(name).ok_or_else(missing)
    }

    fn is_float(&self, name: &str, info: &TensorInfo) -> Result<(), ModelError> {
        match info.dtype {
            Dtype::F32 | Dtype::F16 | Dtype::BF16 => Ok(()),
            other => Err(ModelError::Dtype {
                path: self.path.clone(),
                tensor: name.to_owned(),
                found: format!("{other:?}"),
            }),
        }
    }

    fn read<T>(&self, name: &str, to: impl Fn(f32) -> T) -> Result<Vec<T>, ModelError> {
        let info = self.info(name)?;
        let mut values = Vec::with_capacity(info.shape.iter().product());
        for piece in self.pieces(name, info) {
            append(&mut values, info.dtype, &piece?, &to);
        }
        Ok(values)
    }

    /// The bytes of a tensor, at most [`PIECE`] at once.
    fn pieces<'a>(
        &'a self,
        name: &'a str,
        info: &TensorInfo,
    ) -> impl Iterator<Item = Result<Vec<u8>, ModelError>> + 'a {
        let (begin, end) = (info.data_offsets.0 as u64, info.data_offsets.1 as u64);
        (begin..end).step_by(PIECE).map(move |at| {
            let size = (end - at).min(PIECE as u64);
            let mut piece = Vec::with_capacity(PIECE);
            let mut file = &self.file;
            file.seek(SeekFrom::Start(self.start + at)).map_err(ModelError::io(&self.path))?;
            file.take(size).read_to_end(&mut piece).map_err(ModelError::io(&self.path))?;
            if piece.len() as u64 == size {
                return Ok(piece);
            }
            let reason = format!("tensor `{name}` ends early: the file was changed while it was read");
            Err(ModelError::SafeTensors { path: self.path.clone(), reason })
        })
    }
}

/// Little-endian floats of any of the three dtypes that weights come in.
fn append<T>(values: &mut Vec<T>, dtype: Dtype, bytes: &[u8], to: impl Fn(f32) -> T) {
    let (halves, _) = bytes.as_chunks::<2>();
    match dtype {
        Dtype::F32 => values.extend(bytes.as_chunks::<4>().0.iter().map(|&b| to(f32::from_le_bytes(b)))),
        Dtype::BF16 => values.extend(halves.iter().map(|&b| to(bf16::from_le_bytes(b).to_f32()))),
        _ => values.extend(halves.iter().map(|&b| to(f16::from_le_bytes(b).to_f32()))),
    }
}
