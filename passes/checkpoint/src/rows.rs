//! Activations: one row a token, sequences one after another without padding.

/// A row-major matrix of activations.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rows {
    /// Elements of a row.
    pub width: usize,
    /// `rows * width` elements.
    pub data: Vec<f32>,
}

impl Rows {
    /// `rows` rows of zeros.
    pub fn zeros(rows: usize, width: usize) -> Self {
        Rows { width, data: vec![0.0; rows * width] }
    }

    /// Number of rows.
    pub fn count(&self) -> usize {
        self.data.len().checked_div(self.width).unwrap_or(0)
    }

    /// Columns `from..from + width` of every row.
    pub fn columns(&self, from: usize, width: usize) -> Rows {
        let data = self.data.chunks(self.width.max(1)).flat_map(|row| row.iter().skip(from).take(width)).copied().collect();
        Rows { width, data }
    }
}

/// Token ids of several sequences.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// All tokens, sequence after sequence.
    pub tokens: Vec<u32>,
    /// Where each sequence begins, and the number of tokens at the end.
    pub starts: Vec<usize>,
}

impl Batch {
    /// A batch of the given sequences.
    pub fn new<'a>(sequences: impl IntoIterator<Item = &'a [u32]>) -> Self {
        let mut batch = Batch { tokens: Vec::new(), starts: vec![0] };
        for sequence in sequences {
            batch.tokens.extend_from_slice(sequence);
            batch.starts.push(batch.tokens.len());
        }
        batch
    }

    /// The tokens as rows of an embedding matrix.
    pub fn ids(&self) -> Vec<usize> {
        self.tokens.iter().map(|t| *t as usize).collect()
    }

    /// Ranges of rows, one a sequence.
    pub fn sequences(&self) -> impl Iterator<Item = std::ops::Range<usize>> {
        self.starts.windows(2).filter_map(|w| w.first().copied().zip(w.last().copied())).map(|(a, b)| a..b)
    }

    /// Length of the longest sequence.
    pub fn longest(&self) -> usize {
        self.sequences().map(|s| s.len()).max().unwrap_or(0)
    }

    /// Splits into batches of whole sequences with at most `tokens` tokens each, or one sequence.
    pub fn split(&self, tokens: usize) -> Vec<Batch> {
        let mut out: Vec<Batch> = Vec::new();
        for range in self.sequences() {
            let piece = &self.tokens[range];
            match out.last_mut() {
                Some(last) if last.tokens.len() + piece.len() <= tokens => {
                    last.tokens.extend_from_slice(piece);
                    last.starts.push(last.tokens.len());
                }
                _ => out.push(Batch::new([piece])),
            }
        }
        out
    }
}
