//! Epilogue shared by the GEMM families: partial sums of the warps that split `k` meet in shared memory, then bias, activation, residual and one
//! rounding, written in whole 16-byte pieces.
//!
//! ```text
//! shared: sums[row 0..rows][column 0..cols + 4]  f32, one such array a source
//! ```
//!
//! A gated epilogue reads eight columns of the gate and the eight of the factor behind them in the same thread; a split one picks the output that a
//! column belongs to.
//!
//! Four columns of padding make the fragment-order writes free of bank conflicts, and the row-order reads too when the columns are 16 or a
//! multiple of 32 (tested).

use crate::nvptx::{
    gemm::ParamIndex,
    ptx_builder::{Float, Int, KernelBuilder, Var},
};
use icd_core::{
    DType,
    pack_format::TILE_N,
    problem::{Activation, GATED_RUN, GemmProblem},
};

/// Floats of padding a row of sums.
const PAD: u32 = 4;
/// Columns of a gate that a thread takes at once, at most: it takes as many of the factor.
const GATED_WIDTH: u32 = 4;
const LOG2_E: f32 = std::f32::consts::LOG2_E;

/// Shape of an array of sums in shared memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SumTile {
    /// Rows of the output.
    pub rows: u32,
    /// Columns of the output, a multiple of 16.
    pub cols: u32,
}

impl SumTile {
    /// Floats from one row to the next.
    pub const fn pitch(self) -> u32 {
        self.cols + PAD
    }
    /// Shared memory that the sums take.
    pub const fn bytes(self) -> u32 {
        self.rows * self.pitch() * 4
    }
    /// Byte offset of a sum.
    pub const fn at(self, row: u32, col: u32) -> u32 {
        (row * self.pitch() + col) * 4
    }
}

/// Addresses and sizes that the epilogue needs.
pub struct Destination<'c> {
    /// Outputs, in the order of the problem's split; one if it has none.
    pub outputs: Vec<Int<'c>>,
    /// Bias, if the problem has one.
    pub bias: Option<Int<'c>>,
    /// Residual, if the problem has one.
    pub residual: Option<Int<'c>>,
    /// f32 scales of rows, if the problem has them.
    pub row_scales: Option<Int<'c>>,
    /// f32 scales of columns, if the problem has them.
    pub column_scales: Option<Int<'c>>,
    /// The block's part.
    pub corner: Corner<'c>,
}

/// Where a block's part of the output begins and ends.
#[derive(Clone, Copy)]
pub struct Corner<'c> {
    /// First row that is not the block's.
    pub rows: Int<'c>,
    /// First row.
    pub row0: Int<'c>,
    /// First column.
    pub col0: Int<'c>,
    /// First column that is not the block's.
    pub col_end: Int<'c>,
}

impl<'c> Destination<'c> {
    /// The kernel's own output parameters, for one part of the output.
    pub(crate) fn new(k: &KernelBuilder<'c>, index: &ParamIndex, corner: Corner<'c>) -> Self {
        Self {
            outputs: index.outputs.clone().map(|i| k.param_address(i)).collect(),
            bias: index.bias.map(|i| k.param_address(i)),
            residual: index.residual.map(|i| k.param_address(i)),
            row_scales: index.row_scales.map(|i| k.param_address(i)),
            column_scales: index.column_scales.map(|i| k.param_address(i)),
            corner,
        }
    }
}

/// Who runs the epilogue: this thread's index among `threads`, each storing `width` elements at once.
#[derive(Clone, Copy)]
pub struct Workers<'c> {
    /// Index of this thread.
    pub thread: Int<'c>,
    /// How many threads.
    pub threads: u32,
    /// Elements a store, as [`vector`] allows.
    pub width: u32,
}

/// Most elements, up to `wanted`, that a thread can store at once.
pub fn vector(problem: &GemmProblem, wanted: u32) -> u32 {
    let most = if problem.epilogue.gated { GATED_WIDTH } else { 16 };
    let widest = (16 / problem.out.bytes() as u32).min(wanted).min(most);
    let mut rows = problem.epilogue.split.columns().chain([problem.output_columns()]);
    if rows.all(|columns| (columns as u32).is_multiple_of(widest)) { widest } else { 1 }
}

