//! Columns of two packed matrices that take turns by eights, for gated products ([`icd_core::problem::Epilogue::gated`]).
//!
//! ```text
//! tile s of the gate     g0…7 g8…15          tile 2s      g0…7 f0…7
//! tile s of the factor   f0…7 f8…15    ⇔     tile 2s + 1  g8…15 f8…15
//! ```
//!
//! The second half of a gate's tile changes places with the first half of the factor's. In every order of `k` the halves of a tile lie beside each
//! other in small pieces: nibbles of a byte for codes, two or four neighbouring rows of an element column, eight scales, half a word of positions.

use super::{PackError, length};
use icd_core::{
    pack_format::{KOrder, PackFormat, TILE_N, WeightFormat},
    problem::GATED_RUN,
};

/// Bytes of 2:4 sparse positions of columns `g` or `g + 8` in a word.
const POSITION_BYTES_A_HALF: usize = 2;

/// Exchanges halves of the tiles of two packed matrices of the same format, of any strips: from matrix by matrix to turns by eights, and back. The
/// strips of the result belong in the order gate, factor, gate and so on.
///
/// # Errors
/// Lengths that differ or are no whole tiles.
pub fn exchange_halves(format: &PackFormat, gate: &mut [u8], factor: &mut [u8]) -> Result<(), PackError> {
    length("bytes of the factor's strips", factor.len(), gate.len())?;
    let tile_bytes = format.tile_bytes();
    length("bytes of whole tiles", gate.len(), gate.len() / tile_bytes * tile_bytes)?;
    let rows_a_piece = if matches!((format.weight, format.k_order), (WeightFormat::W8 { .. }, KOrder::Bytes)) { 4 } else { 2 };
    for (gate, factor) in gate.chunks_exact_mut(tile_bytes).zip(factor.chunks_exact_mut(tile_bytes)) {
        let ((gate, gate_rest), (factor, factor_rest)) = (gate.split_at_mut(format.code_bytes()), factor.split_at_mut(format.code_bytes()));
        match format.weight {
            WeightFormat::W3 { .. } | WeightFormat::W4 { .. } => exchange_nibbles(gate, factor),
            WeightFormat::Dense | WeightFormat::W8 { .. } => {
                exchange_pieces(gate, factor, rows_a_piece * format.code_bytes() / (TILE_N * format.stored_rows()));
            }
        }
        let scale_bytes = format.zeros_at() - format.code_bytes();
        let ((scales, gate_rest), (factor_scales, factor_rest)) =
            (gate_rest.split_at_mut(scale_bytes), factor_rest.split_at_mut(scale_bytes));
        let zero_bytes = format.positions_at() - format.zeros_at();
        let ((zeros, positions), (factor_zeros, factor_positions)) =
            (gate_rest.split_at_mut(zero_bytes), factor_rest.split_at_mut(zero_bytes));
        exchange_pieces(scales, factor_scales, 2 * GATED_RUN);
        exchange_pieces(zeros, factor_zeros, GATED_RUN);
        exchange_pieces(positions, factor_positions, POSITION_BYTES_A_HALF);
    }
    Ok(())
}

fn exchange_nibbles(gate: &mut [u8], factor: &mut [u8]) {
    for (g, f) in gate.iter_mut().zip(factor) {
        (*g, *f) = (*g & 0x0f | *f << 4, *g >> 4 | *f & 0xf0);
    }
}

/// Odd pieces of one for even pieces of the other.
fn exchange_pieces(gate: &mut [u8], factor: &mut [u8], piece: usize) {
    for (g, f) in gate.chunks_exact_mut(2 * piece).zip(factor.chunks_exact_mut(2 * piece)) {
        g[piece..].swap_with_slice(&mut f[..piece]);
    }
}
