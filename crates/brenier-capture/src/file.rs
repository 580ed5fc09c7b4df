//! Activations on disk: safetensors, a tensor `[n, d]` a place.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use brenier_files::Existing;
use half::{bf16, f16};
use memmap2::Mmap;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde_json::json;

use crate::{Activations, CaptureError, Provenance, RowIndex, RowMatrix, Rows, shards};

/// Name and version of the format, under `format` in the metadata of files written here.
pub const FORMAT: &str = "brenier.activations/1";

/// Values that are written at once.
const BLOCK: usize = 1 << 14;

const PROMPT: &str = "rows.prompt";
const POSITION: &str = "rows.position";

/// An open file of activations, or a directory of them that a [`ShardWriter`](crate::ShardWriter) wrote, which is read as
/// if it were one file. Tensors are read when asked for.
///
/// Any safetensors file will do: every floating-point tensor `[n, d]` counts, in f32, f64, f16 or bf16; tensors of
/// other element types (labels, indices) are passed over.
#[derive(Debug)]
pub struct ActivationFile {
    path: PathBuf,
    names: Vec<String>,
    metadata: BTreeMap<String, String>,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Bytes(Mmap),
    /// The parts, in their order, each with all the names.
    Parts(Vec<ActivationFile>),
}

impl ActivationFile {
    /// Opens a file and checks its header and the shapes in it; of a directory, all its parts.
    ///
    /// # Errors
    /// A file that cannot be read, is truncated or no safetensors file; a floating-point tensor that is not
    /// `[n, d]` or is empty; no such tensor at all. Of a directory: parts that are missing, or of different captures.
    pub fn open(path: &Path) -> Result<Self, CaptureError> {
        if path.is_dir() {
            let (parts, metadata) = shards::parts(path)?;
            let names = parts.first().map(|part| part.names.clone()).unwrap_or_default();
            return Ok(Self { path: path.to_owned(), names, metadata, content: Content::Parts(parts) });
        }
        let io = |source| CaptureError::Io { path: path.to_owned(), source };
        let file = brenier_files::open(path).map_err(io)?;
        // SAFETY: the mapping is only read. As with any mapped file, another process that shortens it meanwhile
        // would end this one; files written here are replaced by renaming, which leaves a mapping as it was.
        let bytes = unsafe { Mmap::map(&file) }.map_err(io)?;
        let not = |reason: String| CaptureError::NotSafetensors { path: path.to_owned(), reason };
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|error| not(error.to_string()))?;
        let metadata = header.metadata().clone().unwrap_or_default().into_iter().collect();
        let tensors = SafeTensors::deserialize(&bytes).map_err(|error| not(error.to_string()))?;
        let mut names = Vec::new();
        for (name, view) in tensors.iter() {
            if is_index(name) || !is_float(view.dtype()) {
                continue;
            }
            let (path, tensor, shape) = (path.to_owned(), name.to_owned(), view.shape().to_vec());
            if shape.len() != 2 {
                return Err(CaptureError::Rank { path, tensor, shape });
            }
            if shape.contains(&0) {
                return Err(CaptureError::EmptyTensor { path, tensor, shape });
            }
            names.push(tensor);
        }
        if names.is_empty() {
            let mut found: Vec<String> = tensors
                .iter()
                .map(|(name, view)| format!("{name} ({}, {:?})", view.dtype(), view.shape()))
                .collect();
            found.sort_unstable();
            return Err(CaptureError::NoTensors { path: path.to_owned(), found: list(&found) });
        }
        names.sort_unstable();
        Ok(Self { path: path.to_owned(), names, metadata, content: Content::Bytes(bytes) })
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Names of the activations in it, sorted.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The metadata of the file.
    #[must_use]
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// How the activations were made, as far as the file states it.
    #[must_use]
    pub fn provenance(&self) -> Provenance {
        Provenance::read(&self.metadata)
    }

