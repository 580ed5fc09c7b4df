//! One safetensors file of weights.

use std::path::{Path, PathBuf};

use half::{bf16, f16};
use memmap2::Mmap;
use safetensors::tensor::{Dtype, Metadata, TensorInfo};

use crate::error::ModelError;

/// A file of weights, memory-mapped.
pub(crate) struct WeightFile {
    path: PathBuf,
    map: Mmap,
    /// Where tensors begin in the file.
    start: usize,
    metadata: Metadata,
}

impl WeightFile {
    /// Opens a file and checks that its header accounts for its bytes.
    pub(crate) fn open(path: &Path) -> Result<Self, ModelError> {
        let file = brenier_files::open(path).map_err(ModelError::io(path))?;
        // SAFETY: the map is read only, and all access goes through bounds-checked slices. A file that another
        // program changes meanwhile can give wrong numbers, as with any reader of weights.
        let map = unsafe { Mmap::map(&file) }.map_err(ModelError::io(path))?;
        let unsound = |reason: String| ModelError::SafeTensors { path: path.to_owned(), reason };
        let (header, start) =
            header(&map).ok_or_else(|| unsound("its bytes do not hold the header announced".to_owned()))?;
        // Not `SafeTensors::read_metadata`, which adds up sizes that the header only announces (0.8.0).
        let metadata: Metadata =
            serde_json::from_slice(header).map_err(|error| unsound(error.to_string()))?;
        let (expected, found) = (metadata.data_len(), map.len().saturating_sub(start));
        if expected != found {
            return Err(unsound(format!(
                "the header announces {expected} bytes of tensors, the file has {found}"
            )));
        }
        Ok(Self { path: path.to_owned(), map, start, metadata })
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

    /// The values of a tensor that must have a shape.
    pub(crate) fn values_of_shape(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, ModelError> {
        match self.metadata.info(name) {
            Some(info) if info.shape != shape => Err(ModelError::Shape {
                path: self.path.clone(),
                tensor: name.to_owned(),
                expected: shape.to_vec(),
                found: info.shape.clone(),
            }),
            _ => self.values(name),
        }
    }

    /// The values of a tensor in the order of the file.
    pub(crate) fn values(&self, name: &str) -> Result<Vec<f32>, ModelError> {
        let missing = || ModelError::MissingTensor { path: self.path.clone(), tensor: name.to_owned() };
        let info = self.metadata.info(name).ok_or_else(missing)?;
        let bytes = self.bytes(info).ok_or_else(|| ModelError::SafeTensors {
            path: self.path.clone(),
            reason: format!("tensor `{name}` lies outside the file"),
        })?;
        floats(info.dtype, bytes).ok_or_else(|| ModelError::Dtype {
            path: self.path.clone(),
            tensor: name.to_owned(),
            found: format!("{:?}", info.dtype),
        })
    }

    /// Whether two tensors have the same shape and values.
    pub(crate) fn equals(&self, name: &str, other: &Self, other_name: &str) -> bool {
        let (Some(info), Some(other_info)) = (self.metadata.info(name), other.metadata.info(other_name))
        else {
            return false;
        };
        let (bytes, other_bytes) = (self.bytes(info), other.bytes(other_info));
        if info.shape != other_info.shape || info.dtype == other_info.dtype {
            return info.shape == other_info.shape && bytes == other_bytes;
        }
        let values = |info: &TensorInfo, bytes: Option<&[u8]>| floats(info.dtype, bytes?);
        let (values, others) = (values(info, bytes), values(other_info, other_bytes));
        values.is_some() && values == others
    }

    fn bytes(&self, info: &TensorInfo) -> Option<&[u8]> {
        let (begin, end) = info.data_offsets;
        self.map.get(self.start..)?.get(begin..end)
    }
}

/// The header, and where it ends.
fn header(bytes: &[u8]) -> Option<(&[u8], usize)> {
    let (length, rest) = bytes.split_first_chunk::<8>()?;
    let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
    // The header is 8 bytes of length and `length` bytes of JSON.
    Some((rest.get(..length)?, length.checked_add(8)?))
}

/// Little-endian floats of any of the three dtypes that weights come in.
fn floats(dtype: Dtype, bytes: &[u8]) -> Option<Vec<f32>> {
    let (halves, _) = bytes.as_chunks::<2>();
    match dtype {
        Dtype::F32 => Some(bytes.as_chunks::<4>().0.iter().map(|&b| f32::from_le_bytes(b)).collect()),
        Dtype::BF16 => Some(halves.iter().map(|&b| bf16::from_le_bytes(b).to_f32()).collect()),
        Dtype::F16 => Some(halves.iter().map(|&b| f16::from_le_bytes(b).to_f32()).collect()),
        _ => None,
    }
}
