//! Streams of small unsigned integers in 32-bit words, lowest bit first, without gaps.
//!
//! ```text
//! 3 bits   word 0: v0 v1 … v9 and the low 2 bits of v10      word 1: the high bit of v10, v11 …
//! ```

/// Words that `count` values of `bits` bits take.
pub fn words(count: usize, bits: u8) -> usize {
    (count * usize::from(bits)).div_ceil(32)
}

/// A stream that is being written.
#[derive(Clone, Debug, Default)]
pub struct Writer {
    words: Vec<u32>,
    word: u64,
    filled: u32,
}

impl Writer {
    /// Appends a value below 2^`bits`; at most 32 bits.
    pub fn push(&mut self, value: u32, bits: u32) {
        self.word |= u64::from(value) << self.filled;
        self.filled += bits;
        if self.filled >= 32 {
            self.words.push(self.word as u32);
            self.word >>= 32;
            self.filled -= 32;
        }
    }

    /// The words, the last filled up with zeros.
    pub fn finish(mut self) -> Vec<u32> {
        if self.filled > 0 {
            self.words.push(self.word as u32);
        }
        self.words
    }
}

/// A stream that is being read.
#[derive(Clone, Debug)]
pub struct Reader<I> {
    words: I,
    word: u64,
    filled: u32,
}

impl<I: Iterator<Item = u32>> Reader<I> {
    /// Reads from the first of `words`.
    pub fn new(words: impl IntoIterator<IntoIter = I>) -> Self {
        Reader { words: words.into_iter(), word: 0, filled: 0 }
    }

    /// The next value of `bits` bits, at most 32; zeros past the end.
    pub fn take(&mut self, bits: u32) -> u32 {
        if self.filled < bits {
            self.word |= u64::from(self.words.next().unwrap_or(0)) << self.filled;
            self.filled += 32;
        }
        let value = self.word & ((1u64 << bits) - 1);
        self.word >>= bits;
        self.filled -= bits;
        value as u32
    }
}

/// Packs values, each below 2^`bits`, `bits` being 1 to 8.
pub fn pack(values: impl IntoIterator<Item = u8>, bits: u8) -> Vec<u32> {
    let mut out = Writer::default();
    values.into_iter().for_each(|value| out.push(value.into(), bits.into()));
    out.finish()
}

/// The first `count` values of a stream; zeros past its end.
pub fn unpack(words: impl IntoIterator<Item = u32>, bits: u8, count: usize) -> Vec<u8> {
    let mut stream = Reader::new(words);
    (0..count).map(|_| stream.take(bits.into()) as u8).collect()
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

    #[test]
    fn streams_of_mixed_widths_come_back() {
        let values: Vec<(u32, u32)> = (0..200u32).map(|i| (i.wrapping_mul(2_654_435_761) >> (32 - (i % 32 + 1)), i % 32 + 1)).collect();
        let mut out = Writer::default();
        values.iter().for_each(|(v, b)| out.push(*v, *b));
        let mut back = Reader::new(out.finish());
        assert!(values.iter().all(|(v, b)| back.take(*b) == *v));
        assert_eq!(back.take(32), 0);
    }
}
