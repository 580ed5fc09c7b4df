//! Brenier's files: named entries of named tensors in one safetensors file, read with care.
//!
//! A [`Format`] names a kind of file and its version. A [`Writer`] collects the tensors `entry.part` and lays them out
//! so that the bytes are a function of the content. A [`Reader`] takes any bytes, and gives parts of the expected type and shape or an error in one line: what a file
//! announces is compared with what is there before any memory is asked for, and a tensor that nobody asked for is an
//! error.
//!
//! The header's `__metadata__` holds the strings `format`, `entries` (JSON that the format defines), and what the writer
//! of the file added. [`MapFile`](crate::MapFile) is one such format; other crates have others.
//!
//! ```
//! use brenier_map::container::{Format, Reader, Writer};
//! use std::{collections::BTreeMap, path::Path};
//!
//! const FORMAT: Format = Format { id: "example.sums/1", what: "sums" };
//! let mut writer = Writer::default();
//! writer.vector("here", "sum", &[1.0, -0.0]);
//! writer.count("here", "rows", 3);
//! let bytes = writer.finish(&FORMAT, &["here"], &BTreeMap::new())?;
//!
//! let (mut reader, entries) = Reader::open::<Vec<String>>(&bytes, Path::new("sums"), &FORMAT)?;
//! assert_eq!(reader.vector(&entries[0], "sum")?, [1.0, -0.0]);
//! assert_eq!(reader.count(&entries[0], "rows")?, 3);
//! reader.finish()?;
//! # Ok::<(), brenier_map::MapError>(())
//! ```

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use faer::{Mat, MatRef};
use safetensors::tensor::{Dtype, Metadata};
use safetensors::{SafeTensorError, SafeTensors};
use serde::{Serialize, de::DeserializeOwned};

use crate::error::{MapError, shape_in_words};

/// Keys of the metadata that belong to every format.
const RESERVED: [&str; 2] = ["format", "entries"];

/// A kind of file and its version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Format {
    /// Name and version, as `name/1`: what stands before the slash is the kind.
    pub id: &'static str,
    /// What such a file holds, for messages: `map`.
    pub what: &'static str,
}

/// Collects tensors. All are little-endian, matrices row by row.
#[derive(Debug, Default)]
pub struct Writer {
    tensors: Vec<(String, Part)>,
}

#[derive(Debug)]
struct Part {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Writer {
    /// A tensor of shape `[]`.
    pub fn number(&mut self, entry: &str, part: &str, value: f64) {
        self.tensor(entry, part, vec![], [value].into_iter());
    }

    /// An unsigned integer of 64 bits, of shape `[]`.
    pub fn count(&mut self, entry: &str, part: &str, value: u64) {
        let part_of = Part { dtype: Dtype::U64, shape: vec![], bytes: value.to_le_bytes().to_vec() };
        self.tensors.push((full_name(entry, part), part_of));
    }

    /// A tensor of one axis.
    pub fn vector(&mut self, entry: &str, part: &str, values: &[f64]) {
        self.tensor(entry, part, vec![values.len()], values.iter().copied());
    }

    /// A tensor of two axes.
    pub fn matrix(&mut self, entry: &str, part: &str, values: MatRef<'_, f64>) {
        let (rows, cols) = values.shape();
        let row_major = (0..rows).flat_map(|i| (0..cols).map(move |j| values[(i, j)]));
        self.tensor(entry, part, vec![rows, cols], row_major);
    }

    /// A tensor of any shape, whose values go by the last axis first.
    pub fn tensor(&mut self, entry: &str, part: &str, shape: Vec<usize>, values: impl Iterator<Item = f64>) {
        let bytes = values.flat_map(f64::to_le_bytes).collect();
        self.tensors.push((full_name(entry, part), Part { dtype: Dtype::F64, shape, bytes }));
    }

    /// The bytes of the file: the same for the same content.
    ///
    /// # Errors
    /// A key of `metadata` that belongs to the format; what safetensors cannot lay out.
    pub fn finish(
        self,
        format: &Format,
        entries: &impl Serialize,
        metadata: &BTreeMap<String, String>,
    ) -> Result<Vec<u8>, MapError> {
        if let Some(key) = RESERVED.into_iter().find(|&key| metadata.contains_key(key)) {
            return Err(MapError::ReservedKey { key: key.to_owned() });
        }
        let layout =
            |error: &dyn std::fmt::Display| MapError::Layout { what: format.what, reason: error.to_string() };
        let mut strings: HashMap<String, String> = metadata.clone().into_iter().collect();
        strings.insert("format".to_owned(), format.id.to_owned());
        strings.insert("entries".to_owned(), serde_json::to_string(entries).map_err(|error| layout(&error))?);
        let mut bytes =
            safetensors::serialize(self.tensors, Some(strings)).map_err(|error| layout(&error))?;
        sort_metadata(&mut bytes).ok_or_else(|| layout(&"its header does not read back"))?;
        Ok(bytes)
    }
}

impl safetensors::View for Part {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> std::borrow::Cow<'_, [u8]> {
        (&self.bytes).into()
    }

    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

/// A file that is read part by part.
#[derive(Debug)]
pub struct Reader<'a> {
    file: SafeTensors<'a>,
    unread: BTreeSet<String>,
    metadata: BTreeMap<String, String>,
    path: PathBuf,
    format: &'static Format,
}