/// `activation(x)` in f32, absolute error at most 2e-7 times the larger of 1 and |x|.
pub fn activate<'c>(k: &KernelBuilder<'c>, activation: Activation, x: Float<'c>) -> Float<'c> {
    let sigmoid = |v: Float<'c>| {
        let e = k.exp2(k.fmul(v, k.float(-LOG2_E)));
        k.reciprocal(k.fadd(k.float(1.0), e))
    };
    match activation {
        Activation::None => x,
        Activation::Relu => k.max(x, k.float(0.0)),
        Activation::Silu => k.fmul(x, sigmoid(x)),
        Activation::GeluTanh => {
            let cubic = k.fma(k.fmul(k.fmul(x, x), x), k.float(0.044715), x);
            k.fmul(x, sigmoid(k.fmul(cubic, k.float(2.0 * 0.797_884_6))))
        }
        Activation::GeluErf => gelu_erf(k, x),
    }
}

/// `max(x, 0) - |x| erfc(|x| / sqrt 2) / 2` with erfc from Abramowitz and Stegun 7.1.26 (absolute error 1.5e-7).
fn gelu_erf<'c>(k: &KernelBuilder<'c>, x: Float<'c>) -> Float<'c> {
    const P: f32 = 0.327_591_1;
    const COEFFICIENTS: [f32; 5] = [1.061_405_4, -1.453_152, 1.421_413_7, -0.284_496_74, 0.254_829_6];
    const BEYOND: f32 = 20.0;
    let size = k.abs(x);
    let size = k.select_float(k.fless(k.float(BEYOND), size), k.float(BEYOND), size);
    let z = k.fmul(size, k.float(std::f32::consts::FRAC_1_SQRT_2));
    let t = k.reciprocal(k.fma(z, k.float(P), k.float(1.0)));
    let poly = COEFFICIENTS[1..].iter().fold(k.float(COEFFICIENTS[0]), |acc, c| k.fma(acc, t, k.float(*c)));
    let tail = k.fmul(k.fmul(poly, t), k.exp2(k.fmul(k.fmul(z, z), k.float(-LOG2_E))));
    k.fsub(k.max(x, k.float(0.0)), k.fmul(k.fmul(size, k.float(0.5)), tail))
}

/// Writes one accumulator fragment of 16 columns by 8 rows, with the columns of each half multiplied by a scale if any: `address` is that of the
/// lane's first element (row `2 (lane % 4)`, column `lane / 4`).
pub fn store_fragment<'c>(
    k: &KernelBuilder<'c>,
    tile: SumTile,
    address: Int<'c>,
    row: u32,
    col: u32,
    acc: &[Var<'c>],
    scales: Option<[Float<'c>; 2]>,
) {
    for (z, var) in acc.iter().enumerate() {
        let (z_row, z_col) = (z as u32 & 1, z as u32 >> 1);
        let sum = k.get_number(*var);
        let value = scales.map_or(sum, |s| k.fmul(sum, s[z_col as usize]));
        k.store_shared_float(address, tile.at(row + z_row, col + 8 * z_col), value);
    }
}

/// Adds up `sources` (addresses of arrays of sums, in this order) and stores the block's part of the output, shared out among `workers`.
pub fn finish_tile<'c>(
    k: &KernelBuilder<'c>,
    problem: &GemmProblem,
    tile: SumTile,
    sources: &[Int<'c>],
    to: &Destination<'c>,
    workers: Workers<'c>,
) {
    let Workers { thread, threads, width } = workers;
    let is_gated = problem.epilogue.gated;
    let across = tile.cols / width / if is_gated { 2 } else { 1 };
    k.for_range(thread, k.int(tile.rows * across), k.int(threads), |piece| {
        let row = spread_rows(k, tile, is_gated, k.div_c(piece, across));
        let within = k.mul_c(k.rem_c(piece, across), width);
        let col = if is_gated { k.add(within, k.and_c(within, !(GATED_RUN as u32 - 1))) } else { within };
        let (m, column) = (k.add(to.corner.row0, row), k.add(to.corner.col0, col));
        k.when(k.and(k.less(m, to.corner.rows), k.less(column, to.corner.col_end)), || {
            let offset = k.shl_c(k.add(k.mul_c(row, tile.pitch()), col), 2);
            let finish = Finish { k, problem, to, m, width };
            if is_gated {
                let [gates, factors] = add_gated_sources(k, sources, offset, col, width);
                let place = finish.place(k.add(k.shr_c(to.corner.col0, 1), within));
                let gates = finish.activated(finish.scaled(gates, column));
                let factors = finish.scaled(factors, k.add_c(column, GATED_RUN as u32));
                finish.store(gates.into_iter().zip(factors).map(|(g, f)| k.fmul(g, f)).collect(), place);
            } else {
                let sums = add_sources(k, sources, offset, col, width);
                let place = finish.place(column);
                finish.store(finish.activated(finish.scaled(sums, column)), place);
            }
        });
    });
}

/// Neighbouring sums of row `m` on their way to the output.
struct Finish<'k, 'c> {
    k: &'k KernelBuilder<'c>,
    problem: &'k GemmProblem,
    to: &'k Destination<'c>,
    m: Int<'c>,
    width: u32,
}

impl<'c> Finish<'_, 'c> {
    /// With scales and bias, from column `column` of the weights on.
    fn scaled(&self, mut values: Vec<Float<'c>>, column: Int<'c>) -> Vec<Float<'c>> {
        let (k, to, width) = (self.k, self.to, self.width);
        if let Some(scales) = to.row_scales {
            let by = load_vector(k, DType::F32, scales, k.to_long(self.m), 1);
            values = values.into_iter().map(|v| k.fmul(v, by[0])).collect();
        }
        if let Some(scales) = to.column_scales {
            let by = load_vector(k, DType::F32, scales, k.to_long(column), width);
            values = values.into_iter().zip(by).map(|(v, by)| k.fmul(v, by)).collect();
        }
        if let Some(bias) = to.bias {
            let terms = load_vector(k, self.problem.bias_type(), bias, k.to_long(column), width);
            values = values.into_iter().zip(terms).map(|(v, b)| k.fadd(v, b)).collect();
        }
        values
    }

    fn activated(&self, values: Vec<Float<'c>>) -> Vec<Float<'c>> {
        values.into_iter().map(|v| activate(self.k, self.problem.epilogue.activation, v)).collect()
    }

    /// Adds the residual and stores.
    fn store(&self, mut values: Vec<Float<'c>>, (y, index): (Int<'c>, Int<'c>)) {
        let (k, problem) = (self.k, self.problem);
        if let Some(residual) = self.to.residual {
            let terms = load_vector(k, problem.residual_type(), residual, index, self.width);
            values = values.into_iter().zip(terms).map(|(v, b)| k.fadd(v, b)).collect();
        }
        store_vector(k, problem.out, y, index, &values);
    }

    /// Address of the output that column `column` of all outputs belongs to, and index within it.
    fn place(&self, column: Int<'c>) -> (Int<'c>, Int<'c>) {
        let k = self.k;
        let (y, pitch, column) = output_of(k, self.problem, self.to, column);
        (y, k.add(k.mul(k.to_long(self.m), pitch), k.to_long(column)))
    }
}

