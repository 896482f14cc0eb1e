//! Key-value caches: rounding (KIVI, Liu et al., arXiv 2402.02750) and eviction (H2O, Zhang et al., 2306.14048; SnapKV, Li et al., 2404.14469).
//!
//! ```text
//! keys   [tokens][d]   a grid for each channel over `group` tokens     large channels stay among themselves
//! values [tokens][d]   a grid for each token over `group` channels
//! the last `recent` tokens, and those that do not fill a group of keys, stay as they are
//! ```
//!
//! A cache here is one head of one layer. Integers are x ≈ code · s + min; FP8 uses one scale where an integer grid would have two numbers.

use crate::Fp8;

/// What cache entries are stored as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KvKind {
    /// Integers of 2 to 8 bits with scale and zero point a group.
    Int(u8),
    /// Eight-bit floats with a scale a group.
    Float(Fp8),
}

/// How a cache is rounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvQuant {
    /// Element kind.
    pub kind: KvKind,
    /// Tokens (keys) or channels (values) that share a grid.
    pub group: usize,
    /// Latest tokens that stay as they are.
    pub recent: usize,
}

/// A cache cannot be compressed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum KvError {
    /// Elements that do not make whole tokens, or scores of another number of tokens.
    #[error("{found} {what} do not fit {tokens} tokens of {width}")]
    Shape {
        /// Of what.
        what: &'static str,
        /// Given.
        found: usize,
        /// Tokens.
        tokens: usize,
        /// Elements a token.
        width: usize,
    },
    /// Elements that f16 scales cannot span, NaN or infinity.
    #[error("elements from {low} to {high} cannot be rounded: they must be finite and within f16")]
    Range {
        /// Smallest.
        low: f32,
        /// Largest.
        high: f32,
    },
    /// Options out of range.
    #[error("{0}")]
    Argument(&'static str),
}

impl KvQuant {
    fn check(&self, len: usize, d: usize) -> Result<usize, KvError> {
        if self.group == 0 || matches!(self.kind, KvKind::Int(bits) if !(2..=8).contains(&bits)) {
            return Err(KvError::Argument("groups have at least one element, integers 2 to 8 bits"));
        }
        if d == 0 || !len.is_multiple_of(d) {
            return Err(KvError::Shape { what: "cache elements", found: len, tokens: len / d.max(1), width: d });
        }
        Ok((len / d).saturating_sub(self.recent))
    }

    /// Rounds keys `[tokens][d]` channel by channel over whole groups of tokens; how many tokens were rounded.
    ///
    /// # Errors
    /// Elements that do not make tokens of `d`, options out of range, elements that are not finite or beyond f16; earlier groups are rounded then.
    pub fn round_keys(&self, keys: &mut [f32], d: usize) -> Result<usize, KvError> {
        let tokens = self.check(keys.len(), d)? / self.group * self.group;
        let mut column = vec![0f32; self.group];
        for rows in keys[..tokens * d].chunks_mut(self.group * d) {
            for c in 0..d {
                column.iter_mut().zip(rows.chunks(d)).for_each(|(v, row)| *v = row[c]);
                self.round(&mut column)?;
                column.iter().zip(rows.chunks_mut(d)).for_each(|(v, row)| row[c] = *v);
            }
        }
        Ok(tokens)
    }

    /// Rounds values `[tokens][d]` token by token over groups of channels; how many tokens were rounded.
    ///
    /// # Errors
    /// As [`Self::round_keys`].
    pub fn round_values(&self, values: &mut [f32], d: usize) -> Result<usize, KvError> {
        let tokens = self.check(values.len(), d)?;
        values[..tokens * d].chunks_mut(d).flat_map(|row| row.chunks_mut(self.group)).try_for_each(|group| self.round(group))?;
        Ok(tokens)
    }

    /// Bits an element of a full group: code, and the group's share of its scale and, for integers, its minimum (f16 each).
    pub fn bits_per_element(&self) -> f64 {
        match self.kind {
            KvKind::Int(bits) => f64::from(bits) + 32.0 / self.group as f64,
            KvKind::Float(_) => 8.0 + 16.0 / self.group as f64,
        }
    }

