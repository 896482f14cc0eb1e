//! Epilogue of a warpgroup without a gate: sums are finished and rounded in registers, turned by `stmatrix`, and written in rows of 64 columns.
//!
//! ```text
//! shared, a warpgroup: 32 rows of 128 bytes, 16-byte piece c of row r at c ^ (r & 7)
//! warp w writes columns 16 w.. of all rows;  thread t reads piece t % 8 of rows t / 8, t / 8 + 16
//! ```
//!
//! A residual of 16 bits goes the other way first: each warp puts its columns of 16 rows where its output will lie, and reads them turned
//! by `ldmatrix`. Loads are `AHEAD` times 16 rows ahead. Sums of 32 bits are turned as two planes of 16 bits, 16 rows at a time.

use crate::nvptx::{
    gemm::ParamIndex,
    gemm_epilogue::{Corner, Destination, activate, load_vector, output_of},
    gemm_warpgroup::{BLOCK_COLS, WARPGROUP},
    ptx_builder::{Float, Int, KernelBuilder, Var},
};
use icd_core::{DType, pack_format::TILE_N, problem::GemmProblem};
use std::collections::VecDeque;

/// Rows of 128 bytes that a warpgroup has room for.
const ROWS: u32 = 32;
/// Rows that a warp turns at a time.
const TURNED_ROWS: u32 = 16;
/// Loads of a residual that are under way at once.
const AHEAD: usize = 4;
/// Selectors that put the low and the high halves of two words beside each other.
const LOW_HALVES: u32 = 0x5410;
const HIGH_HALVES: u32 = 0x7632;
const ROW_BYTES: u32 = BLOCK_COLS * 2;
const PIECES: u32 = ROW_BYTES / 16;
const PIECE_COLS: u32 = 8;
/// Rows of an accumulator fragment.
const FRAGMENT_ROWS: u32 = 8;

/// Bytes of 16 rows: of a plane of 32-bit sums.
const PLANE_BYTES: u32 = TURNED_ROWS * ROW_BYTES;

/// Shared memory that a warpgroup needs.
pub const BYTES: u32 = ROWS * ROW_BYTES;

/// Whether the outputs of a problem can be written this way.
pub fn supports(problem: &GemmProblem) -> bool {
    let epilogue = &problem.epilogue;
    let is_residual_narrow = !epilogue.residual || epilogue.narrow_residual || problem.out.bytes() == 2;
    let mut columns = epilogue.split.columns().chain([problem.output_columns()]);
    !epilogue.gated && is_residual_narrow && columns.all(|columns| columns.is_multiple_of(PIECE_COLS as usize))
}

/// A warpgroup and the memory that it writes through.
pub struct TransposedStore<'k, 'c> {
    k: &'k KernelBuilder<'c>,
    problem: &'k GemmProblem,
    /// Number of the warpgroup in its block.
    group: Int<'c>,
    /// Thread index within the warpgroup.
    thread: Int<'c>,
    shared: Int<'c>,
}

/// The residual of the rows to come, 16 rows each; a lane has one piece.
struct Residual<'c> {
    base: Int<'c>,
    /// Rows that are loaded next.
    next: u32,
    loaded: VecDeque<[Int<'c>; 4]>,
}