/// Address, columns, and column within it, of the output that a column belongs to.
pub fn output_of<'c>(k: &KernelBuilder<'c>, problem: &GemmProblem, to: &Destination<'c>, column: Int<'c>) -> (Int<'c>, Int<'c>, Int<'c>) {
    let mut found = (to.outputs[0], k.long(problem.output_columns() as u64), column);
    let mut start = 0;
    for (y, columns) in to.outputs.iter().zip(problem.epilogue.split.columns()) {
        let pitch = k.long(columns as u64);
        found = match start {
            0 => (*y, pitch, column),
            _ => {
                let is_before = k.less_c(column, start);
                let within = k.sub(column, k.int(start));
                (k.select(is_before, found.0, *y), k.select(is_before, found.1, pitch), k.select(is_before, found.2, within))
            }
        };
        start += columns as u32;
    }
    found
}

/// The order in which rows are read, where a row of sums is so short that neighbouring rows share banks: the number's low three bits are rotated, one way
/// for rows of 16 columns, the other for the pairs of reads of a gated epilogue.
fn spread_rows<'c>(k: &KernelBuilder<'c>, tile: SumTile, is_gated: bool, row: Int<'c>) -> Int<'c> {
    let low = k.and_c(row, 7);
    match is_gated {
        true if !tile.cols.is_multiple_of(64) && tile.rows.is_multiple_of(8) => {
            k.add(k.sub(row, low), k.or(k.shl_c(k.and_c(low, 3), 1), k.shr_c(low, 2)))
        }
        false if tile.cols == TILE_N as u32 => k.add(k.sub(row, low), k.add(k.shl_c(k.and_c(low, 1), 2), k.shr_c(low, 1))),
        _ => row,
    }
}

