//! Contexts on several threads. What could go wrong happens once in a process, in the first contexts, so each attempt is a process of its own.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::process::Command;
use std::sync::Barrier;

const ATTEMPT: &str = "ICD_TEST_CONTEXTS_ATTEMPT";
const ATTEMPTS: usize = 12;
const THREADS: usize = 8;

fn make_contexts_at_once() {
    let barrier = Barrier::new(THREADS);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                barrier.wait();
                let context = icd_ir::register::context();
                let text = "func.func @f(%a: tensor<2xf32>) -> tensor<2xf32> { return %a : tensor<2xf32> }";
                assert!(melior::ir::Module::parse(&context, text).is_some());
                let passes = melior::pass::PassManager::new(&context);
                let parsed = melior::utility::parse_pass_pipeline(passes.as_operation_pass_manager(), "builtin.module(canonicalize,cse)");
                assert!(parsed.is_ok());
            });
        }
    });
}

#[test]
fn the_first_contexts_of_a_process_may_be_made_on_several_threads() {
    if std::env::var_os(ATTEMPT).is_some() {
        return make_contexts_at_once();
    }
    for attempt in 0..ATTEMPTS {
        let mut child = Command::new(std::env::current_exe().unwrap());
        let done = child.arg("the_first_contexts_of_a_process").env(ATTEMPT, "1").output().unwrap();
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "attempt {attempt}: {}\n{said}", done.status);
    }
}
