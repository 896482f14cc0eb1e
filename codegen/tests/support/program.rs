//! Reading of MLIR programs.

use icd_core::graph;
use icd_ir::{WeightStore, import};
use melior::{
    Context,
    dialect::DialectRegistry,
    ir::{Module, operation::OperationLike},
    utility::register_all_dialects,
};
use std::{fs, path::Path};

/// Reads a program; the import outlives the MLIR module, which is leaked.
pub(crate) fn read(path: &Path) -> Result<graph::Module, String> {
    let registry = DialectRegistry::new();
    register_all_dialects(&registry);
    icd_ir::register::register_dialects(&registry);
    let context = Box::leak(Box::new(Context::new()));
    context.append_dialect_registry(&registry);
    context.load_all_available_dialects();
    let text = fs::read_to_string(path).map_err(|e| e.to_string())?;
    let module = Box::leak(Box::new(Module::parse(context, &text).ok_or("it does not parse")?));
    assert!(module.as_operation().verify());
    import(module.as_operation(), WeightStore::global()).map_err(|e| e.to_string())
}
