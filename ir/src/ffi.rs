//! The only unsafe code of the crate.

pub(crate) mod handle;

pub(crate) fn dense_resource_data(_attr: melior::ir::attribute::Attribute<'_>) -> Option<&[u8]> {
    None
}
