//! Names of what weights and activations become: `w4a16`, `w8a8`, `w4a4`, `sparse24`.

use crate::error::{CheckpointError, Result};
use serde::Serialize;
use std::str::FromStr;

/// What becomes of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Scheme {
    /// Bits of a weight.
    pub bits: u8,
    /// Bits of an activation, rounded for each token when the model runs; none: activations stay floats.
    pub activation_bits: Option<u8>,
}

impl FromStr for Scheme {
    type Err = CheckpointError;

    fn from_str(text: &str) -> Result<Self> {
        let known = || CheckpointError::Argument(format!("scheme '{text}' is not known: give w{{2..8}}a16, or w{{2..8}}a{{4..8}}"));
        let (weight, activation) = text.strip_prefix('w').and_then(|t| t.split_once('a')).ok_or_else(known)?;
        let parse = |t: &str| t.parse::<u8>().map_err(|_| known());
        let (bits, activation) = (parse(weight)?, parse(activation)?);
        if !(2..=8).contains(&bits) || !matches!(activation, 4..=8 | 16) {
            return Err(known());
        }
        Ok(Scheme { bits, activation_bits: (activation < 16).then_some(activation) })
    }
}
