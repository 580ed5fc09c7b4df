//! A model small enough to be computed by hand.

use std::ops::Range;

use brenier_residual::{Batch, HookPoint, KvCache, ResidualError, ResidualModel, Site, Spec, Tap, TokenView};
use burn::tensor::{DType, Device, Int, Tensor, TensorData};

pub const HIDDEN: usize = 3;

/// The embedding of id `i` is `(i, 1, 0)`; block `l` adds `l + 1` to the first coordinate and the running sum of
/// first coordinates over the row's tokens to the third.
pub struct Counter {
    spec: Spec,
    /// Blocks that have been run, for early exit.
    pub run: std::cell::RefCell<Vec<u16>>,
}

impl Counter {
    pub fn new(layers: u16) -> Self {
        let spec = Spec {
            architecture: "Counter".into(),
            layers,
            hidden: HIDDEN,
            vocab: 50,
            context: 16,
            device: Device::flex(),
            dtype: DType::F32,
            weights: DType::F32,
        };
        Self { spec, run: Default::default() }
    }
}

impl ResidualModel for Counter {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn embed(&self, batch: &Batch) -> Result<Tensor<3>, ResidualError> {
        batch.check(&self.spec)?;
        let mut x = Vec::new();
        for row in 0..batch.rows() {
            for token in 0..batch.tokens() {
                x.extend([batch.id(row, token) as f32, 1.0, 0.0]);
            }
        }
        Ok(Tensor::from_data(TensorData::new(x, [batch.rows(), batch.tokens(), HIDDEN]), &self.spec.device))
    }

    fn blocks(
        &self,
        layers: Range<u16>,
        mut x: Tensor<3>,
        batch: &Batch,
        _: Option<&mut KvCache>,
        tap: &mut dyn Tap,
    ) -> Result<Tensor<3>, ResidualError> {
        for layer in layers {
            self.run.borrow_mut().push(layer);
            let [rows, tokens, _] = x.dims();
            let mut values: Vec<f32> = x.into_data().iter::<f32>().collect();
            for row in 0..rows {
                let mut sum = 0.0;
                for token in batch.padding(row)..tokens {
                    let at = (row * tokens + token) * HIDDEN;
                    sum += values[at];
                    values[at] += f32::from(layer) + 1.0;
                    values[at + 2] += sum;
                }
            }
            x = Tensor::from_data(TensorData::new(values, [rows, tokens, HIDDEN]), &self.spec.device);
            let at = HookPoint { layer, site: Site::ResidPost };
            if tap.wants(at) {
                x = tap.visit(at, batch, x)?;
            }
        }
        Ok(x)
    }

    fn unembed(&self, x: Tensor<3>) -> Tensor<3> {
        let index: Vec<i64> = (0..self.spec.vocab as i64).map(|i| i % HIDDEN as i64).collect();
        let index = Tensor::<1, Int>::from_data(TensorData::new(index, [self.spec.vocab]), &self.spec.device);
        x.select(2, index)
    }
}

/// Adds a number to the first coordinate after a block.
pub struct Add(pub u16, pub f32);

impl Tap for Add {
    fn wants(&self, at: HookPoint) -> bool {
        at == HookPoint::resid_post(self.0)
    }

    fn visit(&mut self, _: HookPoint, _: &dyn TokenView, x: Tensor<3>) -> Result<Tensor<3>, ResidualError> {
        let [rows, tokens, _] = x.dims();
        let mut edit = vec![0.0; rows * tokens * HIDDEN];
        edit.iter_mut().step_by(HIDDEN).for_each(|value| *value = self.1);
        let edit = Tensor::from_data(TensorData::new(edit, [rows, tokens, HIDDEN]), &x.device());
        Ok(x + edit)
    }
}
