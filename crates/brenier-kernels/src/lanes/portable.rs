//! Arrays, which the compiler turns into whatever vectors the target has.

use half::bf16;

use super::{GROUP, Lanes};

/// Works everywhere.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Portable;

const N: usize = 8;

impl Lanes<N> for Portable {
    const ROWS: usize = 2;
    type Floats = [f32; N];
    type Pairs = [u32; N];

    #[inline(always)]
    fn enter<R>(self, work: impl FnOnce() -> R) -> R {
        work()
    }

    #[inline(always)]
    fn splat(self, x: f32) -> Self::Floats {
        [x; N]
    }

    #[inline(always)]
    fn load(self, from: &[f32; N]) -> Self::Floats {
        *from
    }

    #[inline(always)]
    fn mul_add(self, a: Self::Floats, b: Self::Floats, c: Self::Floats) -> Self::Floats {
        // Where the target has no such instruction, `f32::mul_add` is a slow function.
        if cfg!(any(target_feature = "fma", target_arch = "aarch64")) {
            std::array::from_fn(|i| a[i].mul_add(b[i], c[i]))
        } else {
            std::array::from_fn(|i| a[i] * b[i] + c[i])
        }
    }

    #[inline(always)]
    fn sums(self, x: [Self::Floats; GROUP]) -> [f32; GROUP] {
        x.map(|x| ((x[0] + x[4]) + (x[2] + x[6])) + ((x[1] + x[5]) + (x[3] + x[7])))
    }

    #[inline(always)]
    fn load_pairs(self, from: &[[bf16; 2]; N]) -> Self::Pairs {
        from.map(|[first, second]| u32::from(first.to_bits()) | u32::from(second.to_bits()) << 16)
    }

    #[inline(always)]
    fn first(self, pairs: Self::Pairs) -> Self::Floats {
        pairs.map(|pair| f32::from_bits(pair << 16))
    }

    #[inline(always)]
    fn second(self, pairs: Self::Pairs) -> Self::Floats {
        pairs.map(|pair| f32::from_bits(pair & 0xffff_0000))
    }
}
