//! Page-aligned zeroed memory.

use crate::RuntimeError;
use memmap2::MmapMut;
use std::ops::{Deref, DerefMut};

/// A fixed number of bytes, zero at first, aligned to a page. Pages take memory only once they are touched.
#[derive(Debug)]
pub struct AlignedBytes(Option<MmapMut>);

impl AlignedBytes {
    /// Allocates `bytes`; `what` names their purpose in the error.
    pub fn zeroed(bytes: usize, what: &str) -> Result<Self, RuntimeError> {
        if bytes == 0 {
            return Ok(AlignedBytes(None));
        }
        let map = MmapMut::map_anon(bytes).map_err(|e| RuntimeError::Memory { what: what.into(), bytes, reason: e.to_string() })?;
        #[cfg(target_os = "linux")]
        if bytes >= 4 << 20 {
            // Only advice: without huge pages it works as well, a little slower.
            let _ = map.advise(memmap2::Advice::HugePage);
        }
        Ok(AlignedBytes(Some(map)))
    }

    /// A copy of `bytes`.
    pub fn copy_of(bytes: &[u8], what: &str) -> Result<Self, RuntimeError> {
        let mut copy = Self::zeroed(bytes.len(), what)?;
        copy.copy_from_slice(bytes);
        Ok(copy)
    }
}

impl Deref for AlignedBytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.0.as_deref().unwrap_or(&[])
    }
}

impl DerefMut for AlignedBytes {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.0.as_deref_mut().unwrap_or(&mut [])
    }
}
