//! A map on a device.

use brenier_map::{Affine, Gate, LowRank, Mixture, Piece, RowMap};
use brenier_residual::{HookPoint, Spec};
use burn::tensor::activation::{sigmoid, softmax};
use burn::tensor::{Bool, DType, Device, Tensor, TensorData};

use crate::HookError;

/// A map whose parts are tensors, in the form in which they are used.
#[derive(Debug, Clone)]
pub(crate) struct DeviceMap {
    body: Body,
    gate: Option<DeviceGate>,
    dtype: DType,
    /// The largest part of a step that is the same for all activations, in one coordinate.
    constant: f64,
}

/// `T(x) - x`, in four forms.
#[derive(Debug, Clone)]
enum Body {
    /// Around the mean: `(T(m) - m) + (a - 1)(x - m) + U V^T (x - m)`, in which nothing large cancels.
    LowRank { grow: f64, mean: Tensor<2>, at_mean: Tensor<2>, factors: Option<(Tensor<2>, Tensor<2>)> },
    /// `(w - 1) x + b`, inside the range.
    Diagonal { grow: Tensor<2>, bias: Tensor<2>, range: Option<(Tensor<2>, Tensor<2>)> },
    /// `x (A - I)^T + b`.
    Dense { grow: Tensor<2>, bias: Tensor<2> },
    /// `offset + U sum_c p_c(z) (B_c z + b_c)`.
    Mixture(Box<DeviceMixture>),
}

/// The pieces of a mixture side by side, `C` of them in `K` coordinates.
#[derive(Debug, Clone)]
struct DeviceMixture {
    center: Tensor<2>,
    offset: Tensor<2>,
    /// `[d, K]`.
    v: Tensor<2>,
    /// `[K, d]`.
    u: Tensor<2>,
    /// The forms less that of the first piece: only differences matter, and alike pieces then cancel in f64.
    /// `[1, C]`, `[K, C]`, `[K, C K]`.
    constant: Tensor<2>,
    linear: Tensor<2>,
    quadratic: Tensor<2>,
    /// `[K, C K]`, `[1, C K]`.
    matrix: Tensor<2>,
    shift: Tensor<2>,
}

/// A gate whose log-odds are already divided by the temperature.
#[derive(Debug, Clone)]
struct DeviceGate {
    basis: Tensor<2>,
    center: Tensor<2>,
    constant: f64,
    linear: Tensor<2>,
    quadratic: Tensor<2>,
    threshold: Option<f64>,
}

impl DeviceMap {
    pub(crate) fn new(map: &RowMap, target: &Target<'_>) -> Result<Self, HookError> {
        let body = Body::new(map.affine(), target)?;
        let gate = map.gate().map(|gate| DeviceGate::new(gate, target)).transpose()?;
        Ok(Self { body, gate, dtype: target.dtype, constant: constant(map.affine()) })
    }

    /// Whether steps at this strength stay within the range in which they are computed.
    pub(crate) fn check_strength(&self, at: HookPoint, strength: f64) -> Result<(), HookError> {
        if !(strength as f32).is_finite() {
            return Err(HookError::Strength { strength });
        }
        let step = strength * self.constant;
        let held = self.dtype == DType::F64 || (step as f32).is_finite();
        if held { Ok(()) } else { Err(HookError::TooStrong { at, strength, step }) }
    }

