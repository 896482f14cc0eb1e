//! Opaque handles: MLIR objects that the graph carries as integers, and the few raw accesses that melior has no safe form for.
//!
//! A handle is the object's address. Locations, types and attributes live as long as their context; operations and values as long as the module
//! that they were imported from. Import and export of one module happen while both live, which is the invariant that every block below relies on.

use icd_core::{DType, Literal};
use melior::ir::attribute::{Attribute, AttributeLike, DenseElementsAttribute};
use melior::ir::operation::{Operation, OperationLike, OperationRef, WalkOrder, WalkResult};
use melior::ir::{Block, BlockLike, BlockRef, Identifier, Location, Region, RegionRef, Value, ValueLike};
use melior::{Context, ContextRef};
use mlir_sys::*;
use std::collections::BTreeMap;
use std::ffi::c_void;

/// The handle of an attribute.
pub(crate) fn of_attribute(attr: Attribute<'_>) -> u64 {
    attr.to_raw().ptr as u64
}

/// The attribute of a handle; `None` for 0.
pub(crate) fn attribute<'c>(_context: &'c Context, handle: u64) -> Option<Attribute<'c>> {
    // SAFETY: a non-zero handle came from `of_attribute` on an attribute of this context, which outlives it.
    (handle != 0).then(|| unsafe { Attribute::from_raw(MlirAttribute { ptr: handle as *const c_void }) })
}

/// The context itself, for as long as the reference that it was reached through.
pub(crate) fn context<'c>(context: &ContextRef<'c>) -> &'c Context {
    // SAFETY: the context outlives 'c, the lifetime of everything in it.
    unsafe { context.to_ref() }
}

/// The location of a handle; `None` for 0.
pub(crate) fn location<'c>(handle: u64) -> Option<Location<'c>> {
    // SAFETY: a non-zero handle is the address of a location; its context lives while graphs imported from it are processed.
    (handle != 0).then(|| unsafe { Location::from_raw(MlirLocation { ptr: handle as *const c_void }) })
}

/// Whether some loaded dialect defines the operation.
pub(crate) fn is_registered(op: OperationRef<'_, '_>) -> bool {
    op.name().as_string_ref().as_str().is_ok_and(|name| context(&op.context()).is_registered_operation(name))
}

/// A dictionary of the operation's attributes without those named; 0 when none is left.
pub(crate) fn dictionary_without(op: &OperationRef<'_, '_>, names: &[&str]) -> u64 {
    let rest: Vec<MlirNamedAttribute> = op
        .attributes()
        .filter(|(name, _)| name.as_string_ref().as_str().is_ok_and(|n| !names.contains(&n)))
        .map(|(name, value)| MlirNamedAttribute { name: name.to_raw(), attribute: value.to_raw() })
        .collect();
    if rest.is_empty() {
        return 0;
    }
    // SAFETY: `rest` holds live attributes of the operation's context, and its length is passed with it.
    unsafe { mlirDictionaryAttrGet(mlirOperationGetContext(op.to_raw()), rest.len() as isize, rest.as_ptr()).ptr as u64 }
}

/// Names and values of a dictionary handle; empty for 0.
pub(crate) fn dictionary<'c>(context: &'c Context, handle: u64) -> Vec<(Identifier<'c>, Attribute<'c>)> {
    let Some(dict) = attribute(context, handle) else { return Vec::new() };
    // SAFETY: the handle is a dictionary made by `dictionary_without` in this context; indices stay below its size.
    unsafe {
        (0..mlirDictionaryAttrGetNumElements(dict.to_raw()))
            .map(|i| {
                let element = mlirDictionaryAttrGetElement(dict.to_raw(), i);
                (Identifier::from_raw(element.name), Attribute::from_raw(element.attribute))
            })
            .collect()
    }
}

/// Stored bytes of a dense attribute that is not of `i1`.
pub(crate) fn dense_bytes<'a>(elements: &'a DenseElementsAttribute<'_>, len: usize) -> &'a [u8] {
    let data = elements.raw_data().cast::<u8>();
    if data.is_null() || len == 0 {
        return &[];
    }
    // SAFETY: MLIR keeps at least `elements × element size` contiguous bytes (one element for a splat), alive with the context.
    unsafe { std::slice::from_raw_parts(data, len) }
}

/// Bytes of a `dense_resource` attribute; `None` for any other attribute.
pub(crate) fn resource_bytes(attr: Attribute<'_>) -> Option<&[u8]> {
    super::dense_resource_data(attr)
}

