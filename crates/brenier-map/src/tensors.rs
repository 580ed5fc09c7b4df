//! The parts of a map as named tensors, and back.

use std::collections::BTreeSet;
use std::path::Path;

use faer::{Mat, MatRef};
use safetensors::tensor::{Dtype, SafeTensors};

use crate::{Affine, Dense, Diagonal, Gate, LowRank, MapError, Mixture, Piece, RowMap};

/// The tensors of a file to be written.
#[derive(Default)]
pub(crate) struct Parts {
    pub(crate) tensors: Vec<(String, Part)>,
}

/// A tensor of f64, row by row.
pub(crate) struct Part {
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Parts {
    /// Adds the parts of a map, and returns the name of its kind.
    pub(crate) fn add(&mut self, name: &str, map: &RowMap) -> String {
        let kind = match map.affine() {
            Affine::LowRank(map) => {
                self.number(name, "scale", map.scale);
                self.vector(name, "mean", &map.mean);
                self.vector(name, "offset", &map.offset);
                self.matrix(name, "u", map.u.as_ref());
                self.matrix(name, "v", map.v.as_ref());
                "low-rank"
            }
            Affine::Diagonal(map) => {
                self.vector(name, "weight", &map.weight);
                self.vector(name, "bias", &map.bias);
                if let Some((lo, hi)) = &map.range {
                    self.vector(name, "range.lo", lo);
                    self.vector(name, "range.hi", hi);
                }
                "diagonal"
            }
            Affine::Dense(map) => {
                self.matrix(name, "matrix", map.matrix.as_ref());
                self.vector(name, "bias", &map.bias);
                "dense"
            }
            Affine::Mixture(map) => {
                self.vector(name, "center", &map.center);
                self.vector(name, "offset", &map.offset);
                self.matrix(name, "u", map.u.as_ref());
                self.matrix(name, "v", map.v.as_ref());
                let constant: Vec<f64> = map.pieces.iter().map(|piece| piece.constant).collect();
                self.vector(name, "constant", &constant);
                let k = map.u.ncols();
                self.stack(name, "linear", vec![k], map, |piece| piece.linear.clone());
                self.stack(name, "quadratic", vec![k, k], map, |piece| row_major(piece.quadratic.as_ref()));
                self.stack(name, "matrix", vec![k, k], map, |piece| row_major(piece.matrix.as_ref()));
                self.stack(name, "shift", vec![k], map, |piece| piece.shift.clone());
                "mixture"
            }
        };
        if let Some(gate) = map.gate() {
            self.matrix(name, "gate.basis", gate.basis.as_ref());
            self.vector(name, "gate.center", &gate.center);
            self.number(name, "gate.constant", gate.constant);
            self.vector(name, "gate.linear", &gate.linear);
            self.matrix(name, "gate.quadratic", gate.quadratic.as_ref());
            self.number(name, "gate.temperature", gate.temperature);
            if let Some(threshold) = gate.threshold {
                self.number(name, "gate.threshold", threshold);
            }
        }
        kind.to_owned()
    }

    fn number(&mut self, name: &str, part: &'static str, value: f64) {
        self.push(name, part, vec![], [value].into_iter());
    }

    fn vector(&mut self, name: &str, part: &'static str, values: &[f64]) {
        self.push(name, part, vec![values.len()], values.iter().copied());
    }

    fn matrix(&mut self, name: &str, part: &'static str, values: MatRef<'_, f64>) {
        let (rows, cols) = values.shape();
        self.push(name, part, vec![rows, cols], row_major(values).into_iter());
    }

    /// One part of every piece, along a first axis of their own.
    fn stack(
        &mut self,
        name: &str,
        part: &'static str,
        mut shape: Vec<usize>,
        map: &Mixture,
        values: impl Fn(&Piece) -> Vec<f64>,
    ) {
        shape.insert(0, map.pieces.len());
        self.push(name, part, shape, map.pieces.iter().flat_map(values));
    }

    fn push(&mut self, name: &str, part: &'static str, shape: Vec<usize>, values: impl Iterator<Item = f64>) {
        let bytes = values.flat_map(f64::to_le_bytes).collect();
        self.tensors.push((format!("{name}.{part}"), Part { shape, bytes }));
    }
}

fn row_major(values: MatRef<'_, f64>) -> Vec<f64> {
    let (rows, cols) = values.shape();
    (0..rows).flat_map(|i| (0..cols).map(move |j| values[(i, j)])).collect()
}

impl safetensors::View for Part {
    fn dtype(&self) -> Dtype {
        Dtype::F64
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

/// The tensors of a file that is read.
pub(crate) struct Tensors<'a> {
    file: &'a SafeTensors<'a>,
    unread: BTreeSet<&'a str>,
}

/// What is wrong with an entry.
pub(crate) enum EntryError {
    /// With its tensors.
    Tensor(String),
    /// With the map they make.
    Map(MapError),
}

impl EntryError {
    pub(crate) fn in_entry(self, path: &Path, entry: &str) -> MapError {
        match self {
            EntryError::Tensor(reason) => {
                MapError::Unreadable { path: path.to_owned(), reason: format!("entry `{entry}`: {reason}") }
            }
            EntryError::Map(source) => {
                MapError::Entry { path: path.to_owned(), entry: entry.to_owned(), source: Box::new(source) }
            }
        }
    }
}

impl From<MapError> for EntryError {
    fn from(error: MapError) -> Self {
        EntryError::Map(error)
    }
}

impl<'a> Tensors<'a> {
    pub(crate) fn new(file: &'a SafeTensors<'a>) -> Self {
        Self { file, unread: file.names().into_iter().collect() }
    }

