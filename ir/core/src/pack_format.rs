//! (in work)
/// Placeholder until the packing formats land.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct PackFormat {}