    /// Shape of one tensor, `[n, d]`.
    ///
    /// # Errors
    /// A name that the file does not have.
    pub fn shape(&self, name: &str) -> Result<[usize; 2], CaptureError> {
        match &self.content {
            Content::Bytes(bytes) => self.with_tensor(bytes, name, |_, shape| Ok(shape)),
            Content::Parts(parts) => {
                let shapes = parts.iter().map(|part| part.shape(name)).collect::<Result<Vec<_>, _>>()?;
                Ok([shapes.iter().map(|[n, _]| n).sum(), shapes.first().map_or(0, |&[_, d]| d)])
            }
        }
    }

    /// Reads one tensor.
    ///
    /// # Errors
    /// A name that the file does not have.
    pub fn rows(&self, name: &str) -> Result<Rows, CaptureError> {
        match &self.content {
            Content::Bytes(bytes) => self.with_tensor(bytes, name, |view, [n, d]| match view.dtype() {
                Dtype::F32 => Ok(Rows::F32(matrix(view.data(), n, d, f32::from_le_bytes))),
                Dtype::F64 => Ok(Rows::F64(matrix(view.data(), n, d, f64::from_le_bytes))),
                Dtype::F16 => Ok(Rows::F32(matrix(view.data(), n, d, |b| f16::from_le_bytes(b).to_f32()))),
                Dtype::BF16 => Ok(Rows::F32(matrix(view.data(), n, d, |b| bf16::from_le_bytes(b).to_f32()))),
                other => Err(self.other_dtype(name, other)),
            }),
            Content::Parts(parts) => {
                let [n, d] = self.shape(name)?;
                let mut all = Vec::with_capacity(n * d);
                for part in parts {
                    let Content::Bytes(bytes) = &part.content else { continue };
                    part.with_tensor(bytes, name, |view, _| match view.dtype() {
                        Dtype::F32 => {
                            all.extend(values(view.data(), f32::from_le_bytes));
                            Ok(())
                        }
                        other => Err(part.other_dtype(name, other)),
                    })?;
                }
                Ok(Rows::F32(RowMatrix::new(all, n, d)))
            }
        }
    }

    /// Does something with one tensor of the file, whose bytes are these.
    fn with_tensor<T>(
        &self,
        bytes: &[u8],
        name: &str,
        with: impl FnOnce(&TensorView<'_>, [usize; 2]) -> Result<T, CaptureError>,
    ) -> Result<T, CaptureError> {
        let missing = || CaptureError::MissingTensor {
            path: self.path.clone(),
            tensor: name.to_owned(),
            found: list(&self.names),
        };
        if !self.names.iter().any(|known| known == name) {
            return Err(missing());
        }
        let tensors = self.tensors(bytes)?;
        let view = tensors.tensor(name).map_err(|_| missing())?;
        match view.shape() {
            &[n, d] => with(&view, [n, d]),
            shape => Err(CaptureError::Rank {
                path: self.path.clone(),
                tensor: name.to_owned(),
                shape: shape.to_vec(),
            }),
        }
    }

    fn other_dtype(&self, name: &str, dtype: Dtype) -> CaptureError {
        let (path, tensor) = (self.path.clone(), name.to_owned());
        CaptureError::Dtype { path, tensor, dtype: dtype.to_string() }
    }

    /// Reads which prompt and token each row is, where the file says so.
    ///
    /// # Errors
    /// An index of another element type, or of another length than the rows.
    pub fn row_index(&self) -> Result<Option<RowIndex>, CaptureError> {
        let bytes = match &self.content {
            Content::Bytes(bytes) => bytes,
            Content::Parts(parts) => {
                let mut all = RowIndex::default();
                for part in parts {
                    match part.row_index()? {
                        Some(index) => all.append(index),
                        None => return Ok(None),
                    }
                }
                return Ok(Some(all));
            }
        };
        let tensors = self.tensors(bytes)?;
        let (Ok(prompt), Ok(position)) = (tensors.tensor(PROMPT), tensors.tensor(POSITION)) else {
            return Ok(None);
        };
        let prompt = self.index(PROMPT, &prompt)?;
        let position = self.index(POSITION, &position)?;
        if prompt.len() != position.len() {
            return Err(self.wrong_index(
                POSITION,
                format!("{} entries as {PROMPT}", prompt.len()),
                position.len(),
            ));
        }
        Ok(Some(RowIndex { prompt, position }))
    }

    fn tensors<'a>(&self, bytes: &'a [u8]) -> Result<SafeTensors<'a>, CaptureError> {
        SafeTensors::deserialize(bytes).map_err(|error| CaptureError::NotSafetensors {
            path: self.path.clone(),
            reason: error.to_string(),
        })
    }

    fn index(&self, name: &str, view: &TensorView<'_>) -> Result<Vec<u32>, CaptureError> {
        let wide: Vec<i64> = match view.dtype() {
            Dtype::I64 => values(view.data(), i64::from_le_bytes).collect(),
            Dtype::I32 => values(view.data(), |b| i64::from(i32::from_le_bytes(b))).collect(),
            Dtype::U32 => values(view.data(), |b| i64::from(u32::from_le_bytes(b))).collect(),
            other => return Err(self.wrong_index(name, "I64, I32 or U32".to_owned(), other)),
        };
        wide.into_iter()
            .map(|value| {
                u32::try_from(value).map_err(|_| self.wrong_index(name, "indices from 0".to_owned(), value))
            })
            .collect()
    }

    fn wrong_index(&self, name: &str, expected: String, found: impl ToString) -> CaptureError {
        CaptureError::RowIndex {
            path: self.path.clone(),
            tensor: name.to_owned(),
            expected,
            found: found.to_string(),
        }
    }
}