    /// A tensor that no map used.
    pub(crate) fn unread(&self) -> Option<&'a str> {
        self.unread.first().copied()
    }

    /// Reads the map of an entry.
    pub(crate) fn read(&mut self, name: &str, kind: &str) -> Result<RowMap, EntryError> {
        let affine = match kind {
            "low-rank" => {
                let mean = self.vector(name, "mean")?;
                if mean.is_empty() {
                    return Err(MapError::ZeroWidth.into());
                }
                let u = self.matrix(name, "u", mean.len(), None)?;
                Affine::LowRank(LowRank {
                    scale: self.number(name, "scale")?,
                    offset: self.vector(name, "offset")?,
                    v: self.matrix(name, "v", mean.len(), Some(u.ncols()))?,
                    mean,
                    u,
                })
            }
            "diagonal" => Affine::Diagonal(Diagonal {
                weight: self.vector(name, "weight")?,
                bias: self.vector(name, "bias")?,
                range: if self.has(name, "range.lo") {
                    Some((self.vector(name, "range.lo")?, self.vector(name, "range.hi")?))
                } else {
                    None
                },
            }),
            "dense" => {
                let bias = self.vector(name, "bias")?;
                Affine::Dense(Dense {
                    matrix: self.matrix(name, "matrix", bias.len(), Some(bias.len()))?,
                    bias,
                })
            }
            "mixture" => {
                let center = self.vector(name, "center")?;
                if center.is_empty() {
                    return Err(MapError::ZeroWidth.into());
                }
                let u = self.matrix(name, "u", center.len(), None)?;
                Affine::Mixture(Mixture {
                    offset: self.vector(name, "offset")?,
                    v: self.matrix(name, "v", center.len(), Some(u.ncols()))?,
                    pieces: self.pieces(name, u.ncols())?,
                    center,
                    u,
                })
            }
            _ => {
                let known = "low-rank, diagonal, dense or mixture";
                return Err(EntryError::Tensor(format!("its kind is `{kind}`, but {known} was expected")));
            }
        };
        let map = RowMap::new(affine)?;
        if !self.has(name, "gate.basis") {
            return Ok(map);
        }
        let linear = self.vector(name, "gate.linear")?;
        let gate = Gate {
            basis: self.matrix(name, "gate.basis", map.dim(), Some(linear.len()))?,
            center: self.vector(name, "gate.center")?,
            constant: self.number(name, "gate.constant")?,
            quadratic: self.matrix(name, "gate.quadratic", linear.len(), Some(linear.len()))?,
            linear,
            temperature: self.number(name, "gate.temperature")?,
            threshold: if self.has(name, "gate.threshold") {
                Some(self.number(name, "gate.threshold")?)
            } else {
                None
            },
        };
        Ok(map.with_gate(gate)?)
    }

