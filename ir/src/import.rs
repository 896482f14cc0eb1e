//! MLIR module → graph.
//!
//! Every `func.func` with a single-block body becomes a `graph::Func`. Operations that the graph does not model, and functions with several
//! blocks, are kept whole: the first as [`OpKind::Opaque`] with handles into the MLIR module, which stay valid while it lives; the second are left
//! alone by import and export. Attributes that no field of an operation models are kept as a handle too, so that nothing is lost on the way back.

mod attributes;
mod kind;

use crate::ffi::handle;
use crate::mlir_type::TypeReader;
use crate::store::WeightStore;
use attributes::Attributes;
use icd_core::ValueType;
use icd_core::graph::{Func, Loc, Module, Op, OpKind, Opaque, Param, Region, Value, ValueId};
use melior::ir::ValueLike;
use melior::ir::attribute::{ArrayAttribute, StringAttribute};
use melior::ir::block::{BlockLike, BlockRef};
use melior::ir::operation::{OperationLike, OperationRef};
use melior::ir::{Location, Value as MlirValue};
use melior::ir::{RegionLike, RegionRef};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Why a module cannot be imported. User input at fault unless said otherwise.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// An attribute is missing or not of the form that the operation wants.
    #[error("{location}: '{op}' has a bad or missing attribute '{attribute}': {found}")]
    Attribute {
        /// Where.
        location: String,
        /// Operation name.
        op: String,
        /// Attribute name.
        attribute: String,
        /// What stands there.
        found: String,
    },
    /// A value is used that no operation before it defines (graph regions are not supported).
    #[error("{location}: '{op}' uses a value that is not defined before it")]
    UseBeforeDefinition {
        /// Where.
        location: String,
        /// Operation name.
        op: String,
    },
    /// Operation has another number of operands or results than its meaning needs.
    #[error("{location}: '{op}' has {operands} operands and {results} results, which is not its form")]
    Arity {
        /// Where.
        location: String,
        /// Operation name.
        op: String,
        /// Number of operands.
        operands: usize,
        /// Number of results.
        results: usize,
    },
}

/// Reads a `builtin.module`. `icd.weight` operations take their tensors from `weights`; a name that is not there stays opaque.
///
/// # Errors
/// See [`ImportError`]; verified modules import.
pub fn import(module: OperationRef<'_, '_>, weights: &WeightStore) -> Result<Module, ImportError> {
    let mut out = Module { name: symbol(&module), funcs: Vec::new() };
    let Some(block) = module.regions().next().and_then(|r| r.first_block()) else { return Ok(out) };
    let mut types = TypeReader::default();
    let mut next = block.first_operation();
    while let Some(op) = next {
        next = op.next_in_block();
        if op.name().as_string_ref().as_str() == Ok("func.func")
            && let Some(body) = single_block(op.regions().next())
        {
            let reader = FuncReader { func: empty_func(&op), values: BTreeMap::new(), types: &mut types, weights };
            out.funcs.push(reader.read(op, body)?);
        }
    }
    Ok(out)
}

/// Text of a location, for diagnostics: `file.mlir:3:7` where it has a file, else MLIR's form.
pub fn location_text(loc: Loc) -> String {
    handle::location(loc.0).map_or_else(|| "unknown location".into(), |l| place(l))
}

/// Text of a string attribute of an operation that was kept whole; empty when there is none. The module must still live.
pub fn opaque_attribute(op: &Opaque, name: &str) -> String {
    handle::string_attribute(op.handle, name)
}

/// A source location as text, `file:line:column` where it is one.
pub fn place(location: Location<'_>) -> String {
    location.to_string().trim_start_matches("loc(").trim_end_matches(')').replace('"', "")
}

fn symbol(op: &OperationRef<'_, '_>) -> Option<Arc<str>> {
    let attr = op.attribute("sym_name").ok()?;
    StringAttribute::try_from(attr).ok().map(|s| s.value().into())
}

fn single_block<'c, 'a>(region: Option<RegionRef<'c, 'a>>) -> Option<BlockRef<'c, 'a>> {
    let block = region?.first_block()?;
    block.next_in_region().is_none().then_some(block)
}

fn empty_func(op: &OperationRef<'_, '_>) -> Func {
    let private = op.attribute("sym_visibility").is_ok_and(|v| v.to_string() == "\"private\"");
    Func {
        name: symbol(op).unwrap_or_else(|| "".into()),
        public: !private,
        params: Vec::new(),
        result_attrs: Vec::new(),
        values: Vec::new(),
        body: Region::default(),
        handle: op.to_raw().ptr as u64,
    }
}

struct FuncReader<'w, 't> {
    func: Func,
    values: BTreeMap<usize, ValueId>,
    types: &'t mut TypeReader,
    weights: &'w WeightStore,
}

