//! Streams of small unsigned integers in 32-bit words, lowest bit first, without gaps.
//!
//! ```text
//! 3 bits   word 0: v0 v1 … v9 and the low 2 bits of v10      word 1: the high bit of v10, v11 …
//! ```

/// Words that `count` values of `bits` bits take.
pub fn words(count: usize, bits: u8) -> usize {
    (count * usize::from(bits)).div_ceil(32)
}

/// Packs values, each below 2^`bits`, `bits` being 1 to 8.
pub fn pack(values: impl IntoIterator<Item = u8>, bits: u8) -> Vec<u32> {
    let (mut out, mut word, mut filled) = (Vec::new(), 0u64, 0u32);
    for value in values {
        word |= u64::from(value) << filled;
        filled += u32::from(bits);
        if filled >= 32 {
            out.push(word as u32);
            word >>= 32;
            filled -= 32;
        }
    }
    if filled > 0 {
        out.push(word as u32);
    }
    out
}

/// The first `count` values of a stream; zeros past its end.
pub fn unpack(words: impl IntoIterator<Item = u32>, bits: u8, count: usize) -> Vec<u8> {
    let (mut words, mut word, mut filled) = (words.into_iter(), 0u64, 0u32);
    let mask = (1u64 << bits) - 1;
    (0..count)
        .map(|_| {
            if filled < u32::from(bits) {
                word |= u64::from(words.next().unwrap_or(0)) << filled;
                filled += 32;
            }
            let value = (word & mask) as u8;
            word >>= bits;
            filled -= u32::from(bits);
            value
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packing_is_exact_for_every_width() {
        for bits in 1..=8u8 {
            for count in [0usize, 1, 7, 10, 11, 32, 33, 100] {
                let values: Vec<u8> = (0..count).map(|i| (i * 37 % (1 << bits)) as u8).collect();
                let packed = pack(values.iter().copied(), bits);
                assert_eq!(packed.len(), words(count, bits));
                let bit = |at: usize| packed[at / 32] >> (at % 32) & 1;
                let by_definition = |i: usize| (0..usize::from(bits)).map(|b| (bit(i * usize::from(bits) + b) as u8) << b).sum::<u8>();
                assert_eq!((0..count).map(by_definition).collect::<Vec<_>>(), values);
                assert_eq!(unpack(packed, bits, count), values);
            }
        }
    }
}