/// Sums at `offset` of each source, added. Eight columns take two reads of 16 bytes; columns 32 and more on in each 64 do the second one first, so
/// that eight lanes always meet all banks.
fn add_sources<'c>(k: &KernelBuilder<'c>, sources: &[Int<'c>], offset: Int<'c>, col: Int<'c>, width: u32) -> Vec<Float<'c>> {
    let second_first = k.shr_c(k.and_c(col, 32), 1);
    let load = |source: &Int<'c>| -> Vec<Float<'c>> {
        let at = k.add(*source, offset);
        match width {
            1 | 2 | 4 => read(k, at, width),
            _ => read_both(k, at, 16, second_first, 4).concat(),
        }
    };
    let all: Vec<Vec<Float>> = sources.iter().map(load).collect();
    all.into_iter().reduce(|sum, more| add(k, sum, more)).unwrap_or_default()
}

/// Sums of a gate at `offset` of each source, added, and those of its factor; in the order of [`add_sources`].
fn add_gated_sources<'c>(k: &KernelBuilder<'c>, sources: &[Int<'c>], offset: Int<'c>, col: Int<'c>, width: u32) -> [Vec<Float<'c>>; 2] {
    let second_first = k.and_c(col, 32);
    let load = |source: &Int<'c>| read_both(k, k.add(*source, offset), 4 * GATED_RUN as u32, second_first, width);
    let all: Vec<[Vec<Float>; 2]> = sources.iter().map(load).collect();
    all.into_iter().reduce(|[a, b], [c, d]| [add(k, a, c), add(k, b, d)]).unwrap_or_default()
}

fn add<'c>(k: &KernelBuilder<'c>, a: Vec<Float<'c>>, b: Vec<Float<'c>>) -> Vec<Float<'c>> {
    a.into_iter().zip(b).map(|(a, b)| k.fadd(a, b)).collect()
}

/// `width` (1, 2 or 4) sums.
fn read<'c>(k: &KernelBuilder<'c>, at: Int<'c>, width: u32) -> Vec<Float<'c>> {
    let floats = |words: &[Int<'c>]| words.iter().map(|v| k.as_float(*v)).collect();
    match width {
        1 => floats(&[k.load_shared_4(at, 0)]),
        2 => floats(&k.load_shared_8(at, 0)),
        _ => floats(&k.load_shared_16(at, 0)),
    }
}

/// Sums at `at` and `distance` bytes on, the second ones first where `second_first` is that distance and not zero.
fn read_both<'c>(k: &KernelBuilder<'c>, at: Int<'c>, distance: u32, second_first: Int<'c>, width: u32) -> [Vec<Float<'c>>; 2] {
    let one = read(k, k.add(at, second_first), width);
    let other = read(k, k.sub(k.add_c(at, distance), second_first), width);
    let is_swapped = k.equal_c(second_first, distance);
    let pick = |a: &[Float<'c>], b: &[Float<'c>]| a.iter().zip(b).map(|(a, b)| k.select_float(is_swapped, *b, *a)).collect();
    [pick(&one, &other), pick(&other, &one)]
}

/// `width` numbers from element `index` of a vector on.
pub fn load_vector<'c>(k: &KernelBuilder<'c>, dtype: DType, base: Int<'c>, index: Int<'c>, width: u32) -> Vec<Float<'c>> {
    let bytes = dtype.bytes() as u32;
    let address = k.add(base, k.mul_c(index, bytes));
    let total = width * bytes;
    let words: Vec<Int> = (0..total.div_ceil(16)).flat_map(|q| k.load_global(k.add_c(address, 16 * q), total.min(16))).collect();
    match (dtype, width) {
        (DType::F32, _) => words.into_iter().map(|w| k.as_float(w)).collect(),
        (_, 1) => words.into_iter().map(|w| k.widen_low(dtype, w)).collect(),
        _ => words.into_iter().flat_map(|w| [k.widen_low(dtype, w), k.widen_high(dtype, w)]).collect(),
    }
}

