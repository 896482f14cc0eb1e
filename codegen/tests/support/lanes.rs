//! What emulations of tensor-core fragments have in common.

use half::f16;

pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        self.0 >> 33
    }
    /// -1 to 1.
    pub(crate) fn half(&mut self) -> f16 {
        f16::from_f32(self.next() as f32 / (1u64 << 30) as f32 - 1.0)
    }
}

/// Four bytes of packed weights.
pub(crate) fn word_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

/// A word of codes as `code - 8`, by the fp16 numbers 1024 + code and 1024 + 16 code.
pub(crate) fn centered(word: u32) -> [f64; 8] {
    let upper = word >> 8;
    let magic = |w: u32, mask: u32| (w & mask) | 0x6400_6400;
    let pairs = [magic(word, 0x000f_000f), magic(word, 0x00f0_00f0), magic(upper, 0x000f_000f), magic(upper, 0x00f0_00f0)];
    std::array::from_fn(|i| {
        let value = f16::from_bits((pairs[i / 2] >> (16 * (i % 2))) as u16).to_f64();
        if i / 2 % 2 == 0 { value - 1032.0 } else { value / 16.0 - 72.0 }
    })
}
