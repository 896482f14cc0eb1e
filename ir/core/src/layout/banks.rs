//! Shared-memory bank conflicts computed from the addresses that a layout yields.

use super::{Layout, LayoutError};

/// Banks of shared memory on every supported GPU, each four bytes wide.
const BANKS: u64 = 32;
const BANK_BYTES: u64 = 4;
const WARP: u64 = 32;

/// What one warp-wide shared-memory access costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BankReport {
    /// Passes (wavefronts) that the access takes.
    pub wavefronts: u32,
    /// Fewest passes that this many bytes can take.
    pub ideal: u32,
}

impl BankReport {
    /// No pass beyond the fewest possible.
    pub fn is_conflict_free(&self) -> bool {
        self.wavefronts == self.ideal
    }
}

/// Conflicts of one access by a warp, where `address(lane)` is the byte address of lane 0..32 and each lane moves `width_bytes` (2, 4, 8 or 16).
///
/// Lanes of an 8-byte access are served by half warps, of a 16-byte access by quarter warps (also the rows of `ldmatrix`); lanes that read the
/// same word share it. Addresses must be multiples of the width.
pub fn bank_conflicts(address: impl Fn(u64) -> u64, width_bytes: u64) -> BankReport {
    let lanes_a_pass = (WARP * BANK_BYTES / width_bytes.max(BANK_BYTES)).max(1);
    let (mut wavefronts, mut ideal) = (0, 0);
    for first in (0..WARP).step_by(lanes_a_pass as usize) {
        let mut words: Vec<u64> = (first..first + lanes_a_pass)
            .flat_map(|lane| {
                let start = address(lane) / BANK_BYTES;
                (0..width_bytes.div_ceil(BANK_BYTES)).map(move |w| start + w)
            })
            .collect();
        words.sort_unstable();
        words.dedup();
        let most = (0..BANKS).map(|bank| words.iter().filter(|w| *w % BANKS == bank).count()).max().unwrap_or(0);
        wavefronts += most as u32;
        ideal += (words.len() as u64).div_ceil(BANKS) as u32;
    }
    BankReport { wavefronts, ideal }
}

impl Layout {
    /// Conflicts of a warp's access when this layout maps (`lane`, …) to a byte address in its first output dimension; all other input
    /// dimensions are held at zero.
    ///
    /// # Errors
    /// [`LayoutError::Unknown`] when there is no input dimension `lane`.
    pub fn bank_conflicts(&self, width_bytes: u64) -> Result<BankReport, LayoutError> {
        let lane = self.ins().iter().position(|d| d.name == "lane").ok_or_else(|| LayoutError::Unknown("lane".into()))?;
        let address = |l: u64| {
            let mut place = vec![0; self.ins().len()];
            place[lane] = l;
            self.apply(&place).first().copied().unwrap_or(0)
        };
        Ok(bank_conflicts(address, width_bytes))
    }
}