    fn round(&self, group: &mut [f32]) -> Result<(), KvError> {
        if let Some(bad) = group.iter().find(|v| !v.is_finite()) {
            return Err(KvError::Range { low: *bad, high: *bad });
        }
        let bits = match self.kind {
            KvKind::Float(format) => {
                format.round_rows(group, group.len());
                return Ok(());
            }
            KvKind::Int(bits) => bits,
        };
        let levels = f32::from((1u16 << bits) - 1);
        let (low, high) = group.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(l, h), v| (l.min(*v), h.max(*v)));
        let stored = |v: f32| half::f16::from_f32(v).to_f32();
        let (scale, least) = (stored(high / levels - low / levels), stored(low));
        if !scale.is_finite() || !least.is_finite() {
            return Err(KvError::Range { low, high });
        }
        let code = |v: f32| if scale > 0.0 { ((v - least) / scale).round_ties_even().clamp(0.0, levels) } else { 0.0 };
        group.iter_mut().for_each(|v| *v = code(*v) * scale + least);
        Ok(())
    }
}

/// Which tokens of a head stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Eviction {
    /// Those that collected the most attention, and the latest.
    H2O {
        /// Tokens kept for their attention.
        heavy: usize,
        /// Latest tokens kept.
        recent: usize,
    },
    /// Those that the last `window` queries attend to, smoothed over `pool` neighbours, and the window itself.
    SnapKv {
        /// Tokens kept in all.
        capacity: usize,
        /// Latest tokens, which choose and stay.
        window: usize,
        /// Width of the average; odd.
        pool: usize,
    },
}

impl Eviction {
    /// The tokens that stay, ascending. `attention[queries][tokens]` are probabilities after softmax; SnapKV reads its last `window` rows, H2O all.
    ///
    /// # Errors
    /// Probabilities that do not make rows of `tokens`; an even pool; a capacity below the window.
    pub fn keep(&self, attention: &[f32], tokens: usize) -> Result<Vec<usize>, KvError> {
        if tokens == 0 || !attention.len().is_multiple_of(tokens) {
            return Err(KvError::Shape { what: "attention probabilities", found: attention.len(), tokens, width: 1 });
        }
        let rows: Vec<&[f32]> = attention.chunks(tokens).collect();
        let column_sums = |rows: &[&[f32]]| -> Vec<f64> { (0..tokens).map(|t| rows.iter().map(|r| f64::from(r[t])).sum()).collect() };
        let (scores, heavy, recent) = match *self {
            Self::H2O { heavy, recent } => (column_sums(&rows), heavy, recent),
            Self::SnapKv { capacity, window, pool } => {
                if pool % 2 == 0 || capacity < window {
                    return Err(KvError::Argument("the pool is odd and the capacity at least the window"));
                }
                let sums = column_sums(&rows[rows.len().saturating_sub(window)..]);
                let reach = pool / 2;
                let prefix = tokens.saturating_sub(window);
                let smooth =
                    |t: usize| sums[t.saturating_sub(reach)..(t + reach + 1).min(prefix.max(t + 1))].iter().sum::<f64>() / pool as f64;
                ((0..tokens).map(smooth).collect(), capacity - window, window)
            }
        };
        let prefix = tokens.saturating_sub(recent);
        let mut chosen: Vec<usize> = (0..prefix).collect();
        chosen.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
        chosen.truncate(heavy);
        chosen.sort_unstable();
        chosen.extend(prefix..tokens);
        Ok(chosen)
    }
}

