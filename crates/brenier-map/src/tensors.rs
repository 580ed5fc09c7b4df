//! The parts of a map as named tensors, and back.

use faer::{Mat, MatRef};

use crate::affine::{Affine, Dense, Diagonal, LowRank, Symmetric};
use crate::container::{Reader, Writer};
use crate::error::MapError;
use crate::gate::Gate;
use crate::map::RowMap;
use crate::mixture::{Mixture, Piece};

/// Writes the parts of a map, and returns the name of its kind.
pub(crate) fn write(writer: &mut Writer, name: &str, map: &RowMap) -> &'static str {
    let kind = match map.affine() {
        Affine::LowRank(map) => {
            writer.number(name, "scale", map.scale);
            writer.vector(name, "mean", &map.mean);
            writer.vector(name, "offset", &map.offset);
            writer.matrix(name, "u", map.u.as_ref());
            writer.matrix(name, "v", map.v.as_ref());
            "low-rank"
        }
        Affine::Symmetric(map) => {
            writer.number(name, "scale", map.scale);
            writer.vector(name, "mean", &map.mean);
            writer.vector(name, "offset", &map.offset);
            writer.matrix(name, "basis", map.basis.as_ref());
            writer.matrix(name, "core", map.core.as_ref());
            "symmetric"
        }
        Affine::Diagonal(map) => {
            writer.vector(name, "weight", &map.weight);
            writer.vector(name, "bias", &map.bias);
            if let Some((lo, hi)) = &map.range {
                writer.vector(name, "range.lo", lo);
                writer.vector(name, "range.hi", hi);
            }
            "diagonal"
        }
        Affine::Dense(map) => {
            writer.matrix(name, "matrix", map.matrix.as_ref());
            writer.vector(name, "bias", &map.bias);
            "dense"
        }
        Affine::Mixture(map) => {
            writer.vector(name, "center", &map.center);
            writer.vector(name, "offset", &map.offset);
            writer.matrix(name, "u", map.u.as_ref());
            writer.matrix(name, "v", map.v.as_ref());
            let constant: Vec<f64> = map.pieces.iter().map(|piece| piece.constant).collect();
            writer.vector(name, "constant", &constant);
            // One part of every piece, along a first axis of their own.
            let (count, k) = (map.pieces.len(), map.u.ncols());
            let mut stack = |part, shape, values: &dyn Fn(&Piece) -> Vec<f64>| {
                writer.tensor(name, part, shape, map.pieces.iter().flat_map(values));
            };
            stack("linear", vec![count, k], &|piece| piece.linear.clone());
            stack("quadratic", vec![count, k, k], &|piece| row_major(piece.quadratic.as_ref()));
            stack("matrix", vec![count, k, k], &|piece| row_major(piece.matrix.as_ref()));
            stack("shift", vec![count, k], &|piece| piece.shift.clone());
            "mixture"
        }
    };
    if let Some(gate) = map.gate() {
        writer.matrix(name, "gate.basis", gate.basis.as_ref());
        writer.vector(name, "gate.center", &gate.center);
        writer.number(name, "gate.constant", gate.constant);
        writer.vector(name, "gate.linear", &gate.linear);
        writer.matrix(name, "gate.quadratic", gate.quadratic.as_ref());
        writer.number(name, "gate.temperature", gate.temperature);
        if let Some(threshold) = gate.threshold {
            writer.number(name, "gate.threshold", threshold);
        }
    }
    kind
}

/// Reads the map of an entry.
pub(crate) fn read(reader: &mut Reader<'_>, name: &str, kind: &str) -> Result<RowMap, MapError> {
    let path = reader.path().to_owned();
    let no_map =
        |source| MapError::Entry { path: path.clone(), entry: name.to_owned(), source: Box::new(source) };
    let affine = match kind {
        "low-rank" => {
            let mean = reader.vector(name, "mean")?;
            if mean.is_empty() {
                return Err(no_map(MapError::ZeroWidth));
            }
            let u = reader.matrix(name, "u", mean.len(), None)?;
            Affine::LowRank(LowRank {
                scale: reader.number(name, "scale")?,
                offset: reader.vector(name, "offset")?,
                v: reader.matrix(name, "v", mean.len(), Some(u.ncols()))?,
                mean,
                u,
            })
        }
        "symmetric" => {
            let mean = reader.vector(name, "mean")?;
            if mean.is_empty() {
                return Err(no_map(MapError::ZeroWidth));
            }
            let basis = reader.matrix(name, "basis", mean.len(), None)?;
            Affine::Symmetric(Symmetric {
                scale: reader.number(name, "scale")?,
                offset: reader.vector(name, "offset")?,
                core: reader.matrix(name, "core", basis.ncols(), Some(basis.ncols()))?,
                mean,
                basis,
            })
        }
        "diagonal" => Affine::Diagonal(Diagonal {
            weight: reader.vector(name, "weight")?,
            bias: reader.vector(name, "bias")?,
            range: if reader.has(name, "range.lo") {
                Some((reader.vector(name, "range.lo")?, reader.vector(name, "range.hi")?))
            } else {
                None
            },
        }),
        "dense" => {
            let bias = reader.vector(name, "bias")?;
            Affine::Dense(Dense {
                matrix: reader.matrix(name, "matrix", bias.len(), Some(bias.len()))?,
                bias,
            })
        }
        "mixture" => {
            let center = reader.vector(name, "center")?;
            if center.is_empty() {
                return Err(no_map(MapError::ZeroWidth));
            }
            let u = reader.matrix(name, "u", center.len(), None)?;
            Affine::Mixture(Mixture {
                offset: reader.vector(name, "offset")?,
                v: reader.matrix(name, "v", center.len(), Some(u.ncols()))?,
                pieces: pieces(reader, name, u.ncols())?,
                center,
                u,
            })
        }
        _ => {
            let known = "low-rank, symmetric, diagonal, dense or mixture";
            return Err(
                reader.refuse_entry(name, format_args!("its kind is `{kind}`, but {known} was expected"))
            );
        }
    };
    let map = RowMap::new(affine).map_err(&no_map)?;
    if !reader.has(name, "gate.basis") {
        return Ok(map);
    }
    let linear = reader.vector(name, "gate.linear")?;
    let gate = Gate {
        basis: reader.matrix(name, "gate.basis", map.dim(), Some(linear.len()))?,
        center: reader.vector(name, "gate.center")?,
        constant: reader.number(name, "gate.constant")?,
        quadratic: reader.matrix(name, "gate.quadratic", linear.len(), Some(linear.len()))?,
        linear,
        temperature: reader.number(name, "gate.temperature")?,
        threshold: if reader.has(name, "gate.threshold") {
            Some(reader.number(name, "gate.threshold")?)
        } else {
            None
        },
    };
    map.with_gate(gate).map_err(no_map)
}

/// The pieces of a mixture in `k` coordinates.
fn pieces(reader: &mut Reader<'_>, name: &str, k: usize) -> Result<Vec<Piece>, MapError> {
    let constant = reader.vector(name, "constant")?;
    let count = constant.len();
    let linear = reader.tensor_of(name, "linear", &[count, k])?;
    let quadratic = reader.tensor_of(name, "quadratic", &[count, k, k])?;
    let matrix = reader.tensor_of(name, "matrix", &[count, k, k])?;
    let shift = reader.tensor_of(name, "shift", &[count, k])?;
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

fn row_major(values: MatRef<'_, f64>) -> Vec<f64> {
    let (rows, cols) = values.shape();
    (0..rows).flat_map(|i| (0..cols).map(move |j| values[(i, j)])).collect()
}
