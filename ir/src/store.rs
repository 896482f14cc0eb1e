//! Weights outside the IR: tensors that `icd.weight "name"` refers to.

use icd_core::Literal;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Tensors by name. MLIR text carries the names only; passes add the tensors that they derive.
#[derive(Default)]
pub struct WeightStore {
    tensors: Mutex<BTreeMap<Arc<str>, Literal>>,
}

impl WeightStore {
    /// The store of this process, which every pass run through MLIR uses.
    pub fn global() -> &'static WeightStore {
        static STORE: OnceLock<WeightStore> = OnceLock::new();
        STORE.get_or_init(WeightStore::default)
    }

    /// The tensor of that name.
    pub fn get(&self, name: &str) -> Option<Literal> {
        self.tensors.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// Adds or replaces the tensor under its own name; unnamed ones are ignored.
    pub fn insert(&self, literal: &Literal) {
        if let Some(name) = literal.name() {
            self.tensors.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone(), literal.clone());
        }
    }
}
