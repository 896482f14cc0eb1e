//! Graph → MLIR module: rewrites the functions of the module that the graph was imported from.

mod attributes;

use crate::ffi::handle;
use crate::mlir_type;
use crate::store::WeightStore;
use attributes::attributes;
use icd_core::graph::{Func, Module, Op, OpKind, Region, ValueId};
use icd_core::{DType, Literal};
use melior::Context;
use melior::ir::RegionLike;
use melior::ir::attribute::{ArrayAttribute, Attribute, DenseElementsAttribute, StringAttribute, TypeAttribute};
use melior::ir::block::{Block, BlockLike};
use melior::ir::operation::{Operation, OperationBuilder, OperationLike, OperationRef};
use melior::ir::r#type::FunctionType;
use melior::ir::{Identifier, Location, Type, ValueLike};
use mlir_sys::MlirValue;
use std::collections::BTreeMap;

/// The graph cannot be written as MLIR: our bug, as passes verify what they make.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// MLIR does not accept a type or an attribute.
    #[error("internal error: MLIR does not accept '{text}' of '{op}'")]
    Rejected {
        /// Operation name.
        op: String,
        /// The text.
        text: String,
    },
    /// A value is used that nothing defines.
    #[error("internal error: '{op}' uses an undefined value %{value}")]
    Undefined {
        /// Operation name.
        op: String,
        /// The value.
        value: u32,
    },
    /// MLIR refused to build an operation.
    #[error("internal error: cannot build '{op}': {source}")]
    Build {
        /// Operation name.
        op: String,
        /// Why.
        source: melior::Error,
    },
}

/// Writes `graph` into `module`, which it was imported from and which has not changed since: bodies and signatures of its functions are replaced,
/// functions that are gone are erased. Named constants become `icd.weight` and go to `weights`.
///
/// # Errors
/// See [`ExportError`]; the module may then be half-written, so the caller fails the pass.
pub fn export(graph: &Module, module: OperationRef<'_, '_>, weights: &WeightStore) -> Result<(), ExportError> {
    let context = module.context();
    let context = handle::context(&context);
    let Some(block) = module.regions().next().and_then(|r| r.first_block()) else { return Ok(()) };
    let mut next = block.first_operation();
    while let Some(op) = next {
        next = op.next_in_block();
        if op.name().as_string_ref().as_str() != Ok("func.func") || !is_modelled(&op) {
            continue;
        }
        let address = op.to_raw().ptr as u64;
        match graph.funcs.iter().find(|f| f.handle == address) {
            Some(func) => FuncWriter { context, func, weights, values: BTreeMap::new(), old: BTreeMap::new() }.write(op)?,
            None => handle::erase(op),
        }
    }
    Ok(())
}

/// Whether import turned the function into a graph (see [`crate::import`]).
fn is_modelled(op: &OperationRef<'_, '_>) -> bool {
    op.regions().next().and_then(|r| r.first_block()).is_some_and(|b| b.next_in_region().is_none())
}

struct FuncWriter<'c, 'f> {
    context: &'c Context,
    func: &'f Func,
    weights: &'f WeightStore,
    values: BTreeMap<ValueId, MlirValue>,
    /// Addresses of imported values that opaque operations refer to, and what they are now.
    old: BTreeMap<u64, MlirValue>,
}

