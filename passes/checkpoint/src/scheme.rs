//! Names of what weights and activations become: `w4a16`, `w8a8`, `w4a4`, `vq2`, `vq-v8-k256-r256`, `fp8`.

use crate::error::{CheckpointError, Result};
use icd_quant::{Fp8, TokenGrid};
use serde::{Deserialize, Serialize};
use std::str::FromStr;

/// Vectors of weights as entries of codebooks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct VectorShape {
    /// Weights a vector: 1 to 16.
    pub vector: usize,
    /// Entries of the codebook: 2 to 65536.
    pub codebook: usize,
    /// Entries of the residual codebook; 0: none.
    pub residual: usize,
}

impl VectorShape {
    /// Largest codebook that [`VectorShape::with_bits`] picks.
    const MOST_ENTRIES: u32 = 12;

    /// Of the vectors of up to 8 weights with `quarters / 4` index bits a weight: the longest whose codebook takes at most an eighth of a bit of each
    /// of `weights` weights, or else the shortest.
    pub fn with_bits(quarters: u8, weights: usize) -> Option<Self> {
        let shape = |vector: usize| {
            let bits = usize::from(quarters) * vector;
            let log = u32::try_from(bits / 4).ok().filter(|log| bits.is_multiple_of(4) && (1..=Self::MOST_ENTRIES).contains(log))?;
            Some(VectorShape { vector, codebook: 1 << log, residual: 0 })
        };
        let all: Vec<Self> = (1..=8).rev().filter_map(shape).collect();
        all.iter().find(|s| 16 * s.vector * s.codebook * 8 <= weights).or(all.last()).copied()
    }

    /// Bits of the indices of a weight.
    pub fn index_bits(&self) -> f64 {
        let of = |entries: usize| f64::from(entries.max(1).next_power_of_two().trailing_zeros());
        (of(self.codebook) + of(self.residual)) / self.vector as f64
    }
}

/// Bits of the tensor with a packed layer's shape.
const SHAPE_BITS: usize = 128;

/// What the weight of a layer is stored as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WeightForm {
    /// Integers of 2 to 8 bits with scales.
    Integers(u8),
    /// E4M3 with a scale an output channel.
    Float8,
    /// f16: for layers that are made sparse only.
    Halves,
    /// Vector quantization.
    Vectors(VectorShape),
    /// Vector quantization with so many quarters of a bit of indices a weight; the length of the vectors follows from the size of the layer.
    VectorBits(u8),
}

impl WeightForm {
    /// The form that a `k × n` layer gets: [`WeightForm::VectorBits`] becomes [`WeightForm::Vectors`].
    ///
    /// # Errors
    /// No vector has so many bits.
    pub fn resolved(self, k: usize, n: usize) -> Result<Self> {
        match self {
            WeightForm::VectorBits(quarters) => VectorShape::with_bits(quarters, k * n).map(WeightForm::Vectors).ok_or_else(|| {
                let bits = f64::from(quarters) / 4.0;
                CheckpointError::Argument(format!("no vectors of up to 8 weights have {bits} bits a weight and at most 4096 entries"))
            }),
            other => Ok(other),
        }
    }

    /// Bits of a code or an index, a weight.
    pub fn bits(self) -> f64 {
        match self {
            WeightForm::Integers(bits) => f64::from(bits),
            WeightForm::Float8 => 8.0,
            WeightForm::Halves => 16.0,
            WeightForm::Vectors(shape) => shape.index_bits(),
            WeightForm::VectorBits(quarters) => f64::from(quarters) / 4.0,
        }
    }

    /// Bits that a dense `k × n` layer takes, scales, zero points, codebooks and its shape included.
    pub fn stored_bits(self, k: usize, n: usize, group: Option<usize>, asymmetric: bool) -> usize {
        match self {
            WeightForm::Integers(bits) => {
                let groups = k.div_ceil(group.unwrap_or(k).max(1));
                k * n * usize::from(bits) + groups * n * (16 + if asymmetric { usize::from(bits) } else { 0 }) + SHAPE_BITS
            }
            WeightForm::Float8 => 8 * k * n + 32 * n,
            WeightForm::Halves => 16 * k * n,
            WeightForm::Vectors(s) => {
                let books = 16 * s.vector * (s.codebook + s.residual);
                k * n.div_ceil(s.vector) * (s.index_bits() * s.vector as f64) as usize + books + 16 * k + SHAPE_BITS
            }
            WeightForm::VectorBits(_) => self.resolved(k, n).map_or(0, |form| form.stored_bits(k, n, group, asymmetric)),
        }
    }
}

/// How activations are rounded, token by token, while the model runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Activation {
    /// Symmetric integers of 4 to 8 bits.
    Integers(u8),
    /// E4M3.
    Float8,
}

impl Activation {
    /// Rounds rows of `width` elements, each under a scale of its own. For integers each run of `group` neighbours in a row has a scale of its own
    /// (none: the row), and keeps the part `clip` of its range; 1 keeps all.
    pub fn round_rows(self, rows: &mut [f32], width: usize, group: Option<usize>, clip: f32) {
        match self {
            Activation::Integers(bits) => TokenGrid { clip, ..TokenGrid::new(bits) }.round_groups(rows, width, group.unwrap_or(width)),
            Activation::Float8 => Fp8::E4M3.round_rows(rows, width),
        }
    }
}

/// What becomes of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Scheme {
    /// Of its weight.
    pub weight: WeightForm,
    /// Of what it reads; none: activations stay floats.
    pub activation: Option<Activation>,
}

