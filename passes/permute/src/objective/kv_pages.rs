//! Key and value pages: a page can be given back only when no token in it is kept, so kept tokens should share pages.

use crate::{Permutation, PermuteError};

/// Pages of `page` positions that hold a kept token.
///
/// # Errors
/// `page` is 0, or the permutation has another length than `kept`.
pub fn pages(kept: &[bool], permutation: &Permutation, page: usize) -> Result<usize, PermuteError> {
    if page == 0 {
        return Err(PermuteError::Argument("pages of 0 tokens; choose 1 or more".into()));
    }
    Ok(permutation.apply(kept)?.chunks(page).filter(|p| p.contains(&true)).count())
}

/// Moves as few kept tokens as possible so that they fill the first positions: those beyond them go, in order, where tokens are dropped.
/// Attention does not depend on the order of keys whose positions are already rotated in.
pub fn compact(kept: &[bool]) -> Permutation {
    let count = kept.iter().filter(|&&k| k).count();
    let mut order: Vec<u32> = (0..kept.len() as u32).collect();
    let holes = (0..count).filter(|&p| !kept[p]);
    for (hole, token) in holes.zip((count..kept.len()).filter(|&p| kept[p])) {
        order.swap(hole, token);
    }
    Permutation::trusted(order)
}

/// Tokens that a permutation moves among those it keeps: what compaction copies.
pub fn moved(kept: &[bool], permutation: &Permutation) -> usize {
    permutation.order().iter().enumerate().filter(|&(p, &c)| p != c as usize && kept[c as usize]).count()
}