impl<'c> FuncWriter<'c, '_> {
    fn write(mut self, op: OperationRef<'_, '_>) -> Result<(), ExportError> {
        let body = self.region(&self.func.body, "func.return", handle::location(0).unwrap_or(Location::unknown(self.context)))?;
        let types = |values: &[ValueId]| values.iter().map(|&v| self.ty(v, "func.func")).collect::<Result<Vec<_>, _>>();
        let signature = FunctionType::new(self.context, &types(&self.func.body.args)?, &types(&self.func.body.results)?);
        let dicts = |handles: &mut dyn Iterator<Item = u64>| {
            let empty = Attribute::parse(self.context, "{}");
            let all: Vec<Attribute<'_>> = handles.filter_map(|h| handle::attribute(self.context, h).or(empty)).collect();
            ArrayAttribute::new(self.context, &all)
        };
        let arg_attrs = dicts(&mut self.func.params.iter().map(|p| p.attrs));
        let result_attrs = dicts(&mut self.func.result_attrs.iter().copied());
        if let Some(region) = op.regions().next() {
            handle::replace_block(region, body);
        }
        handle::set_attribute(op, "function_type", TypeAttribute::new(signature.into()).into());
        if self.func.params.iter().any(|p| p.attrs != 0) || op.has_attribute("arg_attrs") {
            handle::set_attribute(op, "arg_attrs", arg_attrs.into());
        }
        if self.func.result_attrs.iter().any(|&a| a != 0) || op.has_attribute("res_attrs") {
            handle::set_attribute(op, "res_attrs", result_attrs.into());
        }
        Ok(())
    }

    fn ty(&self, v: ValueId, op: &str) -> Result<Type<'c>, ExportError> {
        let ty = self.func.ty(v);
        mlir_type::build(self.context, ty).ok_or_else(|| ExportError::Rejected { op: op.into(), text: mlir_type::print(ty) })
    }

    fn raw(&self, v: ValueId, op: &str) -> Result<MlirValue, ExportError> {
        self.values.get(&v).copied().ok_or_else(|| ExportError::Undefined { op: op.into(), value: v.0 })
    }

    fn region(&mut self, region: &Region, terminator: &str, location: Location<'c>) -> Result<Block<'c>, ExportError> {
        let block = Block::new(&[]);
        for &arg in &region.args {
            let value = block.add_argument(self.ty(arg, terminator)?, location);
            self.values.insert(arg, value.to_raw());
        }
        for op in &region.ops {
            let built = self.operation(op)?;
            let placed = block.append_operation(built);
            for (&id, result) in op.results.iter().zip(placed.results()) {
                self.values.insert(id, result.to_raw());
            }
        }
        let operands = region.results.iter().map(|&v| self.raw(v, terminator).map(handle::value)).collect::<Result<Vec<_>, _>>()?;
        let end = OperationBuilder::new(terminator, location).add_operands(&operands).build();
        block.append_operation(end.map_err(|source| ExportError::Build { op: terminator.into(), source })?);
        Ok(block)
    }

    fn operation(&mut self, op: &Op) -> Result<Operation<'c>, ExportError> {
        let name = op.kind.name();
        let location = handle::location(op.loc.0).unwrap_or(Location::unknown(self.context));
        let raw_operands = op.operands.iter().map(|&v| self.raw(v, &name)).collect::<Result<Vec<_>, _>>()?;
        if let OpKind::Opaque(opaque) = &op.kind {
            self.old.extend(opaque.captured.iter().copied().zip(raw_operands));
            return Ok(handle::clone_operation(opaque.handle, &self.old));
        }
        let operands: Vec<_> = raw_operands.into_iter().map(handle::value).collect();
        let types = op.results.iter().map(|&v| self.ty(v, &name)).collect::<Result<Vec<_>, _>>()?;
        let mut named: BTreeMap<String, Attribute<'c>> = BTreeMap::new();
        for (key, value) in handle::dictionary(self.context, op.attrs) {
            named.insert(key.as_string_ref().as_str().unwrap_or_default().into(), value);
        }
        if let OpKind::Constant(literal) = &op.kind {
            let (key, value) = self.constant(literal, types.first().copied())?;
            named.insert(key.into(), value);
        }
        for (key, text) in attributes(&op.kind) {
            let value = Attribute::parse(self.context, &text).ok_or(ExportError::Rejected { op: name.clone(), text })?;
            named.insert(key.into(), value);
        }
        let named: Vec<_> = named.iter().map(|(k, v)| (Identifier::new(self.context, k), *v)).collect();
        let terminator = if matches!(op.kind, OpKind::Fusion(_)) { "icd.yield" } else { "stablehlo.return" };
        let regions =
            op.regions.iter().map(|r| self.region(r, terminator, location).map(handle::region_of)).collect::<Result<Vec<_>, _>>()?;
        OperationBuilder::new(&name, location)
            .add_operands(&operands)
            .add_results(&types)
            .add_attributes(&named)
            .add_regions_vec(regions)
            .build()
            .map_err(|source| ExportError::Build { op: name, source })
    }

    fn constant(&self, literal: &Literal, ty: Option<Type<'c>>) -> Result<(&'static str, Attribute<'c>), ExportError> {
        if let Some(name) = literal.name() {
            self.weights.insert(literal);
            return Ok(("name", StringAttribute::new(self.context, name).into()));
        }
        let rejected = || ExportError::Rejected { op: "stablehlo.constant".into(), text: format!("{literal:?}") };
        let ty = ty.ok_or_else(rejected)?;
        if literal.ty().quant.is_some() {
            return Err(rejected());
        }
        let value: Attribute<'c> = if literal.ty().dtype == DType::I1 {
            let bits: Vec<i32> = literal.to_bytes().into_iter().map(i32::from).collect();
            match literal.as_splat().filter(|_| literal.is_splat()) {
                Some(bit) => DenseElementsAttribute::bool_splat(ty, bit.first() == Some(&1)).into(),
                None => DenseElementsAttribute::bool_values(ty, &bits).into(),
            }
        } else {
            DenseElementsAttribute::raw_buffer(ty, literal.stored_bytes()).into()
        };
        Ok(("value", value))
    }
}