/// Names of the tensors that both files have, sorted.
///
/// # Errors
/// None in common; the message lists the names of both.
pub fn common_tensors(left: &ActivationFile, right: &ActivationFile) -> Result<Vec<String>, CaptureError> {
    common_names((&left.path, &left.names), (&right.path, &right.names))
}

/// Names that stand in two lists, each with the file that it is of, in the order of the first.
///
/// # Errors
/// As [`common_tensors`].
pub fn common_names(
    (left, left_names): (&Path, &[String]),
    (right, right_names): (&Path, &[String]),
) -> Result<Vec<String>, CaptureError> {
    let common: Vec<String> = left_names.iter().filter(|name| right_names.contains(name)).cloned().collect();
    if common.is_empty() {
        return Err(CaptureError::NothingInCommon {
            left: left.to_owned(),
            left_names: list(left_names),
            right: right.to_owned(),
            right_names: list(right_names),
        });
    }
    Ok(common)
}

/// Name and version of the format of a safetensors file, where it states one; `None` too for what cannot be read.
#[must_use]
pub fn file_format(path: &Path) -> Option<String> {
    let file = brenier_files::open(path).ok()?;
    // SAFETY: as in `ActivationFile::open`.
    let bytes = unsafe { Mmap::map(&file) }.ok()?;
    let (_, header) = SafeTensors::read_metadata(&bytes).ok()?;
    header.metadata().as_ref()?.get("format").cloned()
}

impl Activations {
    /// Reads a whole file into memory; [`ActivationFile`] reads tensor by tensor.
    ///
    /// # Errors
    /// As [`ActivationFile::open`].
    pub fn read(path: &Path) -> Result<Self, CaptureError> {
        let file = ActivationFile::open(path)?;
        let mut tensors = BTreeMap::new();
        for name in file.names() {
            tensors.insert(name.clone(), file.rows(name)?);
        }
        Ok(Self { tensors, rows: file.row_index()?, metadata: file.metadata })
    }

    /// Writes a file, whole or not at all ([`brenier_files::write`]); the same activations give the same bytes.
    ///
    /// f32 rows are written as F32, f64 rows as F64, the row index as I64.
    ///
    /// # Errors
    /// [`CaptureError::Write`]: an existing file without `force`; what cannot be written.
    pub fn write(&self, path: &Path, force: bool) -> Result<(), CaptureError> {
        Ok(brenier_files::write(path, Existing::forced(force), |out| self.write_to(out))?)
    }

