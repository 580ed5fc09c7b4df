//! What a product and a look-up take beside their results: no copy of the weight.

use brenier_kernels::{embedding, linear};
use burn::tensor::{DType, Device, Int, Tensor};
use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATED: PeakAlloc = PeakAlloc;

#[test]
fn the_weight_is_not_copied() {
    let device = Device::flex();
    let (n, k) = (4096, 1024);
    let bytes = 2 * n * k;
    let weight = Tensor::<2>::ones([n, k], &device).cast(DType::BF16);
    let x = Tensor::<2>::ones([4, k], &device);
    let ids = Tensor::<2, Int>::zeros([1, 4], &device);
    // The pool's threads come up here.
    let _ = linear(x.clone(), weight.clone());

    ALLOCATED.reset_peak_usage();
    let before = ALLOCATED.current_usage();
    let y = linear(x, weight.clone());
    let rows = embedding(weight, ids, DType::F32);
    let taken = ALLOCATED.peak_usage().saturating_sub(before);
    assert!(taken < bytes / 8, "{taken} bytes beside a weight of {bytes}");
    assert_eq!((y.dims(), rows.dims()), ([4, n], [1, 4, k]));
}
