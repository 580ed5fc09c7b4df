//! A capture of more rows than fit: what is held at once is a part, not all of it.
#![allow(clippy::unwrap_used)]

use std::ops::Range;

use brenier_capture::{
    CaptureError, CapturedMoments, Former, MomentsSink, MomentsStore, Request, ShardWriter, capture_to,
};
use brenier_residual::{
    Batch, DType, Device, HookPoint, KvCache, ResidualError, ResidualModel, Site, Spec, Tap, Tensor,
    TensorData,
};
use peak_alloc::PeakAlloc;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

const LAYERS: u16 = 16;
const HIDDEN: usize = 1024;
const PROMPTS: usize = 1024;
/// Bytes of a row of all layers.
const ROW: usize = LAYERS as usize * HIDDEN * 4;
const PART: usize = 64;

/// Adds one a block.
struct Wide(Spec);

impl ResidualModel for Wide {
    fn spec(&self) -> &Spec {
        &self.0
    }

    fn embed(&self, batch: &Batch) -> Result<Tensor<3>, ResidualError> {
        let of = |i: usize| batch.id(i / HIDDEN, 0) as f32 + (i % HIDDEN) as f32;
        let values: Vec<f32> = (0..batch.rows() * HIDDEN).map(of).collect();
        Ok(Tensor::from_data(TensorData::new(values, [batch.rows(), 1, HIDDEN]), &self.0.device))
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
            x = tap.see(HookPoint::resid_post(layer), batch, x + 1.0)?;
        }
        Ok(x)
    }

    fn unembed(&self, x: Tensor<3>) -> Tensor<3> {
        x
    }
}

struct Nowhere;

impl MomentsStore for Nowhere {
    fn load(&mut self) -> Result<Option<CapturedMoments>, CaptureError> {
        Ok(None)
    }

    fn save(&mut self, _: &mut CapturedMoments) -> Result<(), CaptureError> {
        Ok(())
    }
}

#[test]
fn memory_is_that_of_a_part() {
    let device = Device::flex();
    let model = Wide(Spec {
        architecture: "Wide".into(),
        layers: LAYERS,
        hidden: HIDDEN,
        vocab: 4096,
        context: 4,
        device,
        dtype: DType::F32,
        weights: DType::F32,
    });
    let prompts: Vec<Vec<u32>> = (0..PROMPTS).map(|i| vec![i as u32]).collect();
    let request = Request {
        points: Site::ResidPost.all_layers(LAYERS).collect(),
        batch: Some(16),
        part: Some(PART),
        ..Request::default()
    };
    let dir = tempfile::tempdir().unwrap();
    let mut used = Vec::new();
    let mut measure = |run: &mut dyn FnMut()| {
        let before = MEMORY.current_usage();
        MEMORY.reset_peak_usage();
        run();
        used.push(MEMORY.peak_usage() - before);
    };
    measure(&mut || {
        let mut sink = ShardWriter::new(dir.path(), Former::Refuse);
        capture_to(&model, &prompts, &request, &mut (), &mut sink, &mut |_| {}).unwrap();
    });
    for prompts in [&prompts[..PROMPTS / 4], prompts.as_slice()] {
        measure(&mut || {
            let mut sink = MomentsSink::new(8, Nowhere);
            capture_to(&model, prompts, &request, &mut (), &mut sink, &mut |_| {}).unwrap();
        });
    }
    // A part, a batch of a quarter of one in a few copies, and buffers.
    assert!(used[0] < 3 * PART * ROW, "{used:?} of {}", PROMPTS * ROW);
    // What factoring takes does not depend on the number of prompts.
    assert!(4 * used[2] < 5 * used[1], "{used:?} of {}", PROMPTS * ROW);
}