    /// The safetensors layout: length of the header, header, data. Written here and not by the safetensors crate,
    /// whose metadata comes in a random order.
    fn write_to(&self, out: &mut dyn Write) -> std::io::Result<()> {
        let mut metadata = self.metadata.clone();
        metadata.insert("format".to_owned(), FORMAT.to_owned());
        let mut header = serde_json::Map::new();
        header.insert("__metadata__".to_owned(), json!(metadata));
        let mut offset = 0;
        let mut entry = |name: &str, dtype: &str, shape: &[usize], size: usize| {
            let end = offset + shape.iter().product::<usize>() * size;
            header.insert(
                name.to_owned(),
                json!({"dtype": dtype, "shape": shape, "data_offsets": [offset, end]}),
            );
            offset = end;
        };
        // Eight-byte elements first, so that every tensor is aligned to its elements.
        let index = self.rows.as_ref().map(|rows| [(POSITION, &rows.position), (PROMPT, &rows.prompt)]);
        for (name, values) in index.iter().flatten() {
            entry(name, "I64", &[values.len()], 8);
        }
        let shape = |rows: &Rows| [rows.nrows(), rows.ncols()];
        for (name, rows) in self.tensors.iter().filter(|(_, rows)| matches!(rows, Rows::F64(_))) {
            entry(name, "F64", &shape(rows), 8);
        }
        for (name, rows) in self.tensors.iter().filter(|(_, rows)| matches!(rows, Rows::F32(_))) {
            entry(name, "F32", &shape(rows), 4);
        }
        let mut header = serde_json::to_vec(&header)?;
        header.resize(header.len().next_multiple_of(8), b' ');
        out.write_all(&(header.len() as u64).to_le_bytes())?;
        out.write_all(&header)?;
        for (_, values) in index.iter().flatten() {
            for &value in *values {
                out.write_all(&i64::from(value).to_le_bytes())?;
            }
        }
        for rows in self.tensors.values() {
            if let Rows::F64(rows) = rows {
                write_rows(out, rows, f64::to_le_bytes)?;
            }
        }
        for rows in self.tensors.values() {
            if let Rows::F32(rows) = rows {
                write_rows(out, rows, f32::to_le_bytes)?;
            }
        }
        Ok(())
    }
}

fn write_rows<T: Copy, const N: usize>(
    out: &mut dyn Write,
    rows: &RowMatrix<T>,
    bytes: impl Fn(T) -> [u8; N],
) -> std::io::Result<()> {
    let mut block = Vec::new();
    for values in rows.values().chunks(BLOCK) {
        block.clear();
        block.extend(values.iter().flat_map(|&value| bytes(value)));
        out.write_all(&block)?;
    }
    Ok(())
}

/// Row-major bytes as a matrix; the header has been checked against their number.
fn matrix<T, const N: usize>(bytes: &[u8], n: usize, d: usize, value: impl Fn([u8; N]) -> T) -> RowMatrix<T> {
    RowMatrix::new(values(bytes, value).collect(), n, d)
}

fn values<'a, T, const N: usize>(
    bytes: &'a [u8],
    value: impl Fn([u8; N]) -> T + 'a,
) -> impl Iterator<Item = T> + 'a {
    bytes.as_chunks::<N>().0.iter().map(move |&chunk| value(chunk))
}

fn is_index(name: &str) -> bool {
    name == PROMPT || name == POSITION
}

fn is_float(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16)
}

/// Names in one line, the first eight of many.
fn list(names: &[String]) -> String {
    const SHOWN: usize = 8;
    match names.len() {
        0 => "nothing".to_owned(),
        n if n <= SHOWN => names.join(", "),
        n => format!("{}, ... ({n} in all)", names[..SHOWN].join(", ")),
    }
}
