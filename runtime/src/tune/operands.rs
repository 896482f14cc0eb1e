//! Random operands of a matrix product, and the product of a sample.
#![allow(clippy::indexing_slicing, reason = "places follow from the checked format and sizes that the buffers were made with")]

use half::{bf16, f16};
use icd_core::{
    DType,
    pack_format::{CodeFormat, PackFormat, TILE_K, TILE_N, WeightFormat},
    problem::GemmProblem,
};

/// Rows and columns of the output that are compared, at most.
const SAMPLE: usize = 48;

/// Operands of one problem, as bytes.
pub(crate) struct Operands {
    pub(crate) problem: GemmProblem,
    format: PackFormat,
    /// Packed weights.
    pub(crate) weights: Vec<u8>,
    /// `[m][k]`.
    pub(crate) x: Vec<u8>,
    /// f32 scales of the rows of 8-bit activations and of the columns of 8-bit weights.
    pub(crate) row_scales: Vec<u8>,
    pub(crate) column_scales: Vec<u8>,
    sample: (Vec<usize>, Vec<usize>),
}

/// xorshift64*.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
    /// -1 to 1.
    fn float(&mut self) -> f32 {
        (self.next() >> 40) as f32 / 8_388_608.0 - 1.0
    }
    fn below(&mut self, bound: usize) -> usize {
        (self.next() >> 20) as usize % bound.max(1)
    }
}

impl Operands {
    /// Codes and elements of any value; scales of ordinary size; padding as the format wants it.
    pub(crate) fn random(problem: &GemmProblem, format: PackFormat, seed: u64) -> Self {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let x = elements(problem.act, problem.m * problem.k, &mut random);
        let weights = packed(&format, &mut random);
        let mut scales = |count: usize, has_scales: bool| {
            let count = if has_scales { count } else { 0 };
            (0..count).flat_map(|_| (0.001 + 0.004 * random.float().abs()).to_le_bytes()).collect()
        };
        let (row_scales, column_scales) = (scales(problem.m, problem.has_row_scales()), scales(problem.n, problem.has_column_scales()));
        let mut pick = |count: usize| -> Vec<usize> {
            let ends = [0, count - 1];
            let inner = (0..SAMPLE.min(count)).map(|_| random.below(count));
            ends.into_iter().chain(inner).collect()
        };
        let sample = (pick(problem.m), pick(problem.n));
        Self { problem: *problem, format, weights, x, row_scales, column_scales, sample }
    }

    /// Bytes of the output.
    pub(crate) fn output_bytes(&self) -> usize {
        self.problem.m * self.problem.n * self.problem.out.bytes()
    }

    /// `‖y − r‖ / ‖r‖` over the sample; not a number when any element of `y` is.
    pub(crate) fn relative_error(&self, y: &[u8]) -> f64 {
        let GemmProblem { m, n, k, act, out, .. } = self.problem;
        let width = out.bytes();
        if y.len() != self.output_bytes() || (0..m * n).any(|i| value(out, &y[i * width..]).is_nan()) {
            return f64::NAN;
        }
        let scale =
            |scales: &[u8], i: usize| scales.get(4 * i..).and_then(|b| b.first_chunk()).map_or(1.0, |b| f64::from(f32::from_le_bytes(*b)));
        let (mut wrong, mut right) = (0.0, 0.0);
        for &column in &self.sample.1 {
            let weights: Vec<f64> = (0..k).map(|row| self.weight(column, row)).collect();
            for &row in &self.sample.0 {
                let product: f64 = (0..k).map(|i| f64::from(value(act, &self.x[(row * k + i) * act.bytes()..])) * weights[i]).sum();
                let expected = product * scale(&self.row_scales, row) * scale(&self.column_scales, column);
                let found = f64::from(value(out, &y[(row * n + column) * width..]));
                wrong += (found - expected) * (found - expected);
                right += expected * expected;
            }
        }
        (wrong / right).sqrt()
    }

    /// The weight that the packed bytes mean.
    fn weight(&self, n: usize, k: usize) -> f64 {
        let Some(stored) = self.format.stored_row(&self.weights, n, k) else { return 0.0 };
        let at = self.format.element_at(n, stored).0;
        match self.format.weight {
            WeightFormat::W3 { .. } | WeightFormat::W4 { .. } => {
                let middle = self.format.weight.codes().map_or(0, CodeFormat::middle);
                let zero = self.format.zero_at(n, k).map_or(middle, |at| self.weights[at]);
                let code = self.format.code(&self.weights, n, stored).unwrap_or_default();
                (f64::from(code) - f64::from(zero)) * f64::from(value(self.format.float, &self.weights[self.format.scale_at(n, k)..]))
            }
            WeightFormat::Dense => f64::from(value(self.format.float, &self.weights[at..])),
            WeightFormat::W8 { dtype } => f64::from(value(dtype, &self.weights[at..])),
        }
    }
}

