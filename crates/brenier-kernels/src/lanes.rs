//! Vectors of floats in the instruction sets that the kernels are written for.
//!
//! All `unsafe` of this crate is in this module: loads and stores through references to whole vectors, and intrinsics
//! behind a value that exists only where the processor has them.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;

#[cfg(target_arch = "x86_64")]
pub(crate) use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) use avx512::Avx512;
pub(crate) use portable::Portable;

use half::bf16;

/// Rows of the weight that the kernel takes at once, so that a load of `x` serves several of them.
pub(crate) const GROUP: usize = 4;

/// Vectors of `N` floats in one instruction set. Having a value means that the processor has the instructions.
///
/// Weights are loaded as `N` pairs of neighbours, because widening a bf16 is moving it to the upper half of 32 bits: of
/// a pair, one by a shift and one by a mask.
pub(crate) trait Lanes<const N: usize>: Copy + Send + Sync {
    /// Most rows of `x` in a tile: as many as leave `GROUP` sums of each in registers.
    const ROWS: usize;
    /// `N` floats.
    type Floats: Copy;
    /// `N` pairs of bf16.
    type Pairs: Copy;

    /// Runs `work` compiled for this instruction set. `work` and what it calls must be inlined.
    fn enter<R>(self, work: impl FnOnce() -> R) -> R;
    /// `N` copies of `x`.
    fn splat(self, x: f32) -> Self::Floats;
    fn load(self, from: &[f32; N]) -> Self::Floats;
    /// `a * b + c`.
    fn mul_add(self, a: Self::Floats, b: Self::Floats, c: Self::Floats) -> Self::Floats;
    /// The sum of each vector, in an order that is always the same.
    fn sums(self, x: [Self::Floats; GROUP]) -> [f32; GROUP];
    fn load_pairs(self, from: &[[bf16; 2]; N]) -> Self::Pairs;
    /// The first of each pair, widened.
    fn first(self, pairs: Self::Pairs) -> Self::Floats;
    /// The second of each pair, widened.
    fn second(self, pairs: Self::Pairs) -> Self::Floats;
}

/// An instruction set that the processor has.
#[derive(Debug, Clone, Copy)]
pub(crate) enum InstructionSet {
    Portable(Portable),
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
}

impl InstructionSet {
    /// The widest.
    pub(crate) fn best() -> Self {
        #[cfg(target_arch = "x86_64")]
        if let Some(lanes) = Avx512::detect() {
            return Self::Avx512(lanes);
        } else if let Some(lanes) = Avx2::detect() {
            return Self::Avx2(lanes);
        }
        Self::Portable(Portable)
    }
}
