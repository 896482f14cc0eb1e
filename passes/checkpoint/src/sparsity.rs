//! Which weights of a layer stay and how they are chosen, by the names that the command line gives: `2:4`, `4:8`, `64:2:8`; `sparsegpt`.

use crate::error::CheckpointError;
use icd_quant::{Pattern, Sparsifier};
use serde::{Serialize, Serializer};
use std::str::FromStr;

/// How the weights that stay are chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Prune {
    /// The largest stay.
    Magnitude,
    /// The largest stay, weighted by the size of the activations they multiply.
    Wanda,
    /// By second-order information, the others compensated.
    #[default]
    SparseGpt,
}

impl Prune {
    /// Rounds of descent after SparseGPT's pass.
    const SWEEPS: usize = 3;

    /// The algorithm.
    pub fn sparsifier(self) -> Sparsifier {
        match self {
            Prune::Magnitude => Sparsifier::Magnitude,
            Prune::Wanda => Sparsifier::Wanda,
            Prune::SparseGpt => Sparsifier::SparseGpt { damping: 0.01, sweeps: Self::SWEEPS },
        }
    }
}

/// A pattern of zeros and how it is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Sparsity {
    /// Which weights may stay.
    #[serde(serialize_with = "name")]
    pub pattern: Pattern,
    /// How they are chosen.
    pub prune: Prune,
    /// Reorder the input channels so that more of what matters stays; an explicit gather when the model runs.
    pub permute: bool,
}

impl Sparsity {
    /// The part of the weights that stays.
    pub fn density(&self) -> f64 {
        match self.pattern {
            Pattern::NofM { keep, of } => keep as f64 / of.max(1) as f64,
            Pattern::Venom { m, .. } => 2.0 / m.max(1) as f64,
        }
    }
}

fn name<S: Serializer>(pattern: &Pattern, to: S) -> Result<S::Ok, S::Error> {
    match pattern {
        Pattern::NofM { keep, of } => to.serialize_str(&format!("{keep}:{of}")),
        Pattern::Venom { v, m } => to.serialize_str(&format!("{v}:2:{m}")),
    }
}

/// Reads `N:M` (N of M consecutive input channels stay) or `V:2:M` (VENOM).
///
/// # Errors
/// Another form, or sizes that no kernel has.
pub fn pattern(text: &str) -> Result<Pattern, CheckpointError> {
    let wrong = || {
        let what = "give N:M with N at most M, or V:2:M; M must divide 128 (2:4, 4:8, 64:2:8)";
        CheckpointError::Argument(format!("sparsity '{text}' is not known: {what}"))
    };
    let parts = text.split(':').map(usize::from_str).collect::<Result<Vec<_>, _>>().map_err(|_| wrong())?;
    match *parts.as_slice() {
        [keep, of] if keep > 0 && keep <= of && 128 % of == 0 => Ok(Pattern::NofM { keep, of }),
        [v, 2, m] if v > 0 && v <= 256 && m >= 4 && 128 % m == 0 => Ok(Pattern::Venom { v, m }),
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_read_and_wrong_ones_refused() {
        assert_eq!(pattern("2:4").unwrap(), Pattern::NofM { keep: 2, of: 4 });
        assert_eq!(pattern("64:2:8").unwrap(), Pattern::Venom { v: 64, m: 8 });
        for wrong in ["", "2", "5:4", "0:4", "2:5", "64:3:8", "0:2:8", "1:2:3:4", "a:b", "64:2:2"] {
            assert!(pattern(wrong).is_err(), "{wrong}");
        }
    }
}
