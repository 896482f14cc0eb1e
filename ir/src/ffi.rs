//! The only unsafe code of the crate.

pub(crate) mod handle;
pub(crate) mod pass;
pub(crate) mod shim;

use melior::ir::attribute::{Attribute, AttributeLike};

/// Bytes of a `dense_resource` attribute; `None` for other attributes, and where the resource has no data.
pub(crate) fn dense_resource_data(attr: Attribute<'_>) -> Option<&[u8]> {
    let mut data = std::ptr::null();
    let mut length = 0;
    // SAFETY: the attribute is alive, and the outputs are valid places for a pointer and a length.
    if !unsafe { shim::icdDenseResourceData(attr.to_raw(), &mut data, &mut length) } {
        return None;
    }
    if length == 0 {
        return Some(&[]);
    }
    // SAFETY: the blob has `length` bytes at `data` and lives with the context, which outlives the attribute's lifetime.
    Some(unsafe { std::slice::from_raw_parts(data, length) })
}
