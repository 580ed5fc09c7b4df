//! The functions on tensors: the kernel against burn's own product of widened weights, and what goes past the kernel.

use brenier_kernels::{embedding, linear};
use burn::tensor::{DType, Device, Int, Tensor, TensorData};

fn tensor<const D: usize>(shape: [usize; D], step: f32) -> Tensor<D> {
    let len = shape.iter().product::<usize>();
    let values: Vec<f32> = (0..len).map(|i| (i as f32 * step).sin()).collect();
    Tensor::from_data(TensorData::new(values, shape), &Device::flex())
}

fn values<const D: usize>(x: Tensor<D>) -> Vec<f64> {
    x.into_data().iter::<f64>().collect()
}

/// `gamma_k` times the sum of magnitudes, here at most `k`, for each of the two f32 products that are compared.
fn tolerance(k: usize) -> f64 {
    2.0 * (k * k) as f64 * f64::from(f32::EPSILON)
}

fn assert_near(a: Vec<f64>, b: Vec<f64>, tolerance: f64) {
    assert_eq!(a.len(), b.len());
    let worst = a.iter().zip(&b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(worst <= tolerance, "off by {worst:e}, at most {tolerance:e}");
}

/// The product with the weight widened as a whole.
fn plain(x: Tensor<2>, weight: Tensor<2>) -> Tensor<2> {
    x.matmul(weight.cast(DType::F32).transpose())
}

#[test]
fn the_kernel_is_the_plain_product() {
    for (m, n, k) in [(1, 64, 96), (7, 33, 65), (40, 50, 70)] {
        let (x, w) = (tensor([m, k], 0.7), tensor([n, k], 0.3).cast(DType::BF16));
        let y = linear(x.clone(), w.clone());
        assert_eq!((y.dtype(), y.dims()), (DType::F32, [m, n]));
        assert_near(values(y), values(plain(x, w)), tolerance(k));
    }
}

#[test]
fn leading_dimensions_stay_even_empty_ones() {
    let w = tensor([5, 8], 0.3).cast(DType::BF16);
    assert_eq!(linear(tensor([2, 3, 8], 0.7), w.clone()).dims(), [2, 3, 5]);
    assert_eq!(linear(tensor([0, 8], 0.7), w).dims(), [0, 5]);
}

#[test]
fn views_are_read_as_what_they_show() {
    let k = 24;
    let w = tensor([40, k], 0.3).cast(DType::BF16);
    let x = tensor([k, 6], 0.7).transpose();
    let views = [
        w.clone().slice([7..20, 0..k]),
        tensor([13, 2 * k], 0.3).cast(DType::BF16).slice([0..13, 3..3 + k]),
        tensor([k, 13], 0.3).cast(DType::BF16).transpose(),
        w.slice([0..13, 0..k]).flip([0]),
    ];
    for view in views {
        assert_near(values(linear(x.clone(), view.clone())), values(plain(x.clone(), view)), tolerance(k));
    }
}

#[test]
fn the_product_has_the_dtype_of_x() {
    let w = tensor([5, 8], 0.3).cast(DType::BF16);
    for dtype in [DType::F64, DType::F32, DType::BF16] {
        assert_eq!(linear(tensor([2, 8], 0.7).cast(dtype), w.clone()).dtype(), dtype);
    }
    // Other weights are burn's.
    assert_eq!(linear(tensor([2, 8], 0.7), tensor([5, 8], 0.3)).dims(), [2, 5]);
}

#[test]
fn gradients_flow_where_there_is_autodiff() {
    let device = Device::flex().autodiff();
    let x = Tensor::<2>::from_data([[1.0, 2.0]], &device).require_grad();
    let w = Tensor::<2>::from_data([[3.0, 4.0], [5.0, 6.0]], &device).cast(DType::BF16);
    let y = linear(x.clone(), w);
    let gradients = y.sum().backward();
    assert_eq!(values(x.grad(&gradients).expect("a gradient")), [8.0, 10.0]);
}

#[test]
fn an_embedding_is_the_rows_widened() {
    let table = tensor([11, 6], 0.3).cast(DType::BF16);
    let ids = Tensor::<2, Int>::from_data([[10, 0, 3], [3, 3, 1]], &Device::flex());
    let rows = embedding(table.clone(), ids, DType::F32);
    assert_eq!((rows.dtype(), rows.dims()), (DType::F32, [2, 3, 6]));
    let table = values(table);
    let expected: Vec<f64> =
        [10, 0, 3, 3, 3, 1].iter().flat_map(|&i| table[i * 6..(i + 1) * 6].to_vec()).collect();
    assert_eq!(values(rows), expected);
}

#[test]
#[should_panic(expected = "expected 8, found x of shape [2, 7]")]
fn another_width_is_refused() {
    let _ = linear(tensor([2, 7], 0.7), tensor([5, 8], 0.3).cast(DType::BF16));
}