impl FuncReader<'_, '_> {
    fn read(mut self, op: OperationRef<'_, '_>, block: BlockRef<'_, '_>) -> Result<Func, ImportError> {
        let body = self.block(block)?;
        let dicts = |name: &str| -> Vec<u64> {
            let array = op.attribute(name).ok().and_then(|a| ArrayAttribute::try_from(a).ok());
            array.map_or_else(Vec::new, |a| (0..a.len()).map(|i| a.element(i).map_or(0, |d| handle::of_attribute(d))).collect())
        };
        let arg_attrs = dicts("arg_attrs");
        let param = |(i, &value): (usize, &ValueId)| Param { value, attrs: arg_attrs.get(i).copied().unwrap_or(0) };
        self.func.params = body.args.iter().enumerate().map(param).collect();
        let mut result_attrs = dicts("res_attrs");
        result_attrs.resize(body.results.len(), 0);
        self.func.result_attrs = result_attrs;
        self.func.body = body;
        Ok(self.func)
    }

    fn define(&mut self, value: MlirValue<'_, '_>) -> ValueId {
        let ty = self.types.read(value.r#type());
        self.func.values.push(Value { ty });
        let id = ValueId((self.func.values.len() - 1) as u32);
        self.values.insert(value.to_raw().ptr as usize, id);
        id
    }

    fn block(&mut self, block: BlockRef<'_, '_>) -> Result<Region, ImportError> {
        let mut region = Region::default();
        for i in 0..block.argument_count() {
            if let Ok(arg) = block.argument(i) {
                region.args.push(self.define(arg.into()));
            }
        }
        let terminator = block.terminator().map(|t| t.to_raw().ptr);
        let mut next = block.first_operation();
        while let Some(op) = next {
            next = op.next_in_block();
            if Some(op.to_raw().ptr) == terminator {
                region.results = self.operands(&op)?;
            } else {
                self.operation(op, &mut region)?;
            }
        }
        Ok(region)
    }

    fn operands(&self, op: &OperationRef<'_, '_>) -> Result<Vec<ValueId>, ImportError> {
        let undefined = || ImportError::UseBeforeDefinition { location: place(op.location()), op: name_of(op) };
        op.operands().map(|v| self.values.get(&(v.to_raw().ptr as usize)).copied().ok_or_else(undefined)).collect()
    }

    fn operation(&mut self, op: OperationRef<'_, '_>, region: &mut Region) -> Result<(), ImportError> {
        let operands = self.operands(&op)?;
        let loc = Loc(op.location().to_raw().ptr as u64);
        let mut attributes = Attributes::new(&op);
        let name = name_of(&op);
        let blocks: Option<Vec<_>> = op.regions().map(|r| single_block(Some(r))).collect();
        let expressible = blocks.is_some() && op.successor_count() == 0;
        let read = if expressible { self.kind(&name, &op, &operands, loc, &mut attributes, region)? } else { None };
        match read {
            Some(kind::Read::Kind(kind)) => {
                let mut regions = Vec::new();
                for block in blocks.unwrap_or_default() {
                    regions.push(self.block(block)?);
                }
                let results = op.results().map(|r| self.define(r.into())).collect();
                region.ops.push(Op { kind, operands, results, regions, loc, attrs: attributes.rest() });
            }
            Some(kind::Read::Value(v)) => {
                if let Some(result) = op.results().next() {
                    self.values.insert(MlirValue::from(result).to_raw().ptr as usize, v);
                }
            }
            Some(kind::Read::Nothing) => {}
            None => self.opaque(name, op, loc, region),
        }
        Ok(())
    }

    /// Keeps an operation whole: its operands and whatever its regions capture become operands.
    fn opaque(&mut self, name: String, op: OperationRef<'_, '_>, loc: Loc, region: &mut Region) {
        let mut captured = Vec::new();
        handle::for_each_used_value(op, &mut |raw| {
            if let Some(&id) = self.values.get(&(raw as usize))
                && !captured.iter().any(|&(r, _)| r == raw)
            {
                captured.push((raw, id));
            }
        });
        let results = op.results().map(|r| self.define(r.into())).collect();
        let kind = OpKind::Opaque(Opaque {
            name: name.as_str().into(),
            handle: op.to_raw().ptr as u64,
            captured: captured.iter().map(|&(raw, _)| raw).collect(),
            pure: name == "icd.weight",
        });
        let operands = captured.into_iter().map(|(_, id)| id).collect();
        region.ops.push(Op { kind, operands, results, regions: Vec::new(), loc, attrs: 0 });
    }

    /// Appends an operation that the source does not have.
    fn emit(&mut self, region: &mut Region, kind: OpKind, operands: Vec<ValueId>, ty: impl Into<ValueType>, loc: Loc) -> ValueId {
        let result = self.func.new_value(ty);
        region.ops.push(Op { kind, operands, results: vec![result], regions: Vec::new(), loc, attrs: 0 });
        result
    }
}

fn name_of(op: &OperationRef<'_, '_>) -> String {
    op.name().as_string_ref().as_str().unwrap_or("?").to_string()
}