impl<'a> Reader<'a> {
    /// Checks that `bytes` are a file of this format and version, and reads `entries`; `path` is what errors call it.
    ///
    /// # Errors
    /// [`MapError::Unreadable`], [`MapError::Version`].
    pub fn open<T: DeserializeOwned>(
        bytes: &'a [u8],
        path: &Path,
        format: &'static Format,
    ) -> Result<(Self, T), MapError> {
        let unreadable =
            |reason: String| MapError::Unreadable { path: path.to_owned(), what: format.what, reason };
        if announced(bytes).is_some_and(|data| data > bytes.len()) {
            return Err(unreadable(damage(&SafeTensorError::MetadataIncompleteBuffer, bytes.len())));
        }
        let (_, header) =
            SafeTensors::read_metadata(bytes).map_err(|error| unreadable(damage(&error, bytes.len())))?;
        let mut metadata: BTreeMap<String, String> =
            header.metadata().clone().unwrap_or_default().into_iter().collect();
        let expected = format.id;
        let kind = expected.split_inclusive('/').next().unwrap_or(expected);
        match metadata.remove("format") {
            Some(found) if found == expected => {}
            Some(found) if found.starts_with(kind) => {
                return Err(MapError::Version { path: path.to_owned(), what: format.what, expected, found });
            }
            Some(found) => return Err(unreadable(format!("its format is `{found}`, not `{expected}`"))),
            None => {
                return Err(unreadable(format!("its metadata has no `format`: `{expected}` was expected")));
            }
        }
        let entries = metadata
            .remove("entries")
            .ok_or_else(|| unreadable("its metadata has no `entries`".to_owned()))?;
        let entries: T = serde_json::from_str(&entries)
            .map_err(|error| unreadable(format!("`entries` of its metadata: {error}")))?;
        let file = SafeTensors::deserialize(bytes).map_err(|error| unreadable(error.to_string()))?;
        let unread = file.names().into_iter().map(str::to_owned).collect();
        Ok((Self { file, unread, metadata, path: path.to_owned(), format }, entries))
    }

    /// The error that the file is not what it should be.
    pub fn refuse(&self, reason: impl Into<String>) -> MapError {
        MapError::Unreadable { path: self.path.clone(), what: self.format.what, reason: reason.into() }
    }

    /// The same of one of its entries.
    pub fn refuse_entry(&self, entry: &str, reason: impl std::fmt::Display) -> MapError {
        self.refuse(format!("entry `{entry}`: {reason}"))
    }

    /// The file, as errors call it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether a part is there and has not been read.
    pub fn has(&self, entry: &str, part: &str) -> bool {
        self.unread.contains(&full_name(entry, part))
    }

    /// A tensor of shape `[]`.
    ///
    /// # Errors
    /// [`MapError::Unreadable`]: it is missing, or of another type or shape.
    pub fn number(&mut self, entry: &str, part: &str) -> Result<f64, MapError> {
        let (found, values) = self.tensor(entry, part)?;
        match (found.as_slice(), values.as_slice()) {
            ([], &[value]) => Ok(value),
            _ => Err(self.misshapen(entry, part, &[], &found)),
        }
    }

    /// An unsigned integer of 64 bits, of shape `[]`.
    ///
    /// # Errors
    /// As [`number`](Self::number).
    pub fn count(&mut self, entry: &str, part: &str) -> Result<u64, MapError> {
        let (found, bytes) = self.bytes(entry, part, Dtype::U64)?;
        match (found.as_slice(), bytes.as_chunks::<8>().0) {
            ([], &[value]) => Ok(u64::from_le_bytes(value)),
            _ => Err(self.misshapen(entry, part, &[], &found)),
        }
    }

    /// A tensor of one axis.
    ///
    /// # Errors
    /// As [`number`](Self::number).
    pub fn vector(&mut self, entry: &str, part: &str) -> Result<Vec<f64>, MapError> {
        let (shape, values) = self.tensor(entry, part)?;
        if shape.len() != 1 {
            let reason = format!("`{part}` has {} axes, but 1 was expected", shape.len());
            return Err(self.refuse_entry(entry, reason));
        }
        Ok(values)
    }

