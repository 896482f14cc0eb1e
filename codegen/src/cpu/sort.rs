//! Sorting along one dimension: a stable merge sort of each line, with the program's comparator.

use super::site::{Emitted, Site};
use crate::error::{CodegenError, Result};

/// Emits a sort or a top_k.
pub fn emit(site: &Site<'_>, _key: &str) -> Result<Emitted> {
    Err(CodegenError::unsupported(site.kernel.op, "no CPU kernel yet", "keep it out"))
}
