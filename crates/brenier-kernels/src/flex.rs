//! Burn's flex backend: its tensors' memory, given to the kernel as it is.

use burn::backend::flex::FlexTensor;
use burn::backend::{DispatchDevice, Flex};
use burn::tensor::{DType, Device, Tensor, TensorData};
use half::bf16;

use crate::lanes::InstructionSet;
use crate::product::{self, Weight};

/// Whether tensors of this device, without autodiff, are the kernel's.
pub(crate) fn serves(device: &Device) -> bool {
    matches!(device.clone().without_autodiff().as_dispatch(), DispatchDevice::Flex(_))
}

/// The product by the kernel, where both tensors are flex tensors without autodiff and of dtypes that it takes.
pub(crate) fn product(x: &Tensor<2>, weight: &Tensor<2>) -> Option<Tensor<2>> {
    let dtype = x.dtype();
    if weight.dtype() != DType::BF16 || !matches!(dtype, DType::F32 | DType::BF16) {
        return None;
    }
    // Clones share the memory.
    let weight = weight.clone().try_into_primitive::<Flex>().ok()?;
    let x = x.clone().try_into_primitive::<Flex>().ok()?;
    let x = Tensor::<2>::from_primitive::<Flex>(x).cast(DType::F32).try_into_primitive::<Flex>().ok()?;
    let y = Tensor::<2>::from_primitive::<Flex>(multiply(x, weight)?);
    Some(y.cast(dtype))
}

/// `None` is never the answer for the dtypes above: a contiguous tensor has a slice.
fn multiply(x: FlexTensor, weight: FlexTensor) -> Option<FlexTensor> {
    let [m, k] = dims(&x);
    let [n, _] = dims(&weight);
    let x = x.to_contiguous();
    let weight = if rows_lie_whole(&weight) { weight } else { weight.to_contiguous() };
    let layout = weight.layout();
    let weight = Weight {
        values: weight.storage::<bf16>().get(layout.start_offset()..)?,
        n,
        k,
        stride: usize::try_from(layout.strides()[0]).ok()?,
    };
    let mut y = vec![0.0; m * n];
    product::product(InstructionSet::best(), x.as_slice::<f32>()?, &weight, &mut y);
    Some(FlexTensor::from_data(TensorData::new(y, [m, n])))
}

fn rows_lie_whole(weight: &FlexTensor) -> bool {
    let strides = weight.layout().strides();
    strides[0] >= 0 && (strides[1] == 1 || dims(weight)[1] == 1)
}

fn dims(tensor: &FlexTensor) -> [usize; 2] {
    let shape = tensor.layout().shape();
    [shape[0], shape[1]]
}
