//! Which kernels the processor has, and which of them is in use.
//!
//! `unsafe` here: calling a function that is compiled for instructions beyond the baseline. A [`Level`] exists only for a
//! kernel whose instructions were found on this processor, and these calls need a `Level`.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;

use super::float::FloatType;
use super::packing::QUARTERS;
use super::portable;
use super::portable::TILE;

/// A set of instructions that products are written for. All give the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Kernel {
    /// Plain Rust, for every processor.
    Portable,
    /// AVX2 and F16C: Intel since Haswell (2013), AMD since Excavator and Zen.
    Avx2,
    /// AVX-512 with VNNI (F, BW, VL and VNNI): Intel since Ice Lake, AMD since Zen 4.
    Avx512Vnni,
}

impl Kernel {
    /// All kernels, the slowest first.
    pub const ALL: [Self; 3] = [Self::Portable, Self::Avx2, Self::Avx512Vnni];

    /// Whether this processor has the instructions.
    #[must_use]
    pub fn is_supported(self) -> bool {
        match self {
            Self::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("f16c"),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Vnni => {
                Self::Avx2.is_supported()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512vnni")
            }
            #[cfg(not(target_arch = "x86_64"))]
            _ => false,
        }
    }

    /// The kernels that this processor has, the slowest first.
    pub fn supported() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|kernel| kernel.is_supported())
    }

    /// The fastest kernel that this processor has.
    #[must_use]
    pub fn best() -> Self {
        Level::best().0
    }

    /// Computes the products that this thread begins in `f` with this kernel, or with the fastest one if the processor lacks
    /// it.
    pub fn in_scope<R>(self, f: impl FnOnce() -> R) -> R {
        Level::new(self).unwrap_or_else(Level::best).in_scope(f)
    }

    /// The name that [`FromStr`] reads.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Avx2 => "avx2",
            Self::Avx512Vnni => "avx512-vnni",
        }
    }
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Kernel {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|kernel| kernel.name() == name).ok_or_else(|| {
            format!("unknown kernel `{name}`, expected one of: {}", Self::ALL.map(Self::name).join(", "))
        })
    }
}

/// A kernel that this processor has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Level(Kernel);

thread_local! {
    static CURRENT: Cell<Option<Level>> = const { Cell::new(None) };
}

/// Calls the function of that name in the module of the level.
macro_rules! dispatch {
    ($level:expr, $portable:path, $avx2:path, $avx512:path, ($($argument:expr),* $(,)?)) => {
        match $level.0 {
            Kernel::Portable => $portable($($argument),*),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: a `Level` of this kernel exists only where its instructions were found.
            Kernel::Avx2 => unsafe { $avx2($($argument),*) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Kernel::Avx512Vnni => unsafe { $avx512($($argument),*) },
            #[cfg(not(target_arch = "x86_64"))]
            _ => $portable($($argument),*),
        }
    };
}

impl Level {
    /// `None` if this processor lacks the instructions.
    pub(crate) fn new(kernel: Kernel) -> Option<Self> {
        kernel.is_supported().then_some(Self(kernel))
    }

    pub(crate) fn best() -> Self {
        static BEST: OnceLock<Level> = OnceLock::new();
        *BEST.get_or_init(|| Self(Kernel::supported().last().unwrap_or(Kernel::Portable)))
    }

    /// The level of the innermost [`Self::in_scope`] on this thread, else the best.
    pub(crate) fn current() -> Self {
        CURRENT.get().unwrap_or_else(Self::best)
    }

    /// Computes the products that this thread begins in `f` with this kernel.
    pub(crate) fn in_scope<R>(self, f: impl FnOnce() -> R) -> R {
        struct Restore(Option<Level>);
        impl Drop for Restore {
            fn drop(&mut self) {
                CURRENT.set(self.0);
            }
        }
        let _restore = Restore(CURRENT.replace(Some(self)));
        f()
    }

    pub(crate) fn kernel(self) -> Kernel {
        self.0
    }

    /// Sums of the codes of packed rows times one token's activations; see [`portable::blocks`].
    pub(super) fn blocks<const MSB: bool>(
        self,
        row_bytes: usize,
        step: usize,
        data: &[u8],
        activations: &[i8],
        sums: &mut [i32],
    ) {
        dispatch!(
            self,
            portable::blocks::<MSB>,
            super::avx2::blocks::<MSB>,
            super::avx512::blocks::<MSB>,
            (row_bytes, step, data, activations, sums)
        );
    }

    /// The same for rows a quarter of the matrix apart; see [`portable::quarters`].
    pub(super) fn quarters(self, columns: usize, data: &[u8], activations: &[i8], sums: [&mut [i32]; QUARTERS]) {
        dispatch!(
            self,
            portable::quarters,
            super::avx2::quarters,
            super::avx512::quarters,
            (columns, data, activations, sums)
        );
    }

    /// The same for rows in base 3; see [`portable::base3`].
    pub(super) fn base3(self, row_bytes: usize, data: &[u8], activations: &[i8], sums: &mut [i32]) {
        dispatch!(
            self,
            portable::base3,
            super::avx2::base3,
            super::avx512::base3,
            (row_bytes, data, activations, sums)
        );
    }

    /// Sums of codes times activations, four rows of unpacked codes by up to four tokens; see [`portable::tile`].
    pub(super) fn tile(self, codes: &[u8], activations: &[i8], stride: usize, sums: &mut [[i32; TILE]; TILE]) {
        dispatch!(self, portable::tile, super::avx2::tile, super::avx512::tile, (codes, activations, stride, sums));
    }

    /// Dot products of float rows; see [`portable::float_rows`].
    pub(super) fn float_rows(self, dtype: FloatType, data: &[u8], stride: usize, x: &[f32], out: &mut [f32]) {
        dispatch!(
            self,
            portable::float_rows,
            super::avx2_float::rows,
            super::avx512_float::rows,
            (dtype, data, stride, x, out)
        );
    }

    /// Dot products of `x` with rows of floats that begin `stride` apart; see [`portable::dot_rows`].
    pub(crate) fn dot_rows(self, rows: &[f32], stride: usize, x: &[f32], out: &mut [f32]) {
        dispatch!(
            self,
            portable::dot_rows,
            super::avx2_float::dot_rows,
            super::avx512_float::dot_rows,
            (rows, stride, x, out)
        );
    }

    /// Dot products of four widened rows and up to four tokens; see [`portable::float_tile`].
    pub(super) fn float_tile(self, rows: &[f32], tokens: &[f32], stride: usize, sums: &mut [[f32; TILE]; TILE]) {
        dispatch!(
            self,
            portable::float_tile,
            super::avx2_float::tile,
            super::avx512_float::tile,
            (rows, tokens, stride, sums)
        );
    }

    /// `out[d] += weights[j] * rows[j * stride + d]`, `j` in order; see [`portable::weighted_sum`].
    pub(crate) fn weighted_sum(self, weights: &[f32], rows: &[f32], stride: usize, out: &mut [f32]) {
        dispatch!(
            self,
            portable::weighted_sum,
            super::avx2_float::weighted_sum,
            super::avx512_float::weighted_sum,
            (weights, rows, stride, out)
        );
    }
}
