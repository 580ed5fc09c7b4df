//! What a map does to the rows, in the coordinates of the rows ([`Span`]).

use crate::certificate::{GateQuality, Gated, Quality};
use crate::span::{Span, Spanned, column, contrasted, entrywise, trace};
use crate::{Covariance, TransportError};
use brenier_linalg::{LinalgError, dot, nuclear_norm, product, product_with_transpose, transpose_product};
use brenier_map::Gate;
use faer::{Mat, MatRef};

impl Span<'_> {
    /// W2 between the rows of the two classes.
    pub(crate) fn w2_before(&self, covariance: Covariance) -> Result<f64, LinalgError> {
        let (of_source, _, across) = self.blocks();
        let nuclear = nuclear_norm(contrasted(across).as_ref())?;
        Ok(self.w2(self.gap_squared(), trace(of_source), nuclear, covariance))
    }

    /// From the squared distance of the means, the sum of squares of the source about its own, and a nuclear norm.
    pub(crate) fn w2(&self, apart: f64, spread: f64, nuclear: f64, covariance: Covariance) -> f64 {
        let ((n_s, n_t), (_, of_target, _)) = (self.counts(), self.blocks());
        let (div_s, div_t) = (covariance.divisor(n_s), covariance.divisor(n_t));
        let bures = spread / div_s + trace(of_target) / div_t - 2.0 * nuclear / (div_s * div_t).sqrt();
        (apart.max(0.0) + bures.max(0.0)).sqrt()
    }

    /// What a map does to the rows themselves: the same numbers that moving the rows would give.
    pub(crate) fn measure(
        &self,
        map: &Spanned,
        gate: Option<&Gate>,
        covariance: Covariance,
    ) -> Result<Moved, TransportError> {
        let ((n_s, n_t), n) = (self.counts(), self.rows());
        let (of_source, _, across) = self.blocks();
        let gated = gate.map(|gate| Gated::of(gate, self.source, self.target)).transpose()?;
        let open = |count| vec![1.0; count];
        let (share_s, share_t) = match &gated {
            Some(gated) => (gated.source.clone(), gated.target.clone()),
            None => (open(n_s), open(n_t)),
        };

        // What the directions read of each row about m_s.
        let (read_s, gap_read) = (map.read.as_ref().subrows(0, n_s), map.read.row(n));
        let read_t = Mat::from_fn(n_t, map.read.ncols(), |i, k| map.read[(n_s + i, k)] + gap_read[k]);
        let offset = Mat::from_fn(n + 1, 1, |i, _| map.offset[i]);
        let offset_read = column(&product(self.gram.as_ref(), offset.as_ref()));
        let own = OffsetForms {
            length: dot(&map.offset, &offset_read),
            with_u: column(&transpose_product(map.written.as_ref(), offset.as_ref())),
        };
        let step = |share: &[f64], read: MatRef<'_, f64>| {
            let forms = own.forms(map, read);
            let squares = forms.iter().zip(share).map(|(square, share)| share * share * square);
            (squares.sum::<f64>() / share.len() as f64).max(0.0).sqrt()
        };
        let (source_step, target_step) = (step(&share_s, read_s), step(&share_t, read_t.as_ref()));

        // A moved row is e + p (offset + U V^T e) from m_s; about the mean of them, e + q offset + U w.
        let share = share_s.iter().sum::<f64>() / n_s as f64;
        let q: Vec<f64> = share_s.iter().map(|p| p - share).collect();
        let r = map.read.ncols();
        let mut w = Mat::from_fn(n_s, r, |i, k| share_s[i] * read_s[(i, k)]);
        let w_mean: Vec<f64> = (0..r).map(|k| w.col_as_slice(k).iter().sum::<f64>() / n_s as f64).collect();
        for (k, mean) in w_mean.iter().enumerate() {
            w.col_as_slice_mut(k).iter_mut().for_each(|w| *w -= mean);
        }
        let written_s = map.written.as_ref().subrows(0, n_s);
        let with_own: f64 =
            (0..n_s).map(|i| q[i] * offset_read[i]).sum::<f64>() + entrywise(written_s, w.as_ref());
        let moved: f64 = q.iter().map(|q| q * q * own.length).sum::<f64>()
            + 2.0 * (0..r).map(|k| own.with_u[k] * dot(&q, w.col_as_slice(k))).sum::<f64>()
            + entrywise(product(w.as_ref(), map.lengths.as_ref()).as_ref(), w.as_ref());
        let spread = trace(of_source) + 2.0 * with_own + moved;
        let mut with_target = product_with_transpose(map.written.as_ref().subrows(n_s, n_t), w.as_ref());
        for i in 0..n_s {
            let places = with_target.col_as_slice_mut(i).iter_mut().enumerate();
            places.for_each(|(t, x)| *x += across[(t, i)] + offset_read[n_s + t] * q[i]);
        }
        // The mean of the moved rows from m_t: p offset - gap + U w.
        let left: Vec<f64> =
            map.offset.iter().enumerate().map(|(i, o)| share * o - if i == n { 1.0 } else { 0.0 }).collect();
        let left_with = |k: usize| dot(&left, map.written.col_as_slice(k));
        let means = Mat::from_fn(1, r, |_, k| w_mean[k]);
        let apart = self.length(&left)
            + 2.0 * (0..r).map(|k| w_mean[k] * left_with(k)).sum::<f64>()
            + entrywise(product(means.as_ref(), map.lengths.as_ref()).as_ref(), means.as_ref());

        let after = nuclear_norm(contrasted(with_target.as_ref()).as_ref())?;
        Ok(Moved {
            w2_after: self.w2(apart, spread, after, covariance),
            source_step,
            target_step,
            gate: gated.map(|gated| gated.quality()),
        })
    }
}

/// What a map does to rows, but for where they were before.
pub(crate) struct Moved {
    pub w2_after: f64,
    pub source_step: f64,
    pub target_step: f64,
    pub gate: Option<GateQuality>,
}

impl Moved {
    pub(crate) fn from(self, w2_before: f64) -> Quality {
        let Self { w2_after, source_step, target_step, gate } = self;
        let w2_ratio = (w2_before > 0.0).then(|| w2_after / w2_before);
        Quality { w2_before, w2_after, w2_ratio, source_step, target_step, gate, ..Quality::default() }
    }
}

/// Inner products of a map's offset `o` with itself and with its directions `U`.
struct OffsetForms {
    length: f64,
    with_u: Vec<f64>,
}

impl OffsetForms {
    /// `|o + U c|^2` for each row `c` of what was read, `[m, r]`.
    fn forms(&self, map: &Spanned, read: MatRef<'_, f64>) -> Vec<f64> {
        let mut forms = vec![self.length; read.nrows()];
        let lengths = product(read, map.lengths.as_ref());
        for (k, with_u) in self.with_u.iter().enumerate() {
            let places = forms.iter_mut().zip(lengths.col_as_slice(k)).zip(read.col(k).iter());
            places.for_each(|((form, length), read)| *form += (2.0 * with_u + length) * read);
        }
        forms
    }
}
