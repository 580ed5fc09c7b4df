//! A patch replaces its own token, wherever padding and earlier steps put it, and nothing else.
#![allow(clippy::unwrap_used)]

use brenier_hooks::{HookError, Patch, Patches};
use brenier_residual::{Batch, DType, Device, HookPoint, ResidualError, Row, Spec, Tap, Tensor, TensorData};

const AT: HookPoint = HookPoint { layer: 1, site: brenier_residual::Site::MlpOut };

fn spec(dtype: DType) -> Spec {
    Spec {
        architecture: "none".into(),
        layers: 3,
        hidden: 2,
        vocab: 16,
        context: 64,
        device: Device::flex(),
        dtype,
        weights: dtype,
    }
}

fn patch(row: usize, token: usize, value: f32) -> Patch {
    Patch { at: AT, row, token, value: vec![value, -value] }
}

/// Zeros through the patches: the first coordinate of every token.
fn patched(patches: &mut Patches, batch: &Batch) -> Result<Vec<f32>, ResidualError> {
    let x = Tensor::zeros([batch.rows(), batch.tokens(), 2], batch.device());
    let y: Vec<f32> = patches.visit(AT, batch, x)?.into_data().iter::<f32>().collect();
    assert!(y.chunks(2).all(|pair| pair[0] == -pair[1]));
    Ok(y.into_iter().step_by(2).collect())
}

#[test]
fn tokens_count_in_their_row_through_padding_and_steps() {
    let first = Batch::new(&[Row::prompt(&[1, 2, 3]), Row::prompt(&[4])], &Device::flex()).unwrap();
    let wanted = [patch(0, 0, 1.0), patch(0, 2, 2.0), patch(1, 0, 3.0), patch(1, 1, 4.0), patch(1, 9, 5.0)];
    let mut patches = Patches::new(&spec(DType::F32), &wanted).unwrap();
    assert!(patches.wants(AT) && !patches.wants(HookPoint::mlp_out(2)));
    assert_eq!(patched(&mut patches, &first).unwrap(), [1.0, 0.0, 2.0, 0.0, 0.0, 3.0]);
    assert_eq!(patches.pending().collect::<Vec<_>>(), [(AT, 1, 1), (AT, 1, 9)]);
    let next = first.next(&[5, 6]).unwrap();
    assert_eq!(patched(&mut patches, &next).unwrap(), [0.0, 4.0]);
    assert_eq!(patches.pending().collect::<Vec<_>>(), [(AT, 1, 9)]);
    // Run again, they act again.
    assert_eq!(patched(&mut patches, &first).unwrap(), [1.0, 0.0, 2.0, 0.0, 0.0, 3.0]);
}

#[test]
fn a_row_that_is_not_there_is_an_error() {
    let batch = Batch::new(&[Row::prompt(&[1])], &Device::flex()).unwrap();
    let mut patches = Patches::new(&spec(DType::F32), &[patch(1, 0, 1.0)]).unwrap();
    let error = patched(&mut patches, &batch).unwrap_err();
    assert_eq!(
        error.to_string(),
        "blocks.1.hook_mlp_out: a patch is for row 1 (counted from 0), but the batch has 1 rows"
    );
    let ResidualError::Tap { source, .. } = error else { panic!("{error}") };
    assert!(source.get().is::<HookError>());
}

#[test]
fn bad_patches_are_refused() {
    let refused = |dtype, patches: &[Patch]| Patches::new(&spec(dtype), patches).unwrap_err();
    let at = HookPoint::mlp_out(3);
    let outside = refused(DType::F32, &[Patch { at, ..patch(0, 0, 1.0) }]);
    assert_eq!(outside, HookError::LayerOutside { at, layers: 3 });
    let wide = refused(DType::F32, &[Patch { value: vec![1.0; 3], ..patch(0, 0, 1.0) }]);
    assert_eq!(wide, HookError::PatchWidth { at: AT, expected: 2, found: 3 });
    let twice = refused(DType::F32, &[patch(0, 1, 1.0), patch(1, 1, 1.0), patch(0, 1, 2.0)]);
    assert_eq!(twice, HookError::PatchedTwice { at: AT, row: 0, token: 1 });
    for (dtype, value) in [(DType::F32, f32::NAN), (DType::F32, f32::INFINITY), (DType::F16, 65520.0)] {
        let bad = refused(dtype, &[patch(0, 0, value)]);
        assert!(matches!(bad, HookError::PatchValue { column: 0, .. }), "{bad}");
    }
    assert!(Patches::new(&spec(DType::F16), &[patch(0, 0, 65504.0)]).is_ok());
}

#[test]
fn half_precision_is_patched_in_half_precision() {
    let batch = Batch::new(&[Row::prompt(&[1, 2])], &Device::flex()).unwrap();
    let mut patches = Patches::new(&spec(DType::BF16), &[patch(0, 1, 0.1)]).unwrap();
    let x =
        Tensor::<3>::from_data(TensorData::new(vec![0.0f32; 4], [1, 2, 2]), (batch.device(), DType::BF16));
    let y = patches.visit(AT, &batch, x).unwrap();
    assert_eq!(y.dtype(), DType::BF16);
    let y: Vec<f32> = y.into_data().iter::<f32>().collect();
    assert_eq!(y, [0.0, 0.0, 0.100_097_656, -0.100_097_656]);
}