/// Moves the rows `kept` (ascending) of a cache `[tokens][d]` to its front and cuts the rest off.
///
/// # Errors
/// Elements that do not make tokens of `d`; rows out of order or beyond the cache. The cache is unchanged then.
pub fn compact(cache: &mut Vec<f32>, d: usize, kept: &[usize]) -> Result<(), KvError> {
    if d == 0 || !cache.len().is_multiple_of(d) {
        return Err(KvError::Shape { what: "cache elements", found: cache.len(), tokens: cache.len() / d.max(1), width: d });
    }
    let tokens = cache.len() / d;
    if kept.windows(2).any(|w| w[0] >= w[1]) || kept.last().is_some_and(|t| *t >= tokens) {
        return Err(KvError::Argument("kept tokens must ascend and lie within the cache"));
    }
    for (to, &from) in kept.iter().enumerate() {
        cache.copy_within(from * d..(from + 1) * d, to * d);
    }
    cache.truncate(kept.len() * d);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::noise;

    #[test]
    fn keys_round_by_channel_and_values_by_token() {
        let (tokens, d) = (75, 24);
        let mut keys = noise(tokens * d, 1);
        keys.iter_mut().skip(3).step_by(d).for_each(|v| *v = *v * 50.0 + 100.0);
        for kind in [KvKind::Int(8), KvKind::Int(4), KvKind::Float(Fp8::E4M3)] {
            let quant = KvQuant { kind, group: 16, recent: 10 };
            let mut rounded = keys.clone();
            assert_eq!(quant.round_keys(&mut rounded, d), Ok(64));
            assert_eq!(rounded[64 * d..], keys[64 * d..]);
            for g in 0..4 {
                for c in 0..d {
                    let of = |x: &[f32]| -> Vec<f32> { (g * 16..g * 16 + 16).map(|t| x[t * d + c]).collect() };
                    let (a, b) = (of(&keys), of(&rounded));
                    let (low, high) = a.iter().fold((f32::MAX, f32::MIN), |(l, h), v| (l.min(*v), h.max(*v)));
                    let bound = match kind {
                        KvKind::Int(bits) => (high - low) / f32::from((1u16 << bits) - 1) * 0.51 + low.abs().max(high.abs()) / 1000.0,
                        KvKind::Float(_) => low.abs().max(high.abs()) / 16.0 * 1.001,
                    };
                    assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() <= bound), "{kind:?}");
                }
            }
            let mut values = keys.clone();
            assert_eq!(quant.round_values(&mut values, d), Ok(65));
            assert_eq!(values[65 * d..], keys[65 * d..]);
        }
        let error = |by_channel: bool| {
            let quant = KvQuant { kind: KvKind::Int(4), group: if by_channel { 25 } else { d }, recent: 0 };
            let mut r = keys.clone();
            if by_channel {
                quant.round_keys(&mut r, d).unwrap()
            } else {
                quant.round_values(&mut r, d).unwrap()
            };
            r.iter().zip(&keys).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>()
        };
        assert!(error(true) < error(false), "an outlier channel costs less when it has grids of its own");
        assert_eq!(KvQuant { kind: KvKind::Int(4), group: 32, recent: 0 }.bits_per_element(), 5.0);
    }

    #[test]
    fn eviction_keeps_what_was_attended_to() {
        let tokens = 12;
        let mut attention = vec![0.01f32; 4 * tokens];
        attention[2] = 0.9;
        attention[tokens + 5] = 0.8;
        assert_eq!(Eviction::H2O { heavy: 2, recent: 3 }.keep(&attention, tokens), Ok(vec![2, 5, 9, 10, 11]));
        assert_eq!(Eviction::H2O { heavy: 50, recent: 30 }.keep(&attention, tokens), Ok((0..12).collect()));
        attention[3 * tokens + 7] = 0.5;
        let snap = Eviction::SnapKv { capacity: 5, window: 2, pool: 3 };
        assert_eq!(snap.keep(&attention, tokens), Ok(vec![6, 7, 8, 10, 11]));
        assert!(Eviction::SnapKv { capacity: 1, window: 2, pool: 3 }.keep(&attention, tokens).is_err());
        assert!(Eviction::SnapKv { capacity: 5, window: 2, pool: 2 }.keep(&attention, tokens).is_err());
        assert!(snap.keep(&attention[1..], tokens).is_err() && snap.keep(&[], 0).is_err());
        let mut cache: Vec<f32> = (0..24).map(|v| v as f32).collect();
        compact(&mut cache, 2, &[2, 5, 11]).unwrap();
        assert_eq!(cache, [4.0, 5.0, 10.0, 11.0, 22.0, 23.0]);
        assert!(compact(&mut cache, 2, &[3]).is_err() && compact(&mut cache, 2, &[1, 1]).is_err() && compact(&mut cache, 4, &[0]).is_err());
        compact(&mut cache, 2, &[]).unwrap();
        assert!(cache.is_empty());
    }

    #[test]
    fn constant_and_badly_shaped_caches() {
        let quant = KvQuant { kind: KvKind::Int(2), group: 2, recent: 0 };
        let mut same = [0.5; 8];
        quant.round_keys(&mut same, 2).unwrap();
        assert_eq!(same, [0.5; 8]);
        assert!(quant.round_values(&mut [0.0; 3], 2).is_err() && quant.round_keys(&mut [0.0; 2], 0).is_err());
        assert!(KvQuant { group: 0, ..quant }.round_keys(&mut same, 2).is_err());
        assert!(KvQuant { kind: KvKind::Int(9), ..quant }.round_keys(&mut same, 2).is_err());
        assert_eq!(quant.round_keys(&mut [], 4), Ok(0));
        for bad in [f32::NAN, f32::INFINITY, f32::MAX] {
            assert!(matches!(quant.round_values(&mut [bad, 0.0], 2), Err(KvError::Range { .. })));
        }
    }
}