    /// A matrix of `rows` rows, and of `cols` columns where these are known. The shape is checked before any memory is
    /// asked for: a matrix without columns has room for any number of rows in a file.
    ///
    /// # Errors
    /// As [`number`](Self::number).
    pub fn matrix(
        &mut self,
        entry: &str,
        part: &str,
        rows: usize,
        cols: Option<usize>,
    ) -> Result<Mat<f64>, MapError> {
        let (found, values) = self.tensor(entry, part)?;
        match *found.as_slice() {
            [r, c] if r == rows && cols.is_none_or(|cols| c == cols) => {
                Ok(MatRef::from_row_major_slice(&values, r, c).to_owned())
            }
            _ => {
                let cols = cols.or(found.get(1).copied()).unwrap_or(0);
                Err(self.misshapen(entry, part, &[rows, cols], &found))
            }
        }
    }

    /// The values of a tensor of the expected shape, by the last axis first.
    ///
    /// # Errors
    /// As [`number`](Self::number).
    pub fn tensor_of(&mut self, entry: &str, part: &str, expected: &[usize]) -> Result<Vec<f64>, MapError> {
        let (found, values) = self.tensor(entry, part)?;
        if found == expected { Ok(values) } else { Err(self.misshapen(entry, part, expected, &found)) }
    }

    /// Shape and values of a tensor of any shape, by the last axis first. A shape with a 0 has no values, whatever its
    /// other sizes.
    ///
    /// # Errors
    /// [`MapError::Unreadable`]: it is missing, or of another type.
    pub fn tensor(&mut self, entry: &str, part: &str) -> Result<(Vec<usize>, Vec<f64>), MapError> {
        let (shape, bytes) = self.bytes(entry, part, Dtype::F64)?;
        Ok((shape, bytes.as_chunks::<8>().0.iter().copied().map(f64::from_le_bytes).collect()))
    }

    /// The error that a part has another shape.
    pub fn misshapen(&self, entry: &str, part: &str, expected: &[usize], found: &[usize]) -> MapError {
        let (found, expected) = (shape_in_words(found), shape_in_words(expected));
        self.refuse_entry(entry, format!("`{part}` is {found}, but {expected} was expected"))
    }

    /// The metadata beyond the format's own.
    ///
    /// # Errors
    /// A tensor that was not read: it is no part of anything.
    pub fn finish(self) -> Result<BTreeMap<String, String>, MapError> {
        match self.unread.first() {
            Some(name) => {
                Err(self.refuse(format!("tensor `{name}` is no part of its {} entries", self.format.what)))
            }
            None => Ok(self.metadata),
        }
    }

    fn bytes(
        &mut self,
        entry: &str,
        part: &str,
        expected: Dtype,
    ) -> Result<(Vec<usize>, &'a [u8]), MapError> {
        let full = full_name(entry, part);
        let Ok(tensor) = self.file.tensor(&full) else {
            return Err(self.refuse_entry(entry, format_args!("tensor `{full}` is missing")));
        };
        let dtype = tensor.dtype();
        if dtype != expected {
            let reason = format!("tensor `{full}` is {dtype:?}, but {expected:?} was expected");
            return Err(self.refuse_entry(entry, reason));
        }
        self.unread.remove(&full);
        Ok((tensor.shape().to_vec(), tensor.data()))
    }
}

/// The bytes of a file.
///
/// # Errors
/// [`MapError::Io`].
pub fn read_whole(path: &Path) -> Result<Vec<u8>, MapError> {
    std::fs::read(path).map_err(|source| MapError::Io { path: path.to_owned(), source })
}

fn full_name(entry: &str, part: &str) -> String {
    format!("{entry}.{part}")
}

/// How much data the header announces, if there is a sound one. `safetensors` adds this up with the header's own
/// length before it looks at how much there is, and the sum overflows near 2^64 (0.8.0).
fn announced(bytes: &[u8]) -> Option<usize> {
    let length = u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?);
    let header = bytes.get(8..)?.get(..usize::try_from(length).ok()?)?;
    Some(serde_json::from_slice::<Metadata>(header).ok()?.data_len())
}

/// What is wrong with bytes that do not make a safetensors file.
fn damage(error: &SafeTensorError, len: usize) -> String {
    match error {
        SafeTensorError::MetadataIncompleteBuffer => {
            format!(
                "its header does not account for its {len} bytes: it is truncated, or something was added; copy it again"
            )
        }
        SafeTensorError::HeaderTooSmall | SafeTensorError::InvalidHeaderLength => {
            format!(
                "its {len} bytes do not hold the header announced: it is truncated, or no safetensors file"
            )
        }
        error => format!("no safetensors file, or a damaged one ({error})"),
    }
}

/// Brings the metadata, which the serializer leaves in the order of a hash map, into the order of its keys.
/// The header keeps its length: the same strings in another order.
fn sort_metadata(bytes: &mut [u8]) -> Option<()> {
    let length = u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?);
    let header = bytes.get_mut(8..8 + usize::try_from(length).ok()?)?;
    let mut json: serde_json::Value = serde_json::from_slice(header).ok()?;
    json.get_mut("__metadata__")?.as_object_mut()?.sort_keys();
    let sorted = serde_json::to_vec(&json).ok()?;
    header.get_mut(..sorted.len())?.copy_from_slice(&sorted);
    Some(())
}
