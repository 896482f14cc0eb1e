//! A pass that panics leaves a reproducer that names the pipeline and holds the module without its weights.

use icd_ir::register::{self, MlirPass, PassSpec, register_pass};
use icd_ir::reproducer;
use melior::ir::{Module, OperationRef};
use melior::pass::PassManager;

struct Panics;

impl MlirPass for Panics {
    fn parse_options(&mut self, _: &str) -> Result<(), String> {
        Ok(())
    }
    fn run(&mut self, _: OperationRef<'_, '_>) -> Result<(), String> {
        panic!("the widget is upside down")
    }
    fn clone_pass(&self) -> Box<dyn MlirPass> {
        Box::new(Panics)
    }
}

#[test]
fn a_panic_writes_a_reproducer_without_weights() {
    let weights: Vec<String> = (0..64).map(|i| format!("{}.5", 1234 + i)).collect();
    let source = format!(
        "func.func @main(%a: tensor<64xf32>) -> tensor<64xf32> {{
           %w = stablehlo.constant dense<[{}]> : tensor<64xf32>
           %r = stablehlo.constant dense_resource<secret> : tensor<4xf32>
           %0 = stablehlo.add %a, %w : tensor<64xf32>
           return %0 : tensor<64xf32>
         }}
         {{-# dialect_resources: {{ builtin: {{ secret: \"0x0400000000C0FFEE00C0FFEE00C0FFEE00C0FFEE\" }} }} #-}}",
        weights.join(", ")
    );
    let folder = tempfile::tempdir().unwrap();
    reproducer::set_folder(Some(folder.path().into()));
    register_pass(PassSpec {
        argument: "test-panics".into(),
        description: "panics".into(),
        op_name: "builtin.module".into(),
        make: Box::new(|| Box::new(Panics)),
    });
    let context = register::context();
    let mut module = Module::parse(&context, &source).unwrap();
    let manager = PassManager::new(&context);
    melior::utility::parse_pass_pipeline(manager.as_operation_pass_manager(), "builtin.module(test-panics{depth=3})").unwrap();
    assert!(manager.run(&mut module).is_err());
    assert!(register::internal_error_seen());

    let files: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().path()).collect();
    let [file] = files.as_slice() else { panic!("{files:?}") };
    let text = std::fs::read_to_string(file).unwrap();
    assert!(text.contains("--pass-pipeline='builtin.module(test-panics{depth=3})'"), "{text}");
    assert!(text.contains("the widget is upside down") && text.contains("stablehlo.add"), "{text}");
    assert!(!text.contains("1240.5") && !text.to_uppercase().contains("C0FFEE"), "{text}");
    assert!(Module::parse(&context, &text).is_some(), "{text}");
}