/// What the columns `g` and `g + 8` of a warp, `g = lane / 4`, are still to be multiplied by and to be added.
struct Columns<'c> {
    factors: Vec<[Float<'c>; 2]>,
    bias: Option<[Float<'c>; 2]>,
}

impl<'k, 'c> TransposedStore<'k, 'c> {
    /// This thread's warpgroup, one of the first of the block; each has its own [`BYTES`] from `shared` on, a multiple of 16.
    pub fn new(k: &'k KernelBuilder<'c>, problem: &'k GemmProblem, shared: Int<'c>) -> Self {
        let thread = k.thread_here();
        let group = k.uniform(k.shr_c(thread, WARPGROUP.ilog2()));
        let shared = k.add(shared, k.mul_c(group, BYTES));
        Self { k, problem, group, thread: k.and_c(thread, WARPGROUP - 1), shared }
    }

    /// Writes the sums of a tile of `rows` rows (a multiple of 16): the warpgroup's blocks of 64 columns, behind those of the warpgroups before it from the corner
    /// on, each with the scales of its columns if any are left to apply.
    pub(crate) fn write_blocks(
        &self,
        index: &ParamIndex,
        corner: Corner<'c>,
        rows: u32,
        sums: &[Var<'c>],
        scales: &[Option<[Float<'c>; 2]>],
    ) {
        let k = self.k;
        let first = k.add(corner.col0, k.mul_c(self.group, BLOCK_COLS * scales.len() as u32));
        for ((b, block), scales) in sums.chunks_exact((rows / 2) as usize).enumerate().zip(scales) {
            let corner = Corner { col0: k.add_c(first, BLOCK_COLS * b as u32), ..corner };
            self.write(&Destination::new(k, index, corner), rows, block, *scales);
        }
    }

    /// Writes the sums of a block of 64 columns, `rows` of them (a multiple of 16) from the corner of `to` on, with the scales of the columns if any.
    fn write(&self, to: &Destination<'c>, rows: u32, sums: &[Var<'c>], scales: Option<[Float<'c>; 2]>) {
        let k = self.k;
        let columns = self.columns(to, scales);
        let mut residual = to.residual.map(|base| Residual { base, next: 0, loaded: VecDeque::new() });
        for residual in residual.iter_mut() {
            (0..AHEAD).for_each(|_| self.load_residual(to, rows, residual));
        }
        let planes = self.planes();
        for first in (0..rows).step_by((ROWS / planes) as usize) {
            let count = (ROWS / planes).min(rows - first);
            k.warpgroup_barrier(self.group);
            for part in (0..count).step_by(TURNED_ROWS as usize) {
                let terms = residual.as_mut().map(|residual| self.turn_residual(to, rows, part, residual));
                let start = ((first + part) / 2) as usize;
                let values: Vec<[Float; 2]> = sums[start..start + 8]
                    .chunks_exact(4)
                    .enumerate()
                    .flat_map(|(j, fragment)| self.finished(to, first + part + FRAGMENT_ROWS * j as u32, fragment, &columns))
                    .enumerate()
                    .map(|(i, pair)| terms.map_or(pair, |terms| self.add_pair(pair, terms[i])))
                    .collect();
                let at = k.add_c(self.matrix_row(), part * ROW_BYTES);
                let words = |f: &dyn Fn([Float<'c>; 2]) -> Int<'c>| std::array::from_fn(|i| f(values[i]));
                if planes == 1 {
                    k.store_matrices_transposed(at, words(&|[low, high]| k.pack_pair(self.problem.out, low, high)));
                } else {
                    for (plane, halves) in [LOW_HALVES, HIGH_HALVES].into_iter().enumerate() {
                        let beside = |[low, high]: [Float<'c>; 2]| k.permute_bytes(k.as_int(low), k.as_int(high), halves);
                        k.store_matrices_transposed(k.add_c(at, plane as u32 * PLANE_BYTES), words(&beside));
                    }
                }
            }
            k.warpgroup_barrier(self.group);
            self.copy_out(to, first, count);
        }
    }

    /// Planes of 16 bits that the output is turned in.
    fn planes(&self) -> u32 {
        self.problem.out.bytes() as u32 / 2
    }

    /// Starts the load of this lane's piece of the next 16 rows, if the tile has them.
    fn load_residual(&self, to: &Destination<'c>, rows: u32, residual: &mut Residual<'c>) {
        let k = self.k;
        if residual.next >= rows {
            return;
        }
        let (row, piece) = self.own_piece();
        let m = k.add(to.corner.row0, k.add_c(row, residual.next));
        let column = k.add(to.corner.col0, k.mul_c(piece, PIECE_COLS));
        let is_inside = k.and(k.less(m, to.corner.rows), k.less(column, to.corner.col_end));
        let index = k.add(k.mul(k.to_long(m), k.long(self.problem.output_columns() as u64)), k.to_long(column));
        residual.loaded.push_back(k.load_global_16_if(is_inside, k.add(residual.base, k.shl_c(index, 1)), 0));
        residual.next += TURNED_ROWS;
    }

    /// The residual of the next 16 rows as the fragments have it, through the place of rows `part` on; the load of later ones is started.
    fn turn_residual(&self, to: &Destination<'c>, rows: u32, part: u32, residual: &mut Residual<'c>) -> [Int<'c>; 4] {
        let k = self.k;
        let (row, piece) = self.own_piece();
        let at = k.add(self.shared, k.add(k.mul_c(row, ROW_BYTES), k.shl_c(k.xor(piece, k.and_c(row, 7)), 4)));
        if let Some(words) = residual.loaded.pop_front() {
            k.store_shared_16(at, part * ROW_BYTES, words);
        }
        self.load_residual(to, rows, residual);
        k.warp_sync();
        k.load_matrices_transposed(self.matrix_row(), part * ROW_BYTES)
    }

    /// The row among 16 and the piece of a row that this lane brings of its warp's columns.
    fn own_piece(&self) -> (Int<'c>, Int<'c>) {
        let k = self.k;
        let (lane, warp) = (k.and_c(self.thread, 31), k.shr_c(self.thread, 5));
        (k.shr_c(lane, 1), k.or(k.shl_c(warp, 1), k.and_c(lane, 1)))
    }

    fn add_pair(&self, [low, high]: [Float<'c>; 2], term: Int<'c>) -> [Float<'c>; 2] {
        let (k, dtype) = (self.k, self.problem.residual_type());
        [k.fadd(low, k.widen_low(dtype, term)), k.fadd(high, k.widen_high(dtype, term))]
    }

    fn columns(&self, to: &Destination<'c>, scales: Option<[Float<'c>; 2]>) -> Columns<'c> {
        let k = self.k;
        let lane = k.and_c(self.thread, 31);
        let first = k.add(k.mul_c(k.shr_c(self.thread, 5), TILE_N as u32), k.shr_c(lane, 2));
        let last = k.sub(to.corner.col_end, k.int(1));
        let load = |dtype: DType, base: Int<'c>| -> [Float<'c>; 2] {
            std::array::from_fn(|half| {
                let column = k.min(k.add(to.corner.col0, k.add_c(first, PIECE_COLS * half as u32)), last);
                load_vector(k, dtype, base, k.to_long(column), 1)[0]
            })
        };
        let factors = scales.into_iter().chain(to.column_scales.map(|base| load(DType::F32, base))).collect();
        Columns { factors, bias: to.bias.map(|base| load(self.problem.bias_type(), base)) }
    }

    /// A fragment of eight rows, all but the residual added, as pairs of rows of the columns `g` and `g + 8`.
    fn finished(&self, to: &Destination<'c>, row: u32, fragment: &[Var<'c>], columns: &Columns<'c>) -> [[Float<'c>; 2]; 2] {
        let (k, problem) = (self.k, self.problem);
        let of_rows: Option<[Float<'c>; 2]> = to.row_scales.map(|base| {
            let first = k.add(k.add_c(to.corner.row0, row), k.shl_c(k.and_c(self.thread, 3), 1));
            let last = k.sub(to.corner.rows, k.int(1));
            std::array::from_fn(|z| load_vector(k, DType::F32, base, k.to_long(k.min(k.add_c(first, z as u32), last)), 1)[0])
        });
        std::array::from_fn(|half| {
            std::array::from_fn(|z| {
                let mut value = k.get_number(fragment[2 * half + z]);
                if let Some(scales) = of_rows {
                    value = k.fmul(value, scales[z]);
                }
                for factors in &columns.factors {
                    value = k.fmul(value, factors[half]);
                }
                if let Some(bias) = columns.bias {
                    value = k.fadd(value, bias[half]);
                }
                activate(k, problem.epilogue.activation, value)
            })
        })
    }

    /// Where this lane's row of the four matrices of 16 rows and 16 columns lies.
    fn matrix_row(&self) -> Int<'c> {
        let k = self.k;
        let (lane, warp) = (k.and_c(self.thread, 31), k.shr_c(self.thread, 5));
        let row = k.or(k.and_c(lane, 7), k.shl_c(k.shr_c(lane, 4), 3));
        let piece = k.or(k.shl_c(warp, 1), k.and_c(k.shr_c(lane, 3), 1));
        k.add(self.shared, k.add(k.mul_c(row, ROW_BYTES), k.shl_c(k.xor(piece, k.and_c(row, 7)), 4)))
    }

    /// Writes rows in shared memory to the output.
    fn copy_out(&self, to: &Destination<'c>, first: u32, count: u32) {
        let k = self.k;
        let (row, piece) = (k.shr_c(self.thread, PIECES.ilog2()), k.and_c(self.thread, PIECES - 1));
        let at = k.add(self.shared, k.add(k.mul_c(row, ROW_BYTES), k.shl_c(k.xor(piece, k.and_c(row, 7)), 4)));
        let column = k.add(to.corner.col0, k.mul_c(piece, PIECE_COLS));
        let has_column = k.less(column, to.corner.col_end);
        let (base, pitch, within) = output_of(k, self.problem, to, column);
        let rows_at_once = WARPGROUP / PIECES;
        for step in 0..count / rows_at_once {
            let m = k.add(to.corner.row0, k.add_c(row, first + step * rows_at_once));
            k.when(k.and(has_column, k.less(m, to.corner.rows)), || {
                let words = k.load_shared_16(at, step * rows_at_once * ROW_BYTES);
                let index = k.add(k.mul(k.to_long(m), pitch), k.to_long(within));
                let to = k.add(base, k.shl_c(index, self.planes()));
                if self.planes() == 1 {
                    return k.store_global(to, &words, 16);
                }
                let high = k.load_shared_16(at, PLANE_BYTES);
                let join = |i: usize| [LOW_HALVES, HIGH_HALVES].map(|halves| k.permute_bytes(words[i], high[i], halves));
                for (q, pair) in [[0, 1], [2, 3]].into_iter().enumerate() {
                    k.store_global(k.add_c(to, 16 * q as u32), pair.map(join).as_flattened(), 16);
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use icd_core::layout::bank_conflicts;

    fn place(row: u32, piece: u32) -> u32 {
        row * ROW_BYTES + ((piece ^ (row & 7)) << 4)
    }
    fn matrix_row(lane: u32, warp: u32) -> u32 {
        place((lane & 7) | (lane >> 4) << 3, warp << 1 | lane >> 3 & 1)
    }

    /// What `stmatrix.trans` does, and the read behind it: every output once, at its place.
    #[test]
    fn sums_come_out_in_rows() {
        let mut shared = vec![u32::MAX; (BYTES / 2) as usize];
        for (warp, pair) in (0..4).flat_map(|w| (0..ROWS).step_by(16).map(move |p| (w, p))) {
            for (matrix, lane) in (0..4).flat_map(|m| (0..32).map(move |l| (m, l))) {
                let (fragment, half) = (matrix >> 1, matrix & 1);
                for z in 0..2 {
                    let value = (pair + 8 * fragment + 2 * (lane & 3) + z) * 64 + 16 * warp + (lane >> 2) + 8 * half;
                    let start = matrix_row(8 * matrix + 2 * (lane & 3) + z, warp) + pair * ROW_BYTES;
                    shared[(start / 2 + (lane >> 2)) as usize] = value;
                }
            }
        }
        for (thread, step) in (0..WARPGROUP).flat_map(|t| (0..2).map(move |s| (t, s))) {
            let (row, piece) = (thread / PIECES + 16 * step, thread % PIECES);
            for j in 0..PIECE_COLS {
                let start = place(thread / PIECES, piece) + step * 16 * ROW_BYTES;
                assert_eq!(shared[(start / 2 + j) as usize], row * 64 + piece * PIECE_COLS + j);
            }
        }
    }

    /// What `ldmatrix.trans` reads of the pieces that lanes bring: for every sum, the term of its row and column.
    #[test]
    fn residuals_reach_their_sums() {
        for warp in 0..4 {
            let mut shared = vec![u32::MAX; (BYTES / 2) as usize];
            for lane in 0..32 {
                let (row, piece) = (lane >> 1, warp << 1 | lane & 1);
                (0..PIECE_COLS).for_each(|j| shared[(place(row, piece) / 2 + j) as usize] = row * 64 + piece * PIECE_COLS + j);
            }
            for (matrix, lane, z) in (0..4).flat_map(|m| (0..32).flat_map(move |l| (0..2).map(move |z| (m, l, z)))) {
                let (fragment, half) = (matrix >> 1, matrix & 1);
                let start = matrix_row(8 * matrix + 2 * (lane & 3) + z, warp);
                let wanted = (8 * fragment + 2 * (lane & 3) + z) * 64 + 16 * warp + (lane >> 2) + 8 * half;
                assert_eq!(shared[(start / 2 + (lane >> 2)) as usize], wanted);
            }
        }
    }

    #[test]
    fn banks_do_not_conflict() {
        for warp in 0..4 {
            for matrix in 0..4 {
                let rows = |lane: u64| u64::from(matrix_row(8 * matrix + lane as u32 % 8, warp));
                assert!((0..8).all(|a| (0..a).all(|b| rows(a) / 16 % 8 != rows(b) / 16 % 8)), "rows of a matrix meet all banks");
            }
            let read = |lane: u64| u64::from(place((32 * warp + lane as u32) / PIECES, lane as u32 % PIECES));
            assert!(bank_conflicts(read, 16).is_conflict_free());
        }
    }
}
