//! Accounting of tensor memory against a limit.

use crate::error::{Fail, Outcome};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

#[derive(Debug)]
struct Account {
    limit: usize,
    live: AtomicUsize,
}

/// Handle on one interpreter's account.
#[derive(Clone, Debug)]
pub(crate) struct Memory(Arc<Account>);

/// Bytes taken from the account until dropped.
#[derive(Debug)]
pub(crate) struct Charge {
    account: Memory,
    bytes: usize,
}

impl Memory {
    pub(crate) fn new(limit: usize) -> Self {
        Memory(Arc::new(Account { limit, live: AtomicUsize::new(0) }))
    }

    pub(crate) fn charge(&self, bytes: usize) -> Outcome<Charge> {
        let live = self.0.live.load(Ordering::Relaxed);
        match live.checked_add(bytes).filter(|&n| n <= self.0.limit) {
            Some(n) => {
                self.0.live.store(n, Ordering::Relaxed);
                Ok(Charge { account: self.clone(), bytes })
            }
            None => {
                Err(Fail::Limit(format!("needs {bytes} bytes beside {live} in use; the limit is {} bytes (Limits::memory)", self.0.limit)))
            }
        }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.account.0.live.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