    /// `x + strength p(x) (T(x) - x)` where `chosen`; everywhere without it.
    ///
    /// # Shapes
    /// `x` and the result: `[rows, tokens, hidden]`; `chosen`: `[rows, tokens]`.
    pub(crate) fn apply(&self, x: Tensor<3>, strength: f64, chosen: Option<Tensor<2, Bool>>) -> Tensor<3> {
        let [rows, tokens, hidden] = x.dims();
        let dtype = x.dtype();
        let x = x.reshape([rows * tokens, hidden]);
        let wide = cast(x.clone(), self.dtype);
        let mut moved = self.body.displacement(wide.clone());
        let mut chosen = chosen.map(|chosen| chosen.reshape([rows * tokens, 1]));
        if let Some(gate) = &self.gate {
            let share = gate.share(wide.clone());
            // Rows with no share keep their bits: adding 0 would turn -0 into 0.
            let open = share.clone().not_equal_scalar(0.0);
            chosen = Some(match chosen {
                Some(chosen) => chosen.bool_and(open),
                None => open,
            });
            moved = moved * share;
        }
        if strength != 1.0 {
            moved = moved.mul_scalar(strength);
        }
        let edited = cast(wide + moved, dtype);
        let edited = match chosen {
            Some(chosen) => x.mask_where(chosen.expand([rows * tokens, hidden]), edited),
            None => edited,
        };
        edited.reshape([rows, tokens, hidden])
    }
}

/// The largest part, by size, of `T(x) - x` that does not depend on x.
fn constant(affine: &Affine) -> f64 {
    let around = |scale: f64, mean: &[f64], offset: &[f64]| {
        mean.iter().zip(offset).map(|(mean, offset)| (scale - 1.0) * mean + offset).collect()
    };
    let constant: Vec<f64> = match affine {
        Affine::LowRank(map) => around(map.scale, &map.mean, &map.offset),
        Affine::Symmetric(map) => around(map.scale, &map.mean, &map.offset),
        Affine::Diagonal(map) => map.bias.clone(),
        Affine::Dense(map) => map.bias.clone(),
        Affine::Mixture(map) => map.offset.clone(),
    };
    constant.into_iter().fold(0.0, |largest: f64, step| largest.max(step.abs()))
}

impl Body {
    fn new(affine: &Affine, target: &Target<'_>) -> Result<Self, HookError> {
        let dim = affine.dim();
        Ok(match affine {
            Affine::LowRank(map) => Body::low_rank(map, target)?,
            // Multiplied in f64, and rounded once.
            Affine::Symmetric(map) => Body::low_rank(&map.to_low_rank(), target)?,
            Affine::Diagonal(map) => Body::Diagonal {
                grow: target.row("weight", dim, |j| map.weight[j] - 1.0)?,
                bias: target.row("bias", dim, |j| map.bias[j])?,
                range: map.range.as_ref().map(|(lo, hi)| target.bounds(lo, hi)),
            },
            Affine::Dense(map) => Body::Dense {
                grow: target.matrix("matrix", [dim, dim], |i, j| {
                    map.matrix[(j, i)] - if i == j { 1.0 } else { 0.0 }
                })?,
                bias: target.row("bias", dim, |j| map.bias[j])?,
            },
            Affine::Mixture(map) => Body::Mixture(Box::new(DeviceMixture::new(map, target)?)),
        })
    }

    fn low_rank(map: &LowRank, target: &Target<'_>) -> Result<Self, HookError> {
        let (dim, rank, grow) = (map.mean.len(), map.u.ncols(), map.scale - 1.0);
        let factors = if rank == 0 {
            None
        } else {
            let v = target.matrix("v", [dim, rank], |i, j| map.v[(i, j)])?;
            Some((v, target.matrix("u", [rank, dim], |i, j| map.u[(j, i)])?))
        };
        Ok(Body::LowRank {
            grow: target.number("scale", grow)?,
            mean: target.row("mean", dim, |j| map.mean[j])?,
            at_mean: target.row("offset", dim, |j| grow * map.mean[j] + map.offset[j])?,
            factors,
        })
    }

