//! One warp's product of packed tiles and activations: a 128-row chunk of a few tiles of 16 columns by a few fragments of 8 rows.
//!
//! The chunk goes by in four pairs of `mma.m16n8k16`. A pair takes 16 bytes of activations a lane and row fragment, in the order
//! [`icd_core::layout::k_order_lane16`]; the words of 4-bit codes are read for two pairs at once.

use crate::nvptx::{
    gemm_fragments::{
        Center, SUBNORMAL_FACTORS, Scales, code_words, dequantize_codes, dequantize_w8, negative_centers, scale_fragment,
        subnormal_fragment, unit_fragment,
    },
    ptx_builder::{Float, Int, KernelBuilder, Var},
};
use icd_core::{
    DType,
    pack_format::{PackFormat, WeightFormat},
};
use std::cell::RefCell;

/// Fragments of a warp up to which scales multiply the f32 sums of a group instead of weights: they need as many registers again.
const SCALE_SUMS_UP_TO: u32 = 16;
const PAIRS: u32 = 4;
/// Bytes of dense weights for one instruction, and of 8-bit ones for two.
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
    /// Sums of the group of rows at hand; empty at first.
    pub partial: RefCell<Vec<Var<'c>>>,
}

impl<'c> WarpProduct<'_, 'c> {
    /// `acc[(tile * m_frags + fragment) * 4 ..][..4] += Wᵀ X ᵀ`, with the first tile at shared address `tiles` and `load_x(pair, fragment)` a lane's
    /// 16 bytes of activations.
    pub fn multiply(&self, tiles: Int<'c>, load_x: &dyn Fn(u32, u32) -> [Int<'c>; 4], acc: &[Var<'c>]) {
        match self.format.weight {
            WeightFormat::Dense => self.multiply_dense(tiles, load_x, acc),
            WeightFormat::W8 { dtype } => self.multiply_w8(dtype, tiles, load_x, acc),
            WeightFormat::W3 { .. } | WeightFormat::W4 { .. } => self.multiply_codes(tiles, load_x, acc),
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

    /// 8-bit elements become 16-bit ones exactly; the scales of their columns multiply the sums at the end.
    fn multiply_w8(&self, dtype: DType, tiles: Int<'c>, load_x: &dyn Fn(u32, u32) -> [Int<'c>; 4], acc: &[Var<'c>]) {
        let (k, float) = (self.k, self.format.float);
        let at = k.add(tiles, k.shl_c(self.lane, 4));
        for pair in 0..PAIRS {
            let x: Vec<[Int; 4]> = (0..self.m_frags).map(|j| load_x(pair, j)).collect();
            for i in 0..self.n_tiles {
                let words = k.load_shared_16(at, i * self.tile_stride + pair * LANE_PIECES);
                for (s, words) in words.chunks_exact(2).enumerate() {
                    let [low, high] = [words[0], words[1]].map(|word| dequantize_w8(k, float, dtype, word));
                    self.step(&acc[(i * self.m_frags * 4) as usize..], [low[0], low[1], high[0], high[1]], &x, s as u32);
                }
            }
        }
    }

    fn multiply_codes(&self, tiles: Int<'c>, load_x: &dyn Fn(u32, u32) -> [Int<'c>; 4], acc: &[Var<'c>]) {
        let k = self.k;
        let pairs_a_group = PAIRS / self.format.groups_per_tile() as u32;
        let strips: Vec<Int> = (0..self.n_tiles).map(|i| k.add_c(tiles, i * self.tile_stride)).collect();
        let per_tile = (self.m_frags * 4) as usize;
        let scales_sums = self.format.float == DType::F16 && self.n_tiles * self.m_frags <= SCALE_SUMS_UP_TO;
        let mut words = Vec::new();
        for pair in 0..PAIRS {
            if pair % 2 == 0 {
                let at = |s: &Int<'c>| code_words(k, self.format, *s, self.lane, pair / 2);
                words = strips.iter().map(at).collect::<Vec<[Int; 4]>>();
            }
            let x: Vec<[Int; 4]> = (0..self.m_frags).map(|j| load_x(pair, j)).collect();
            let group = Group { row: pair / pairs_a_group, begins: pair % pairs_a_group == 0, ends: (pair + 1) % pairs_a_group == 0 };
            let two: Vec<[Int; 2]> = words.iter().map(|w| std::array::from_fn(|s| w[(pair as usize % 2) * 2 + s])).collect();
            if scales_sums {
                self.pair_scaling_sums(&strips, &two, &x, group, acc, per_tile);
            } else {
                self.pair_scaling_weights(&strips, &two, &x, group.row, acc, per_tile);
            }
        }
    }

    fn pair_scaling_weights(
        &self,
        strips: &[Int<'c>],
        words: &[[Int<'c>; 2]],
        x: &[[Int<'c>; 4]],
        row: u32,
        acc: &[Var<'c>],
        per_tile: usize,
    ) {
        let (k, float, column) = (self.k, self.format.float, self.k.shr_c(self.lane, 2));
        for ((strip, words), target) in strips.iter().zip(words).zip(acc.chunks_exact(per_tile)) {
            let center = Center::load(k, self.format, *strip, column, row);
            let scales = Scales::load(k, self.format, *strip, column, row).pairs(k);
            for (s, word) in words.iter().enumerate() {
                let a = scale_fragment(k, float, dequantize_codes(k, self.format, *word, center), scales);
                self.step(target, a, x, s as u32);
            }
        }
    }

    fn pair_scaling_sums(
        &self,
        strips: &[Int<'c>],
        words: &[[Int<'c>; 2]],
        x: &[[Int<'c>; 4]],
        group: Group,
        acc: &[Var<'c>],
        per_tile: usize,
    ) {
        let k = self.k;
        let mut partial = self.partial.borrow_mut();
        if group.begins {
            *partial = k.float_vars(acc.len() + per_tile);
        }
        let (sums, units) = partial.split_at(acc.len());
        for s in 0..2 {
            self.step(units, unit_fragment(k), x, s);
            for (words, target) in words.iter().zip(sums.chunks_exact(per_tile)) {
                self.step(target, subnormal_fragment(k, self.format, words[s as usize]), x, s);
            }
        }
        if group.ends {
            let column = k.shr_c(self.lane, 2);
            for (i, strip) in strips.iter().enumerate() {
                let by = Scales::load(k, self.format, *strip, column, group.row).floats(k, self.format.float);
                let by: [Float; 2] = std::array::from_fn(|h| k.fmul(by[h], k.float(1.0 / SUBNORMAL_FACTORS[h])));
                let centers = negative_centers(k, self.format, *strip, column, group.row);
                for z in 0..per_tile {
                    let (half, sum) = ((z >> 1) & 1, acc[i * per_tile + z]);
                    let centered = k.fma(centers[half], k.get_float(units[z]), k.get_float(sums[i * per_tile + z]));
                    k.set(sum, k.fma(centered, by[half], k.get_float(sum)));
                }
            }
        }
    }
}

/// Place of a pair in its group of rows.
#[derive(Clone, Copy)]
struct Group {
    row: u32,
    begins: bool,
    ends: bool,
}