/// Integer elements of a literal, splats expanded; empty for other types.
pub(crate) fn literal_ints(literal: &Literal) -> Vec<i64> {
    let bytes = literal.to_bytes();
    match literal.ty().dtype {
        DType::I64 => bytes.chunks_exact(8).filter_map(|c| c.try_into().ok().map(i64::from_le_bytes)).collect(),
        DType::I32 => bytes.chunks_exact(4).filter_map(|c| c.try_into().ok().map(i32::from_le_bytes)).map(i64::from).collect(),
        _ => Vec::new(),
    }
}

/// Calls `visit` with the address of every operand value of `op` and of the operations inside it.
pub(crate) fn for_each_used_value(op: OperationRef<'_, '_>, visit: &mut dyn FnMut(u64)) {
    op.walk(WalkOrder::PreOrder, |inner| {
        inner.operands().for_each(|v| visit(v.to_raw().ptr as u64));
        WalkResult::Advance
    });
}

/// A copy of the operation behind `handle`, with uses of outside values replaced through `renamed` (old value address → new value).
pub(crate) fn clone_operation<'c>(handle: u64, renamed: &BTreeMap<u64, MlirValue>) -> Operation<'c> {
    // SAFETY: the handle is an operation of the module that is being exported, which still lives.
    let copy: Operation<'c> = unsafe { Operation::from_raw(mlirOperationClone(MlirOperation { ptr: handle as *mut c_void })) };
    // SAFETY: `copy` is alive for the walk; the reference does not outlive it.
    let view = unsafe { OperationRef::from_raw(copy.to_raw()) };
    view.walk(WalkOrder::PreOrder, |inner| {
        for i in 0..inner.operand_count() as isize {
            // SAFETY: `i` is below the number of operands, and replacements are values of the function under construction.
            unsafe {
                let old = mlirOperationGetOperand(inner.to_raw(), i);
                if let Some(new) = renamed.get(&(old.ptr as u64)) {
                    mlirOperationSetOperand(inner.to_raw(), i, *new);
                }
            }
        }
        WalkResult::Advance
    });
    copy
}

/// A value by its raw form.
pub(crate) fn value<'c, 'a>(raw: MlirValue) -> Value<'c, 'a> {
    // SAFETY: raw values come from live operations or blocks of the function under construction.
    unsafe { Value::from_raw(raw) }
}

/// Replaces the only block of `region` by `block`.
pub(crate) fn replace_block<'c>(region: RegionRef<'c, '_>, block: Block<'c>) {
    use melior::ir::RegionLike;
    let old = region.first_block().map(|b: BlockRef<'_, '_>| b.to_raw());
    region.append_block(block);
    if let Some(old) = old {
        // SAFETY: `old` belongs to `region`; after detaching it, nothing outside refers to its operations.
        unsafe {
            mlirBlockDetach(old);
            mlirBlockDestroy(old);
        }
    }
}

/// A region holding `block`.
pub(crate) fn region_of(block: Block<'_>) -> Region<'_> {
    use melior::ir::RegionLike;
    let region = Region::new();
    region.append_block(block);
    region
}

/// Removes an operation from its block and destroys it.
pub(crate) fn erase(op: OperationRef<'_, '_>) {
    // SAFETY: the operation is alive and nothing uses its results (functions have none).
    unsafe {
        mlirOperationRemoveFromParent(op.to_raw());
        mlirOperationDestroy(op.to_raw());
    }
}

/// Sets an attribute of an operation in place.
pub(crate) fn set_attribute(op: OperationRef<'_, '_>, name: &str, attr: Attribute<'_>) {
    let name = melior::StringRef::new(name);
    // SAFETY: operation and attribute are alive and of one context.
    unsafe { mlirOperationSetAttributeByName(op.to_raw(), name.to_raw(), attr.to_raw()) }
}

/// A string attribute of the operation behind `handle`, or the text of one of another kind; empty when there is none.
pub(crate) fn string_attribute(handle: u64, name: &str) -> String {
    // SAFETY: the handle is an operation of a module that still lives.
    let op = unsafe { OperationRef::from_raw(MlirOperation { ptr: handle as *mut c_void }) };
    let Ok(attr) = op.attribute(name) else { return String::new() };
    melior::ir::attribute::StringAttribute::try_from(attr).map_or_else(|_| attr.to_string(), |s| s.value().to_string())
}