    /// `T(x) - x` of rows `[n, d]`.
    fn displacement(&self, x: Tensor<2>) -> Tensor<2> {
        match self {
            Body::LowRank { grow, mean, at_mean, factors } => {
                let [n, dim] = x.dims();
                if *grow == 0.0 && factors.is_none() {
                    return at_mean.clone().expand([n, dim]);
                }
                let centred = x - mean.clone();
                let low = factors.as_ref().map(|(v, u)| centred.clone().matmul(v.clone()).matmul(u.clone()));
                let moved = match low {
                    Some(low) if *grow == 0.0 => low,
                    Some(low) => low + centred.mul_scalar(*grow),
                    None => centred.mul_scalar(*grow),
                };
                moved + at_mean.clone()
            }
            Body::Diagonal { grow, bias, range } => {
                let moved = x.clone() * grow.clone() + bias.clone();
                match range {
                    Some((lo, hi)) => {
                        let shape = x.dims();
                        let below = x.clone().greater(lo.clone().expand(shape)).bool_not();
                        let above = x.lower(hi.clone().expand(shape)).bool_not();
                        moved.mask_fill(below.bool_or(above), 0.0)
                    }
                    None => moved,
                }
            }
            Body::Dense { grow, bias } => x.matmul(grow.clone()) + bias.clone(),
            Body::Mixture(map) => map.displacement(x),
        }
    }
}

impl DeviceMixture {
    fn new(map: &Mixture, target: &Target<'_>) -> Result<Self, HookError> {
        // As for a gate: no tensor is empty.
        let (dim, k, count) = (map.dim(), map.u.ncols(), map.pieces.len());
        let wide = k.max(1);
        let inside = |values: &dyn Fn(&Piece) -> f64, a: usize, at: usize| {
            if a < k && at % wide < k { values(&map.pieces[at / wide]) } else { 0.0 }
        };
        let first = &map.pieces[0];
        Ok(Self {
            center: target.row("center", dim, |j| map.center[j])?,
            offset: target.row("offset", dim, |j| map.offset[j])?,
            v: target.matrix("v", [dim, wide], |i, a| if a < k { map.v[(i, a)] } else { 0.0 })?,
            u: target.matrix("u", [wide, dim], |a, i| if a < k { map.u[(i, a)] } else { 0.0 })?,
            constant: target.row("constant", count, |c| map.pieces[c].constant - first.constant)?,
            linear: target.matrix("linear", [wide, count], |a, c| {
                inside(&|piece| piece.linear[a] - first.linear[a], a, c * wide)
            })?,
            quadratic: target.matrix("quadratic", [wide, count * wide], |a, at| {
                let b = at % wide;
                inside(&|piece| piece.quadratic[(a, b)] - first.quadratic[(a, b)], a, at)
            })?,
            matrix: target.matrix("matrix", [wide, count * wide], |b, at| {
                inside(&|piece| piece.matrix[(at % wide, b)], b, at)
            })?,
            shift: target.row("shift", count * wide, |at| inside(&|piece| piece.shift[at % wide], 0, at))?,
        })
    }

    /// `T(x) - x` of rows `[n, d]`.
    fn displacement(&self, x: Tensor<2>) -> Tensor<2> {
        let n = x.dims()[0];
        let [wide, count] = self.linear.dims();
        let pieces = [n, count, wide];
        let z = (x - self.center.clone()).matmul(self.v.clone());
        let slope = z.clone().matmul(self.quadratic.clone()).reshape(pieces);
        let square = (slope * z.clone().reshape([n, 1, wide])).sum_dim(2).reshape([n, count]);
        let form = z.clone().matmul(self.linear.clone()) + square + self.constant.clone();
        let share = softmax(form, 1).reshape([n, count, 1]);
        let step = (z.matmul(self.matrix.clone()) + self.shift.clone()).reshape(pieces);
        let step = (step * share).sum_dim(1).reshape([n, wide]);
        step.matmul(self.u.clone()) + self.offset.clone()
    }
}

