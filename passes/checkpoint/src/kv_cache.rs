//! A model whose keys and values are rounded as a compressed cache would hold them: keys channel by channel, values token by token (KIVI). Every
//! token is rounded, the query's own included, as if the cache had been written before it is read.

use crate::arch::{CachePart, LinearSpec, Weights};
use crate::error::{CheckpointError, Result};
use crate::rows::{Batch, Rows};
use icd_quant::{Fp8, KvError, KvKind, KvQuant};
use rayon::prelude::*;
use std::sync::Arc;

/// Reads `int2` … `int8` or `fp8`.
///
/// # Errors
/// Another text.
pub fn kind(text: &str) -> Result<KvKind> {
    match (text, text.strip_prefix("int").and_then(|b| b.parse::<u8>().ok())) {
        ("fp8", _) => Ok(KvKind::Float(Fp8::E4M3)),
        (_, Some(bits @ 2..=8)) => Ok(KvKind::Int(bits)),
        _ => Err(CheckpointError::Argument(format!("cache type '{text}' is not known: give int2 to int8, or fp8"))),
    }
}

/// Weights as `inner` has them, the cache rounded.
pub struct RoundedCache<'a> {
    /// The weights.
    pub inner: &'a dyn Weights,
    /// How the cache is rounded.
    pub quant: KvQuant,
}

impl RoundedCache<'_> {
    fn round(
        &self,
        batch: &Batch,
        part: CachePart,
        rows: &mut Rows,
        one: impl Fn(&mut [f32], usize) -> std::result::Result<usize, KvError> + Sync,
    ) -> Result<()> {
        let (width, head) = (rows.width, part.head);
        let tasks: Vec<(std::ops::Range<usize>, usize)> =
            batch.sequences().flat_map(|s| (0..part.heads).map(move |h| (s.clone(), part.offset + h * head))).collect();
        let data = &rows.data;
        let rounded = tasks
            .par_iter()
            .map(|(tokens, at)| {
                let mut cache: Vec<f32> = tokens.clone().flat_map(|t| data.iter().skip(t * width + at).take(head).copied()).collect();
                one(&mut cache, head).map(|_| cache)
            })
            .collect::<std::result::Result<Vec<_>, KvError>>()
            .map_err(|e| CheckpointError::Argument(format!("the cache cannot be rounded: {e}")))?;
        for ((tokens, at), cache) in tasks.into_iter().zip(rounded) {
            for (t, values) in tokens.zip(cache.chunks(head.max(1))) {
                if let Some(to) = rows.data.get_mut(t * width + at..t * width + at + head) {
                    to.copy_from_slice(values);
                }
            }
        }
        Ok(())
    }
}

impl Weights for RoundedCache<'_> {
    fn parameter(&self, name: &str, shape: &[usize]) -> Result<Arc<Vec<f32>>> {
        self.inner.parameter(name, shape)
    }

    fn linear(&self, spec: &LinearSpec, x: &Rows) -> Result<Rows> {
        self.inner.linear(spec, x)
    }

    fn keys(&self, batch: &Batch, part: CachePart, rows: &mut Rows) -> Result<()> {
        // Keys that do not fill a group of tokens have a grid of their own, so that no token of the window stays as it was.
        self.round(batch, part, rows, |cache, head| {
            let whole = cache.len() / (self.quant.group * head).max(1) * self.quant.group * head;
            let (groups, rest) = cache.split_at_mut(whole);
            self.quant.round_keys(groups, head)?;
            KvQuant { group: (rest.len() / head.max(1)).max(1), ..self.quant }.round_keys(rest, head)
        })
    }

    fn values(&self, batch: &Batch, part: CachePart, rows: &mut Rows) -> Result<()> {
        self.round(batch, part, rows, |cache, head| self.quant.round_values(cache, head))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nothing;
    impl Weights for Nothing {
        fn parameter(&self, name: &str, _: &[usize]) -> Result<Arc<Vec<f32>>> {
            Err(CheckpointError::Argument(name.into()))
        }
        fn linear(&self, spec: &LinearSpec, _: &Rows) -> Result<Rows> {
            Err(CheckpointError::Argument(spec.name.clone()))
        }
    }

    #[test]
    fn every_head_of_every_sequence_has_grids_of_its_own() {
        let (width, head, heads, offset) = (11, 3, 2, 4);
        let batch = Batch::new([[0u32; 7].as_slice(), [0u32; 4].as_slice()]);
        let data: Vec<f32> = (0..11 * width).map(|i| ((i * 37 % 101) as f32 - 50.0) * (1.0 + (i % width) as f32)).collect();
        let quant = KvQuant { kind: KvKind::Int(3), group: 4, recent: 0 };
        let cache = RoundedCache { inner: &Nothing, quant };
        let part = CachePart { offset, heads, head };
        for keys in [true, false] {
            let mut rows = Rows { width, data: data.clone() };
            if keys { cache.keys(&batch, part, &mut rows) } else { cache.values(&batch, part, &mut rows) }.unwrap();
            let at = |t: usize, c: usize| rows.data[t * width + c];
            for (t, c) in (0..11).flat_map(|t| (0..width).map(move |c| (t, c))) {
                let inside = (offset..offset + heads * head).contains(&c);
                if !inside {
                    assert_eq!(at(t, c), data[t * width + c]);
                    continue;
                }
                let members: Vec<f64> = if keys {
                    let first = if t < 4 {
                        0..4
                    } else if t < 7 {
                        4..7
                    } else {
                        7..11
                    };
                    first.map(|t| f64::from(data[t * width + c])).collect()
                } else {
                    let h = (c - offset) / head;
                    (0..head).map(|d| f64::from(data[t * width + offset + h * head + d])).collect()
                };
                let (low, high) = members.iter().fold((f64::MAX, f64::MIN), |(l, h), v| (l.min(*v), h.max(*v)));
                let step = (high - low) / 7.0;
                let error = (f64::from(at(t, c)) - f64::from(data[t * width + c])).abs();
                assert!(error <= 0.51 * step + 0.01 * high.abs().max(low.abs()), "{keys} token {t} column {c}: {error} of {step}");
            }
        }
    }

    #[test]
    fn kinds_are_read() {
        assert_eq!(kind("int4").unwrap(), KvKind::Int(4));
        assert_eq!(kind("fp8").unwrap(), KvKind::Float(Fp8::E4M3));
        assert!(kind("int9").is_err() && kind("int1").is_err() && kind("4").is_err());
    }
}
