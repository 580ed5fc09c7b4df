//! AVX2 and FMA: 8 floats in each of 16 registers.

use std::arch::x86_64::*;

use half::bf16;

use super::{GROUP, Lanes};

/// A processor with AVX2 and FMA.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Avx2(());

impl Avx2 {
    pub(crate) fn detect() -> Option<Self> {
        (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")).then_some(Self(()))
    }
}

const N: usize = 8;

impl Lanes<N> for Avx2 {
    const ROWS: usize = 2;
    type Floats = __m256;
    type Pairs = __m256i;

    #[inline(always)]
    fn enter<R>(self, work: impl FnOnce() -> R) -> R {
        #[target_feature(enable = "avx2,fma")]
        fn inner<R>(work: impl FnOnce() -> R) -> R {
            work()
        }
        // SAFETY: a value of this type exists only where AVX2 and FMA are there.
        unsafe { inner(work) }
    }

    #[inline(always)]
    fn splat(self, x: f32) -> __m256 {
        // SAFETY: a value of this type exists only where AVX2 and FMA are there.
        unsafe { _mm256_set1_ps(x) }
    }

    #[inline(always)]
    fn load(self, from: &[f32; N]) -> __m256 {
        // SAFETY: the reference covers what the unaligned access takes; a value of this type exists only
        // where AVX2 and FMA are there.
        unsafe { _mm256_loadu_ps(from.as_ptr()) }
    }

    #[inline(always)]
    fn mul_add(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        // SAFETY: a value of this type exists only where AVX2 and FMA are there.
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn sums(self, [a, b, c, d]: [__m256; GROUP]) -> [f32; GROUP] {
        let mut sums = [0.0; GROUP];
        // SAFETY: a value of this type exists only where AVX2 and FMA are there.
        unsafe {
            let ab = _mm256_add_ps(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
            let cd = _mm256_add_ps(_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
            // In each half: sums over that half of a, b, c, d.
            let low = _mm256_shuffle_ps::<0x44>(ab, cd);
            let halves = _mm256_add_ps(low, _mm256_shuffle_ps::<0xee>(ab, cd));
            let all = _mm_add_ps(_mm256_castps256_ps128(halves), _mm256_extractf128_ps::<1>(halves));
            // `sums` has room for four floats.
            _mm_storeu_ps(sums.as_mut_ptr(), all);
        }
        sums
    }

    #[inline(always)]
    fn load_pairs(self, from: &[[bf16; 2]; N]) -> __m256i {
        // SAFETY: the reference covers what the unaligned access takes; a value of this type exists only
        // where AVX2 and FMA are there.
        unsafe { _mm256_loadu_si256(from.as_ptr().cast()) }
    }

    #[inline(always)]
    fn first(self, pairs: __m256i) -> __m256 {
        // SAFETY: a value of this type exists only where AVX2 and FMA are there.
        unsafe { _mm256_castsi256_ps(_mm256_slli_epi32::<16>(pairs)) }
    }

    #[inline(always)]
    fn second(self, pairs: __m256i) -> __m256 {
        // SAFETY: a value of this type exists only where AVX2 and FMA are there.
        unsafe { _mm256_castsi256_ps(_mm256_and_si256(pairs, _mm256_set1_epi32(0xffff_0000_u32 as i32))) }
    }
}
