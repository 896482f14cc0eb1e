//! Which arms are compared, and what they must reach.

use super::GateError;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// What an arm stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Role {
    /// Dense, channels in the order of the model.
    #[serde(rename = "A")]
    Dense,
    /// Transformed, channels in the order of the model.
    #[serde(rename = "B")]
    Transformed,
    /// Permuted, then transformed.
    #[serde(rename = "C1")]
    Permuted,
    /// Permuted, transformed, and permuted again for the state that the transform left.
    #[serde(rename = "C2")]
    Repermuted,
    /// Dense, in a random order that folds away.
    #[serde(rename = "NA")]
    NullDense,
    /// A random order that folds away, then transformed.
    #[serde(rename = "NB")]
    NullTransformed,
}

impl Role {
    /// Its letter.
    pub fn name(self) -> &'static str {
        match self {
            Role::Dense => "A",
            Role::Transformed => "B",
            Role::Permuted => "C1",
            Role::Repermuted => "C2",
            Role::NullDense => "NA",
            Role::NullTransformed => "NB",
        }
    }

    /// What it stands for.
    pub fn meaning(self) -> &'static str {
        match self {
            Role::Dense => "dense",
            Role::Transformed => "transform only",
            Role::Permuted => "permute, transform",
            Role::Repermuted => "permute, transform, re-permute",
            Role::NullDense => "dense, random foldable permutation",
            Role::NullTransformed => "random foldable permutation, transform",
        }
    }

    /// The arm that a null control must not differ from.
    pub fn control_of(self) -> Option<Role> {
        match self {
            Role::NullDense => Some(Role::Dense),
            Role::NullTransformed => Some(Role::Transformed),
            _ => None,
        }
    }
}

/// One arm.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arm {
    /// What it stands for; one arm a role.
    pub role: Role,
    /// Its artifact, relative to the plan's folder.
    pub artifact: PathBuf,
    /// The pipeline that made it.
    pub pipeline: String,
    /// Digest of what it computes: arms of one digest are the same program.
    pub digest: String,
}

/// How outputs are compared with those of the reference.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Score {
    /// Cosine of each sample's outputs, taken as one vector.
    #[default]
    Cosine,
    /// Share of positions whose largest entry along the last axis is the reference's.
    Top1,
}

/// What the re-permuted arm must reach against the dense one.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Targets {
    /// Relative change of latency, at most.
    pub latency: f64,
    /// Relative change of energy a call, at most.
    pub energy: f64,
    /// Change of the L2 hit rate in percentage points, at least.
    pub l2_points: f64,
    /// Loss of quality in percentage points, at most.
    pub quality_points: f64,
    /// Relative change that a null control may show, at most.
    pub null: f64,
}

impl Default for Targets {
    fn default() -> Self {
        Targets { latency: -0.20, energy: -0.15, l2_points: 10.0, quality_points: 0.1, null: 0.01 }
    }
}

/// What a gate compares. Written by `icd run` as `gate.json`, before anything is measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Model.
    pub model: String,
    /// The arms.
    pub arms: Vec<Arm>,
    /// Held-out inputs by name, each of the signature's shape or with a leading dimension of samples; relative to the folder.
    pub inputs: Option<PathBuf>,
    /// Outputs of the original program on them, by name, with the leading dimension.
    pub reference: Option<PathBuf>,
    /// How outputs are compared.
    #[serde(default)]
    pub score: Score,
    /// What is to be reached.
    #[serde(default)]
    pub targets: Targets,
}

impl Plan {
    /// File name of a plan in its folder.
    pub const FILE: &str = "gate.json";

    /// Reads the plan of `folder`.
    ///
    /// # Errors
    /// No such file, no plan, no dense arm, or two arms of one role.
    pub fn read(folder: &Path) -> Result<Self, GateError> {
        let path = folder.join(Self::FILE);
        let bad = |what: String| GateError::Plan { path: path.clone(), what };
        let text = std::fs::read_to_string(&path).map_err(|e| bad(format!("{e}; `icd run` writes it")))?;
        let plan: Plan = serde_json::from_str(&text).map_err(|e| bad(e.to_string()))?;
        let mut roles: Vec<Role> = plan.arms.iter().map(|arm| arm.role).collect();
        roles.sort();
        if roles.windows(2).any(|pair| matches!(pair, [a, b] if a == b)) {
            return Err(bad("two arms have the same role".into()));
        }
        if !roles.contains(&Role::Dense) {
            return Err(bad("there is no arm \"A\" to compare the others with".into()));
        }
        Ok(plan)
    }

    /// The arm of a role.
    pub fn arm(&self, role: Role) -> Option<&Arm> {
        self.arms.iter().find(|arm| arm.role == role)
    }
}
