//! Replaces the entry function's weight arguments by the tensors of a safetensors file.
//!
//! Before:
//! ```text
//! func.func @main(%w: tensor<4x8xf32>, %x: tensor<2x4xf32>) -> tensor<2x8xf32> { … }
//! ```
//! After, with a file whose metadata says `icd.arguments = ["dense.w", null]`:
//! ```text
//! func.func @main(%x: tensor<2x4xf32>) -> tensor<2x8xf32> { %w = icd.weight "dense.w" : tensor<4x8xf32> … }
//! ```
//!
//! The metadata entry has one name or `null` an argument, in order (`examples/minilm/export.py` writes it). The file is mapped, not read: a tensor's
//! bytes are touched when something uses them. Cost: linear in the number of arguments.
//!
//! Never: converts or reshapes a tensor; a mismatch is an error.

use crate::{BindWeightsOptions, Pass, PassContext, PassError};
use icd_core::graph::{Module, Op, OpKind};
use icd_core::weights::{WeightError, WeightFile};

/// The pass.
#[derive(Clone, Debug)]
pub struct BindWeights {
    /// Options.
    pub options: BindWeightsOptions,
}

/// Why weights cannot be bound. User input at fault.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The option `file` is empty.
    #[error("no weight file given; say icd-bind-weights{{file=model.safetensors}}")]
    NoFile,
    /// The file cannot be used.
    #[error(transparent)]
    File(#[from] WeightError),
    /// The module has no entry function.
    #[error("the module has no entry function; name it @main or make it the only public one")]
    NoEntry,
    /// The file does not say which tensor is which argument.
    #[error(
        "{file}: the metadata has no 'icd.arguments', the list of tensor names by argument; write it when exporting (docs: user guide, weights)"
    )]
    NoArguments {
        /// The file.
        file: String,
    },
    /// The list does not fit the function.
    #[error("{file}: 'icd.arguments' has {listed} entries, but @{func} has {params} arguments; export program and weights together")]
    Count {
        /// The file.
        file: String,
        /// Entries of the list.
        listed: usize,
        /// Function.
        func: String,
        /// Its arguments.
        params: usize,
    },
    /// A tensor has another type than the argument that it is for.
    #[error("{file}: tensor '{tensor}' is {found}, but argument {index} of @{func} is {wanted}")]
    Type {
        /// The file.
        file: String,
        /// Tensor.
        tensor: String,
        /// Its type.
        found: String,
        /// Argument number, from 0.
        index: usize,
        /// Function.
        func: String,
        /// Type of the argument.
        wanted: String,
    },
}

impl Pass for BindWeights {
    fn run(&self, module: &mut Module, cx: &mut PassContext) -> Result<(), PassError> {
        Ok(self.bind(module, cx)?)
    }
}

impl BindWeights {
    #[expect(clippy::result_large_err, reason = "an error ends the run; its size does not matter")]
    fn bind(&self, module: &mut Module, cx: &mut PassContext) -> Result<(), BindError> {
        let path = self.options.file.0.first().ok_or(BindError::NoFile)?;
        let file = WeightFile::open(path)?;
        let names = file.arguments()?.ok_or_else(|| BindError::NoArguments { file: path.clone() })?;
        let entry = module.entry().ok_or(BindError::NoEntry)?.name.clone();
        let func = module.funcs.iter_mut().find(|f| f.name == entry).ok_or(BindError::NoEntry)?;
        if names.len() != func.params.len() {
            return Err(BindError::Count { file: path.clone(), listed: names.len(), func: entry.to_string(), params: func.params.len() });
        }
        let mut constants = Vec::new();
        let mut kept = Vec::new();
        for (index, (param, name)) in func.params.iter().zip(&names).enumerate() {
            let Some(name) = name else {
                kept.push(param.clone());
                continue;
            };
            let literal = file.tensor(name)?.clone();
            let wanted = func.ty(param.value);
            if wanted.as_tensor() != Some(literal.ty()) {
                return Err(BindError::Type {
                    file: path.clone(),
                    tensor: name.clone(),
                    found: literal.ty().to_string(),
                    index,
                    func: entry.to_string(),
                    wanted: wanted.to_string(),
                });
            }
            constants.push(Op {
                kind: OpKind::Constant(literal.named(name.as_str())),
                operands: Vec::new(),
                results: vec![param.value],
                regions: Vec::new(),
                loc: Default::default(),
                attrs: 0,
            });
        }
        cx.count("weights", constants.len());
        func.body.args = kept.iter().map(|p| p.value).collect();
        func.params = kept;
        func.body.ops.splice(0..0, constants);
        Ok(())
    }
}
