//! Eight numbers at once, in f64, with the same bits on every machine.
//!
//! A product is rounded before it is added, so that fused arithmetic, where there is any, changes no bit.

use std::array::from_fn;

/// Numbers worked on at once, and independent partial sums of an inner product.
pub(crate) const LANES: usize = 8;

/// One number a lane.
pub(crate) type Lanes = [f64; LANES];

/// How a machine works on all lanes. What it takes and gives is inlined, or it is not fast.
pub(crate) trait Wide: Copy {
    /// All lanes as the machine holds them.
    type Vector: Copy;
    fn load(self, from: &Lanes) -> Self::Vector;
    fn widen(self, from: &[f32; LANES]) -> Self::Vector;
    fn store(self, from: Self::Vector) -> Lanes;
    fn narrow(self, from: Self::Vector) -> [f32; LANES];
    fn splat(self, value: f64) -> Self::Vector;
    fn add(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    fn sub(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    fn mul(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;

    /// Asks for values that are about to be read to be brought near; nothing where that cannot be asked.
    #[inline(always)]
    fn fetch<T>(self, values: &[T]) {
        let _ = values;
    }
}

/// A number that rows are made of.
pub(crate) trait Number: Copy + Send + Sync + 'static {
    const ZERO: Self;
    fn widen(self) -> f64;
    fn narrow(wide: f64) -> Self;
    fn load<S: Wide>(simd: S, from: &[Self; LANES]) -> S::Vector;
    fn store<S: Wide>(simd: S, from: S::Vector) -> [Self; LANES];
}

impl Number for f32 {
    const ZERO: Self = 0.0;

    #[inline(always)]
    fn widen(self) -> f64 {
        f64::from(self)
    }

    #[inline(always)]
    fn narrow(wide: f64) -> Self {
        wide as f32
    }

    #[inline(always)]
    fn load<S: Wide>(simd: S, from: &[Self; LANES]) -> S::Vector {
        simd.widen(from)
    }

    #[inline(always)]
    fn store<S: Wide>(simd: S, from: S::Vector) -> [Self; LANES] {
        simd.narrow(from)
    }
}

impl Number for f64 {
    const ZERO: Self = 0.0;

    #[inline(always)]
    fn widen(self) -> f64 {
        self
    }

    #[inline(always)]
    fn narrow(wide: f64) -> Self {
        wide
    }

    #[inline(always)]
    fn load<S: Wide>(simd: S, from: &[Self; LANES]) -> S::Vector {
        simd.load(from)
    }

    #[inline(always)]
    fn store<S: Wide>(simd: S, from: S::Vector) -> [Self; LANES] {
        simd.store(from)
    }
}

/// Work that is to be done on the lanes of whatever machine there is; `on` must be inlined.
pub(crate) trait Work {
    fn on<S: Wide>(self, simd: S);
}

/// Does the work with the best instructions of this machine.
pub(crate) fn work(work: impl Work) {
    #[cfg(target_arch = "x86_64")]
    if let Some(simd) = pulp::x86::V3::try_new() {
        return simd.vectorize(avx2::Inlined { work, simd });
    }
    work.on(Portable);
}

/// Arrays, of which the compiler makes what the target has for certain.
#[derive(Clone, Copy)]
pub(crate) struct Portable;

impl Wide for Portable {
    type Vector = Lanes;

    #[inline(always)]
    fn load(self, from: &Lanes) -> Lanes {
        *from
    }

    #[inline(always)]
    fn widen(self, from: &[f32; LANES]) -> Lanes {
        from.map(f64::from)
    }

    #[inline(always)]
    fn store(self, from: Lanes) -> Lanes {
        from
    }

    #[inline(always)]
    fn narrow(self, from: Lanes) -> [f32; LANES] {
        from.map(|wide| wide as f32)
    }

    #[inline(always)]
    fn splat(self, value: f64) -> Lanes {
        [value; LANES]
    }

    #[inline(always)]
    fn add(self, a: Lanes, b: Lanes) -> Lanes {
        from_fn(|lane| a[lane] + b[lane])
    }

    #[inline(always)]
    fn sub(self, a: Lanes, b: Lanes) -> Lanes {
        from_fn(|lane| a[lane] - b[lane])
    }

    #[inline(always)]
    fn mul(self, a: Lanes, b: Lanes) -> Lanes {
        from_fn(|lane| a[lane] * b[lane])
    }
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::_MM_HINT_T1;

    use pulp::x86::V3;
    use pulp::{NullaryFnOnce, cast, f32x4, f64x4};

    use super::{LANES, Lanes, Wide, Work};

    pub(super) struct Inlined<W> {
        pub(super) work: W,
        pub(super) simd: V3,
    }

    impl<W: Work> NullaryFnOnce for Inlined<W> {
        type Output = ();

        #[inline(always)]
        fn call(self) {
            self.work.on(self.simd);
        }
    }

    /// Bytes that come from memory together.
    const LINE: usize = 64;

    impl Wide for V3 {
        type Vector = [f64x4; 2];

        #[inline(always)]
        fn fetch<T>(self, values: &[T]) {
            for line in values.chunks(const { LINE / size_of::<T>() }) {
                self.sse._mm_prefetch::<_MM_HINT_T1>(line.as_ptr().cast());
            }
        }

        #[inline(always)]
        fn load(self, from: &Lanes) -> [f64x4; 2] {
            cast(*from)
        }

        #[inline(always)]
        fn widen(self, from: &[f32; LANES]) -> [f64x4; 2] {
            let [low, high]: [f32x4; 2] = cast(*from);
            [self.convert_f32x4_to_f64x4(low), self.convert_f32x4_to_f64x4(high)]
        }

        #[inline(always)]
        fn store(self, from: [f64x4; 2]) -> Lanes {
            cast(from)
        }

        #[inline(always)]
        fn narrow(self, [low, high]: [f64x4; 2]) -> [f32; LANES] {
            cast([self.convert_f64x4_to_f32x4(low), self.convert_f64x4_to_f32x4(high)])
        }

        #[inline(always)]
        fn splat(self, value: f64) -> [f64x4; 2] {
            [self.splat_f64x4(value); 2]
        }

        #[inline(always)]
        fn add(self, a: [f64x4; 2], b: [f64x4; 2]) -> [f64x4; 2] {
            [self.add_f64x4(a[0], b[0]), self.add_f64x4(a[1], b[1])]
        }

        #[inline(always)]
        fn sub(self, a: [f64x4; 2], b: [f64x4; 2]) -> [f64x4; 2] {
            [self.sub_f64x4(a[0], b[0]), self.sub_f64x4(a[1], b[1])]
        }

        #[inline(always)]
        fn mul(self, a: [f64x4; 2], b: [f64x4; 2]) -> [f64x4; 2] {
            [self.mul_f64x4(a[0], b[0]), self.mul_f64x4(a[1], b[1])]
        }
    }
}
