//! MLIR for icd: the dialects, and modules to and from the graph IR.

pub mod export;
pub mod ffi;
pub mod import;
pub mod prescan;
pub mod register;
pub mod reproducer;
pub mod store;

mod attr_text;
mod mlir_type;

pub use export::{ExportError, export};
pub use import::{ImportError, import, location_text, opaque_attribute, place};
pub use store::WeightStore;