fn packed(format: &PackFormat, random: &mut Random) -> Vec<u8> {
    let mut bytes: Vec<u8> = match format.weight {
        WeightFormat::W3 { .. } | WeightFormat::W4 { .. } => {
            (0..format.bytes().div_ceil(8)).flat_map(|_| random.next().to_le_bytes()).take(format.bytes()).collect()
        }
        WeightFormat::Dense => elements(format.float, format.bytes() / 2, random),
        WeightFormat::W8 { dtype } => elements(dtype, format.bytes(), random),
    };
    let (columns, rows) = (format.n_tiles() * TILE_N, format.k_tiles() * TILE_K);
    if format.groups_per_tile() > 0 {
        for k in (0..rows).step_by(TILE_K / format.groups_per_tile()) {
            for n in 0..columns {
                let scale = if n < format.n && k < format.k { 0.005 + 0.02 * random.float().abs() } else { 0.0 };
                let bits = if format.float == DType::BF16 { bf16::from_f32(scale).to_bits() } else { f16::from_f32(scale).to_bits() };
                bytes[format.scale_at(n, k)..][..2].copy_from_slice(&bits.to_le_bytes());
                if let Some(at) = format.zero_at(n, k) {
                    bytes[at] &= 15;
                }
            }
        }
    }
    let stored_rows = format.k_tiles() * format.stored_rows();
    for n in 0..columns {
        let row_of = if format.two_four { positions(format, &mut bytes, n, random) } else { (0..rows).collect() };
        for stored in (0..stored_rows).filter(|stored| n >= format.n || row_of[*stored] >= format.k) {
            let (at, shift) = format.element_at(n, stored);
            match format.weight {
                WeightFormat::W4 { .. } => bytes[at] = bytes[at] & !(15 << shift) | 8 << shift,
                WeightFormat::W3 { .. } => {
                    bytes[at] &= !(3 << shift);
                    if let Some((at, shift)) = format.high_bit_at(n, stored) {
                        bytes[at] |= 1 << shift;
                    }
                }
                WeightFormat::Dense => bytes[at..at + 2].fill(0),
                WeightFormat::W8 { .. } => bytes[at] = 0,
            }
        }
    }
    bytes
}

/// Writes random positions of the stored elements of a column; the rows that they are of.
fn positions(format: &PackFormat, bytes: &mut [u8], n: usize, random: &mut Random) -> Vec<usize> {
    const PAIRS: [[usize; 2]; 6] = [[0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 3]];
    let mut row_of = Vec::new();
    for group in 0..format.k_tiles() * format.stored_rows() / 2 {
        for (i, position) in PAIRS[random.below(PAIRS.len())].into_iter().enumerate() {
            let (at, shift) = format.position_at(n, 2 * group + i);
            bytes[at] = bytes[at] & !(3 << shift) | (position as u8) << shift;
            row_of.push(4 * group + position);
        }
    }
    row_of
}

fn elements(dtype: DType, count: usize, random: &mut Random) -> Vec<u8> {
    match dtype {
        DType::F16 => (0..count).flat_map(|_| f16::from_f32(random.float()).to_le_bytes()).collect(),
        DType::BF16 => (0..count).flat_map(|_| bf16::from_f32(random.float()).to_le_bytes()).collect(),
        // Any but the two that are no numbers.
        DType::F8E4M3FN => (0..count).map(|_| (random.next() >> 30) as u8).map(|b| if b & 0x7f == 0x7f { b ^ 1 } else { b }).collect(),
        _ => (0..count).map(|_| (random.next() >> 30) as u8).collect(),
    }
}

/// The first element of some bytes; not a number where there is none.
fn value(dtype: DType, bytes: &[u8]) -> f32 {
    let two = || bytes.first_chunk().map(|b| u16::from_le_bytes(*b));
    let found = match dtype {
        DType::F16 => two().map(|b| f16::from_bits(b).to_f32()),
        DType::BF16 => two().map(|b| bf16::from_bits(b).to_f32()),
        DType::F32 => bytes.first_chunk().map(|b| f32::from_le_bytes(*b)),
        DType::I8 => bytes.first().map(|b| f32::from(*b as i8)),
        DType::F8E4M3FN => bytes.first().map(|b| f8(*b)),
        _ => None,
    };
    found.unwrap_or(f32::NAN)
}

/// e4m3 without infinities: bias 7, the largest code of either sign is no number.
fn f8(byte: u8) -> f32 {
    let (exponent, fraction) = (i32::from(byte >> 3 & 15), f32::from(byte & 7));
    let size = match exponent {
        15 if byte & 7 == 7 => f32::NAN,
        0 => fraction / 8.0 * 2f32.powi(-6),
        _ => (1.0 + fraction / 8.0) * 2f32.powi(exponent - 7),
    };
    if byte >= 0x80 { -size } else { size }
}