fn store_vector<'c>(k: &KernelBuilder<'c>, dtype: DType, base: Int<'c>, index: Int<'c>, values: &[Float<'c>]) {
    let bytes = dtype.bytes() as u32;
    let address = k.add(base, k.mul_c(index, bytes));
    let words: Vec<Int> = match (dtype, values) {
        (DType::F32, _) => values.iter().map(|v| k.as_int(*v)).collect(),
        (_, [one]) => vec![k.pack_pair(dtype, *one, k.float(0.0))],
        _ => values.chunks_exact(2).map(|p| k.pack_pair(dtype, p[0], p[1])).collect(),
    };
    let total = values.len() as u32 * bytes;
    for (q, piece) in words.chunks(4).enumerate() {
        k.store_global(k.add_c(address, 16 * q as u32), piece, total.min(16));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use icd_core::layout::bank_conflicts;

    #[test]
    fn sums_are_written_without_bank_conflicts() {
        for cols in (16..=256).step_by(16) {
            let tile = SumTile { rows: 8, cols };
            let write = |lane: u64| u64::from(tile.at(2 * (lane as u32 & 3), lane as u32 >> 2));
            assert!(bank_conflicts(write, 4).is_conflict_free(), "{cols}");
        }
    }

    /// The place that lane `lane` reads first of a gate and its factor, `width` of each a lane, both times in turn.
    fn gated_reads(tile: SumTile, width: u32, lane: u32, is_second: bool) -> u32 {
        let across = tile.cols / width / 2;
        let (row, within) = (lane / across, lane % across * width);
        let row =
            if tile.cols.is_multiple_of(64) || !tile.rows.is_multiple_of(8) { row } else { (row & !7) + ((row & 3) << 1) + (row >> 2 & 1) };
        let col = within + (within & !7);
        tile.at(row, col) + if (col & 32 > 0) != is_second { 32 } else { 0 }
    }

    /// Fragments of a gated product through shared memory, lane by lane: every output once, of its own gate and factor.
    #[test]
    fn gates_meet_their_factors() {
        for (rows, cols) in [(8, 16), (16, 48), (40, 32), (24, 64), (43, 128)] {
            let tile = SumTile { rows, cols };
            let name = |row: u32, col: u32| row * 1000 + col;
            let mut sums = vec![u32::MAX; tile.bytes() as usize / 4];
            for (row8, col16) in (0..rows.div_ceil(8)).flat_map(|r| (0..cols / 16).map(move |c| (8 * r, 16 * c))) {
                for (lane, z) in (0..32).flat_map(|lane| (0..4).map(move |z| (lane, z))) {
                    let (row, col) = (row8 + 2 * (lane & 3) + (z & 1), col16 + (lane >> 2) + 8 * (z >> 1));
                    if row < rows {
                        sums[tile.at(row, col) as usize / 4] = name(row, col);
                    }
                }
            }
            for width in [2, 4] {
                let mut stored = vec![false; (rows * cols / 2) as usize];
                for piece in 0..rows * (cols / width / 2) {
                    for j in 0..width {
                        let [first, second] = [false, true].map(|s| sums[gated_reads(tile, width, piece, s) as usize / 4 + j as usize]);
                        let (gate, factor) = (first.min(second), first.max(second));
                        assert_eq!((gate + 8, gate % 1000 & 8), (factor, 0), "{rows} x {cols}");
                        let output = gate / 1000 * (cols / 2) + gate % 1000 / 16 * 8 + gate % 1000 % 8;
                        assert!(!std::mem::replace(&mut stored[output as usize], true));
                    }
                }
                assert!(stored.iter().all(|s| *s));
            }
        }
    }

    #[test]
    fn gates_and_factors_are_read_without_bank_conflicts() {
        for cols in std::iter::once(16).chain((32..=256).step_by(32)) {
            let tile = SumTile { rows: 64, cols };
            for (width, is_second) in [(4, false), (4, true), (2, false), (2, true)] {
                for first in (0..tile.rows * cols / width / 2 - 31).step_by(32) {
                    let read = |lane: u64| u64::from(gated_reads(tile, width, first + lane as u32, is_second));
                    assert!(bank_conflicts(read, 4 * u64::from(width)).is_conflict_free(), "{cols} columns, {width} a lane, from {first}");
                }
            }
        }
    }

    /// The place that lane `lane` reads first of two (or at once), for eight or four columns a lane.
    fn reads(tile: SumTile, width: u32, lane: u32) -> u32 {
        let across = tile.cols / width;
        let (row, col) = (lane / across, lane % across * width);
        let row = if tile.cols == 16 { (row & !7) + ((row & 1) << 2) + (row >> 1 & 3) } else { row };
        tile.at(row, col) + if width == 8 { (col & 32) >> 1 } else { 0 }
    }

    #[test]
    fn sums_are_read_without_bank_conflicts() {
        for cols in std::iter::once(16).chain((32..=256).step_by(32)) {
            let tile = SumTile { rows: 64, cols };
            for width in [4, 8] {
                for first in (0..tile.rows * cols / width - 31).step_by(32) {
                    let read = |lane: u64| u64::from(reads(tile, width, first + lane as u32));
                    assert!(bank_conflicts(read, 16).is_conflict_free(), "{cols} columns, {width} a lane, from {first}");
                }
            }
        }
    }
}
