//! One warp's product of packed tiles and activations: a 128-row chunk of a few tiles of 16 columns by a few fragments of 8 rows.
//!
//! The chunk goes by in four pairs of `mma.m16n8k16`. A pair takes 16 bytes of activations a lane and row fragment, in the order
//! [`icd_core::layout::k_order_lane16`]; the words of 4-bit codes are read for two pairs at once.

use crate::nvptx::{
    gemm_fragments::{Center, Scales, dequantize_w4, scale_fragment},
    ptx_builder::{Int, KernelBuilder, Var},
};
use icd_core::pack_format::{PackFormat, WeightFormat};

/// Row fragments up to which scales multiply f32 sums of a group instead of weights.
const SCALE_SUMS_UP_TO: u32 = 2;
const PAIRS: u32 = 4;
/// Bytes of codes for two pairs, and of dense weights for one instruction.
const LANE_PIECES: u32 = 512;

/// Where a warp's tiles lie and what it multiplies.
pub struct WarpProduct<'k, 'c> {
    /// Kernel under construction.
    pub k: &'k KernelBuilder<'c>,
    /// How tiles lie.
    pub format: &'k PackFormat,
    /// Tiles of 16 columns.
    pub n_tiles: u32,
    /// Fragments of 8 rows.
    pub m_frags: u32,
    /// Bytes from a tile to the next in shared memory.
    pub tile_stride: u32,
    /// Lane index.
    pub lane: Int<'c>,
}

impl<'c> WarpProduct<'_, 'c> {
    /// `acc[(tile * m_frags + fragment) * 4 ..][..4] += Wᵀ X ᵀ`, with the first tile at shared address `tiles` and `load_x(pair, fragment)` a lane's
    /// 16 bytes of activations.
    pub fn multiply(&self, tiles: Int<'c>, load_x: &dyn Fn(u32, u32) -> [Int<'c>; 4], acc: &[Var<'c>]) {
        match self.format.weight {
            WeightFormat::Dense => self.multiply_dense(tiles, load_x, acc),
            WeightFormat::W4 { .. } => self.multiply_w4(tiles, load_x, acc),
        }
    }

    fn step(&self, acc: &[Var<'c>], a: [Int<'c>; 4], x: &[[Int<'c>; 4]], step: u32) {
        let s = 2 * step as usize;
        for (b, fragment) in x.iter().zip(acc.chunks_exact(4)) {
            self.k.mma_m16n8k16(self.format.float, fragment, a, [b[s], b[s + 1]]);
        }
    }

    fn multiply_dense(&self, tiles: Int<'c>, load_x: &dyn Fn(u32, u32) -> [Int<'c>; 4], acc: &[Var<'c>]) {
        let at = self.k.add(tiles, self.k.shl_c(self.lane, 4));
        for pair in 0..PAIRS {
            let x: Vec<[Int; 4]> = (0..self.m_frags).map(|j| load_x(pair, j)).collect();
            for i in 0..self.n_tiles {
                for s in 0..2 {
                    let a = self.k.load_shared_16(at, i * self.tile_stride + (pair * 2 + s) * LANE_PIECES);
                    self.step(&acc[(i * self.m_frags * 4) as usize..], a, &x, s);
                }
            }
        }
    }

    fn multiply_w4(&self, tiles: Int<'c>, load_x: &dyn Fn(u32, u32) -> [Int<'c>; 4], acc: &[Var<'c>]) {
        let (k, float) = (self.k, self.format.float);
        let pairs_a_group = PAIRS / self.format.groups_per_tile() as u32;
        let scales_sums = self.m_frags <= SCALE_SUMS_UP_TO;
        let column = k.shr_c(self.lane, 2);
        let strips: Vec<Int> = (0..self.n_tiles).map(|i| k.add_c(tiles, i * self.tile_stride)).collect();
        let per_tile = (self.m_frags * 4) as usize;
        let partial = if scales_sums { k.float_vars(acc.len()) } else { acc.to_vec() };
        let (mut words, mut centers, mut scales) = (Vec::new(), Vec::new(), Vec::new());
        for pair in 0..PAIRS {
            let group = pair / pairs_a_group;
            if pair % 2 == 0 {
                let at = |s: &Int<'c>| k.load_shared_16(k.add(*s, k.shl_c(self.lane, 4)), pair / 2 * LANE_PIECES);
                words = strips.iter().map(at).collect::<Vec<[Int; 4]>>();
            }
            if pair % pairs_a_group == 0 {
                centers = strips.iter().map(|s| Center::load(k, self.format, *s, column, group)).collect();
                scales = strips.iter().map(|s| Scales::load(k, self.format, *s, column, group)).collect();
            }
            let x: Vec<[Int; 4]> = (0..self.m_frags).map(|j| load_x(pair, j)).collect();
            for (i, target) in partial.chunks_exact(per_tile).enumerate() {
                for s in 0..2 {
                    let word = words[i][(pair as usize % 2) * 2 + s as usize];
                    let mut a = dequantize_w4(k, float, word, centers[i]);
                    if !scales_sums {
                        a = scale_fragment(k, float, a, scales[i].pairs(k));
                    }
                    self.step(target, a, &x, s);
                }
            }
            if scales_sums && (pair + 1) % pairs_a_group == 0 {
                for (i, by) in scales.iter().enumerate() {
                    self.flush(&partial[i * per_tile..][..per_tile], &acc[i * per_tile..][..per_tile], by);
                }
            }
        }
    }

    /// `acc += scale * partial`, `partial = 0`.
    fn flush(&self, partial: &[Var<'c>], acc: &[Var<'c>], scales: &Scales<'c>) {
        let k = self.k;
        let by = scales.floats(k, self.format.float);
        for (z, (part, sum)) in partial.iter().zip(acc).enumerate() {
            k.set(*sum, k.fma(k.get_float(*part), by[(z >> 1) & 1], k.get_float(*sum)));
            k.set(*part, k.float(0.0));
        }
    }
}