    /// The pieces of a mixture in `k` coordinates.
    fn pieces(&mut self, name: &str, k: usize) -> Result<Vec<Piece>, EntryError> {
        let constant = self.vector(name, "constant")?;
        let count = constant.len();
        let linear = self.stack(name, "linear", vec![count, k])?;
        let quadratic = self.stack(name, "quadratic", vec![count, k, k])?;
        let matrix = self.stack(name, "matrix", vec![count, k, k])?;
        let shift = self.stack(name, "shift", vec![count, k])?;
        let square = |values: &[f64], c: usize| Mat::from_fn(k, k, |i, j| values[(c * k + i) * k + j]);
        let piece = |(c, constant): (usize, f64)| Piece {
            constant,
            linear: linear[c * k..(c + 1) * k].to_vec(),
            quadratic: square(&quadratic, c),
            matrix: square(&matrix, c),
            shift: shift[c * k..(c + 1) * k].to_vec(),
        };
        Ok(constant.into_iter().enumerate().map(piece).collect())
    }

    /// The values of a tensor of the expected shape.
    fn stack(
        &mut self,
        name: &str,
        part: &'static str,
        expected: Vec<usize>,
    ) -> Result<Vec<f64>, EntryError> {
        let (found, values) = self.values(name, part)?;
        if found == expected { Ok(values) } else { Err(MapError::Shape { part, expected, found }.into()) }
    }

    fn has(&self, name: &str, part: &str) -> bool {
        self.unread.contains(format!("{name}.{part}").as_str())
    }

    fn number(&mut self, name: &str, part: &'static str) -> Result<f64, EntryError> {
        let (shape, values) = self.values(name, part)?;
        match (shape.as_slice(), values.as_slice()) {
            ([], &[value]) => Ok(value),
            _ => Err(MapError::Shape { part, expected: vec![], found: shape }.into()),
        }
    }

    fn vector(&mut self, name: &str, part: &'static str) -> Result<Vec<f64>, EntryError> {
        let (shape, values) = self.values(name, part)?;
        if shape.len() != 1 {
            let reason = format!("`{part}` has {} axes, but 1 was expected", shape.len());
            return Err(EntryError::Tensor(reason));
        }
        Ok(values)
    }

    /// A matrix of the expected shape. That is checked before any memory is asked for: a matrix without columns
    /// has room for any number of rows in a file.
    fn matrix(
        &mut self,
        name: &str,
        part: &'static str,
        rows: usize,
        cols: Option<usize>,
    ) -> Result<Mat<f64>, EntryError> {
        let (found, values) = self.values(name, part)?;
        match *found.as_slice() {
            [r, c] if r == rows && cols.is_none_or(|cols| c == cols) => {
                Ok(MatRef::from_row_major_slice(&values, r, c).to_owned())
            }
            _ => {
                let cols = cols.or(found.get(1).copied()).unwrap_or(0);
                Err(MapError::Shape { part, expected: vec![rows, cols], found }.into())
            }
        }
    }

    fn values(&mut self, name: &str, part: &str) -> Result<(Vec<usize>, Vec<f64>), EntryError> {
        let full = format!("{name}.{part}");
        let tensor =
            self.file.tensor(&full).map_err(|_| EntryError::Tensor(format!("tensor `{full}` is missing")))?;
        if tensor.dtype() != Dtype::F64 {
            let dtype = tensor.dtype();
            return Err(EntryError::Tensor(format!("tensor `{full}` is {dtype:?}, but F64 was expected")));
        }
        self.unread.remove(full.as_str());
        let values = tensor.data().as_chunks::<8>().0.iter().copied().map(f64::from_le_bytes).collect();
        Ok((tensor.shape().to_vec(), values))
    }
}