impl FromStr for Scheme {
    type Err = CheckpointError;

    fn from_str(text: &str) -> Result<Self> {
        let known = || {
            let what = "give w{2..8}a16, w{2..8}a{4..8}, w16a16 (with --sparsity), vq1 to vq4 in quarters (vq2.25), \
                        vq-v{1..16}-k{2..65536}[-r…], each of these with a{4..8} behind it, fp8 or fp8a16";
            CheckpointError::Argument(format!("scheme '{text}' is not known: {what}"))
        };
        let (weight, activation) = match text.rsplit_once('a') {
            Some((weight, activation)) => (weight, Some(activation.parse::<u8>().map_err(|_| known())?)),
            None => (text, None),
        };
        let activation = match activation {
            None | Some(16) => None,
            Some(bits @ 4..=8) => Some(Activation::Integers(bits)),
            Some(_) => return Err(known()),
        };
        if weight == "fp8" {
            let activation = if text.contains('a') { activation } else { Some(Activation::Float8) };
            return Ok(Scheme { weight: WeightForm::Float8, activation });
        }
        let weight = vectors(weight).or_else(|| match weight.strip_prefix('w').filter(|_| text.contains('a'))?.parse().ok()? {
            bits @ 2..=8 => Some(WeightForm::Integers(bits)),
            16 => Some(WeightForm::Halves),
            _ => None,
        });
        Ok(Scheme { weight: weight.ok_or_else(known)?, activation })
    }
}

fn vectors(text: &str) -> Option<WeightForm> {
    let rest = text.strip_prefix("vq")?;
    let Some(parts) = rest.strip_prefix('-') else {
        let quarters = rest.parse::<f64>().ok()? * 4.0;
        return ((4.0..=16.0).contains(&quarters) && quarters.fract() == 0.0).then_some(WeightForm::VectorBits(quarters as u8));
    };
    let (mut shape, mut parts) = (VectorShape { vector: 0, codebook: 0, residual: 0 }, parts.split('-'));
    shape.vector = parts.next()?.strip_prefix('v')?.parse().ok()?;
    shape.codebook = parts.next()?.strip_prefix('k')?.parse().ok()?;
    if let Some(residual) = parts.next() {
        shape.residual = residual.strip_prefix('r')?.parse().ok()?;
    }
    let sound = (1..=16).contains(&shape.vector) && (2..=65536).contains(&shape.codebook) && shape.residual <= 65536 && shape.residual != 1;
    (sound && parts.next().is_none()).then_some(WeightForm::Vectors(shape))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_wrong_ones_refused() {
        let scheme = |t: &str| t.parse::<Scheme>().unwrap();
        let ints = |w, a| Scheme { weight: WeightForm::Integers(w), activation: a };
        assert_eq!(scheme("w4a16"), ints(4, None));
        assert_eq!(scheme("w8a8"), ints(8, Some(Activation::Integers(8))));
        assert_eq!(scheme("fp8"), Scheme { weight: WeightForm::Float8, activation: Some(Activation::Float8) });
        assert_eq!(scheme("fp8a16"), Scheme { weight: WeightForm::Float8, activation: None });
        assert_eq!(scheme("w16a16").weight, WeightForm::Halves);
        assert_eq!(scheme("vq2").weight, WeightForm::VectorBits(8));
        assert_eq!(scheme("vq2.25a8"), Scheme { weight: WeightForm::VectorBits(9), activation: Some(Activation::Integers(8)) });
        let shape = VectorShape { vector: 8, codebook: 256, residual: 16 };
        assert_eq!(scheme("vq-v8-k256-r16").weight, WeightForm::Vectors(shape));
        for wrong in [
            "",
            "w4",
            "w1a16",
            "w9a16",
            "w4a3",
            "w4a9",
            "vq",
            "vq0",
            "vq2.1",
            "vq5",
            "vq-v17-k2",
            "vq-v4",
            "vq-v4-k1",
            "vq-v4-k4-r1",
            "int4",
        ] {
            assert!(wrong.parse::<Scheme>().unwrap_err().to_string().contains("is not known"), "{wrong}");
        }
    }

    #[test]
    fn vectors_grow_with_the_layer() {
        let of = |quarters, weights| VectorShape::with_bits(quarters, weights).unwrap();
        assert_eq!(of(8, 384 * 384), VectorShape { vector: 4, codebook: 256, residual: 0 });
        assert_eq!(of(8, 4096 * 4096), VectorShape { vector: 6, codebook: 4096, residual: 0 });
        assert_eq!((of(8, 64 * 64).vector, of(8, 16).vector), (2, 1));
        for quarters in [4, 5, 6, 7, 8, 9, 10, 11, 12, 14, 16] {
            for weights in [4096, 147_456, 1 << 24] {
                let shape = of(quarters, weights);
                assert_eq!(shape.index_bits() * 4.0, f64::from(quarters));
            }
        }
        assert_eq!(VectorShape::with_bits(13, 1 << 24), None);
        let form = WeightForm::Vectors(VectorShape { vector: 4, codebook: 256, residual: 0 });
        assert_eq!(form.stored_bits(384, 384, None, false), 384 * 96 * 8 + 16 * 4 * 256 + 16 * 384 + SHAPE_BITS);
        assert_eq!(WeightForm::Integers(4).stored_bits(256, 8, Some(128), true), 256 * 8 * 4 + 2 * 8 * 20 + SHAPE_BITS);
    }
}
