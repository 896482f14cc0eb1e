//! Operations that nobody registered: they pass through with a remark, or are errors with `--strict`.

use icd_core::graph::Loc;
use icd_ir::register::{MlirPass, PassSpec, emit_remark, is_registered, register_pass};
use melior::ir::OperationRef;
use melior::ir::operation::{OperationLike, WalkOrder, WalkResult};
use std::collections::BTreeSet;

/// Name of the pass in pipelines.
pub(super) const NAME: &str = "icd-note-unknown";

#[derive(Clone)]
struct NoteUnknown {
    strict: bool,
}

impl MlirPass for NoteUnknown {
    fn parse_options(&mut self, text: &str) -> Result<(), String> {
        if text.trim().is_empty() { Ok(()) } else { Err(format!("{NAME} has no options; use icd-opt's --strict")) }
    }

    fn run(&mut self, module: OperationRef<'_, '_>) -> Result<(), String> {
        let mut seen = BTreeSet::new();
        let mut refused = None;
        module.walk(WalkOrder::PreOrder, |op| {
            let name = op.name();
            let Ok(name) = name.as_string_ref().as_str() else { return WalkResult::Advance };
            if is_registered(op) || !seen.insert(name.to_string()) {
                return WalkResult::Advance;
            }
            let what = format!("'{name}' is not an operation that icd knows");
            if self.strict {
                refused = Some(format!("{}: {what}; without --strict it would pass through", icd_ir::place(op.location())));
                return WalkResult::Interrupt;
            }
            emit_remark(op, Loc(0), &format!("{what}: it passes through as it is"));
            WalkResult::Advance
        });
        refused.map_or(Ok(()), Err)
    }

    fn clone_pass(&self) -> Box<dyn MlirPass> {
        Box::new(self.clone())
    }
}

/// Registers the pass.
pub(super) fn register(strict: bool) {
    register_pass(PassSpec {
        argument: NAME.into(),
        description: "remark on operations that nobody registered".into(),
        op_name: "builtin.module".into(),
        make: Box::new(move || Box::new(NoteUnknown { strict })),
    });
}
