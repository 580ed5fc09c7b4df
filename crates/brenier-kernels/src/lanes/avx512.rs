//! AVX-512F: 16 floats in each of 32 registers.

use std::arch::x86_64::*;

use half::bf16;

use super::{GROUP, Lanes};

/// A processor with AVX-512F.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Avx512(());

impl Avx512 {
    pub(crate) fn detect() -> Option<Self> {
        (is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vl")).then_some(Self(()))
    }
}

const N: usize = 16;

impl Lanes<N> for Avx512 {
    const ROWS: usize = 5;
    type Floats = __m512;
    type Pairs = __m512i;

    #[inline(always)]
    fn enter<R>(self, work: impl FnOnce() -> R) -> R {
        #[target_feature(enable = "avx512f,avx512vl")]
        fn inner<R>(work: impl FnOnce() -> R) -> R {
            work()
        }
        // SAFETY: a value of this type exists only where the instructions are there.
        unsafe { inner(work) }
    }

    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        // SAFETY: a value of this type exists only where the instructions are there.
        unsafe { _mm512_set1_ps(x) }
    }

    #[inline(always)]
    fn load(self, from: &[f32; N]) -> __m512 {
        // SAFETY: the reference covers what the unaligned access takes; a value of this type exists only
        // where the instructions are there.
        unsafe { _mm512_loadu_ps(from.as_ptr()) }
    }

    #[inline(always)]
    fn mul_add(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: a value of this type exists only where the instructions are there.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn sums(self, [a, b, c, d]: [__m512; GROUP]) -> [f32; GROUP] {
        let mut sums = [0.0; GROUP];
        // SAFETY: a value of this type exists only where the instructions are there.
        unsafe {
            let ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
            let cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
            // In each quarter: sums over that quarter of a, b, c, d.
            let low = _mm512_shuffle_ps::<0x44>(ab, cd);
            let quarters = _mm512_add_ps(low, _mm512_shuffle_ps::<0xee>(ab, cd));
            let swapped = _mm512_shuffle_f32x4::<0x4e>(quarters, quarters);
            let halves = _mm512_castps512_ps256(_mm512_add_ps(quarters, swapped));
            let all = _mm_add_ps(_mm256_castps256_ps128(halves), _mm256_extractf128_ps::<1>(halves));
            // `sums` has room for four floats.
            _mm_storeu_ps(sums.as_mut_ptr(), all);
        }
        sums
    }

    #[inline(always)]
    fn load_pairs(self, from: &[[bf16; 2]; N]) -> __m512i {
        // SAFETY: the reference covers what the unaligned access takes; a value of this type exists only
        // where the instructions are there.
        unsafe { _mm512_loadu_si512(from.as_ptr().cast()) }
    }

    #[inline(always)]
    fn first(self, pairs: __m512i) -> __m512 {
        // SAFETY: a value of this type exists only where the instructions are there.
        unsafe { _mm512_castsi512_ps(_mm512_slli_epi32::<16>(pairs)) }
    }

    #[inline(always)]
    fn second(self, pairs: __m512i) -> __m512 {
        // SAFETY: a value of this type exists only where the instructions are there.
        unsafe { _mm512_castsi512_ps(_mm512_and_si512(pairs, _mm512_set1_epi32(0xffff_0000_u32 as i32))) }
    }
}