impl DeviceGate {
    fn new(gate: &Gate, target: &Target<'_>) -> Result<Self, HookError> {
        // A gate without coordinates gets one that is always 0: no tensor is empty.
        let k = gate.linear.len();
        let wide = k.max(1);
        let t = gate.temperature;
        Ok(Self {
            basis: target.matrix("gate.basis", [gate.dim(), wide], |i, j| {
                if j < k { gate.basis[(i, j)] } else { 0.0 }
            })?,
            center: target.row("gate.center", gate.dim(), |j| gate.center[j])?,
            constant: target.number("gate.constant", gate.constant / t)?,
            linear: target.row("gate.linear", wide, |j| if j < k { gate.linear[j] / t } else { 0.0 })?,
            quadratic: target.matrix("gate.quadratic", [wide, wide], |i, j| {
                if j < k { gate.quadratic[(i, j)] / t } else { 0.0 }
            })?,
            threshold: gate.threshold,
        })
    }

    /// `p(x)` of rows `[n, d]`; `[n, 1]`.
    fn share(&self, x: Tensor<2>) -> Tensor<2> {
        let z = (x - self.center.clone()).matmul(self.basis.clone());
        let slope = z.clone().matmul(self.quadratic.clone()) + self.linear.clone();
        let share = sigmoid((z * slope).sum_dim(1).add_scalar(self.constant));
        match self.threshold {
            Some(threshold) => {
                let shut = share.clone().lower_scalar(threshold);
                share.mask_fill(shut, 0.0)
            }
            None => share,
        }
    }
}

/// Where the parts of a map go.
pub(crate) struct Target<'a> {
    device: &'a Device,
    dtype: DType,
    at: HookPoint,
}

impl<'a> Target<'a> {
    pub(crate) fn new(spec: &'a Spec, at: HookPoint) -> Self {
        let dtype = if spec.dtype == DType::F64 { DType::F64 } else { DType::F32 };
        Self { device: &spec.device, dtype, at }
    }

    fn number(&self, part: &'static str, value: f64) -> Result<f64, HookError> {
        let held = self.dtype == DType::F64 || (value as f32).is_finite();
        if held { Ok(value) } else { Err(HookError::BeyondF32 { at: self.at, part, value }) }
    }

    fn row(
        &self,
        part: &'static str,
        len: usize,
        value: impl Fn(usize) -> f64,
    ) -> Result<Tensor<2>, HookError> {
        self.matrix(part, [1, len], |_, j| value(j))
    }

    fn matrix(
        &self,
        part: &'static str,
        [rows, cols]: [usize; 2],
        value: impl Fn(usize, usize) -> f64,
    ) -> Result<Tensor<2>, HookError> {
        let mut values = Vec::with_capacity(rows * cols);
        for i in 0..rows {
            for j in 0..cols {
                values.push(self.number(part, value(i, j))?);
            }
        }
        Ok(self.upload(values, [rows, cols]))
    }

    /// Exclusive bounds, rounded outwards to f32: between a bound and its rounding lies no f32, so an
    /// activation is inside exactly when it is inside in f64.
    fn bounds(&self, lo: &[f64], hi: &[f64]) -> (Tensor<2>, Tensor<2>) {
        let exact = self.dtype == DType::F64;
        let lo: Vec<f64> = lo.iter().map(|&lo| if exact { lo } else { round_down(lo) }).collect();
        let hi: Vec<f64> = hi.iter().map(|&hi| if exact { hi } else { -round_down(-hi) }).collect();
        let shape = [1, lo.len()];
        (self.upload(lo, shape), self.upload(hi, shape))
    }

    fn upload(&self, values: Vec<f64>, shape: [usize; 2]) -> Tensor<2> {
        Tensor::from_data(TensorData::new(values, shape), (self.device, self.dtype))
    }
}

/// The largest f32 that is not above a number.
fn round_down(value: f64) -> f64 {
    let nearest = value as f32;
    f64::from(if f64::from(nearest) > value { nearest.next_down() } else { nearest })
}

fn cast(x: Tensor<2>, dtype: DType) -> Tensor<2> {
    if x.dtype() == dtype { x } else { x.cast(dtype) }
}
