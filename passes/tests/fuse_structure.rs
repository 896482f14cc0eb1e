//! Which kernels an encoder layer becomes.

mod support;
use support::*;

#[test]
fn an_encoder_layer_becomes_seven_kernels() {
    for einsum in [false, true] {
        let mut module = encoder(1, 2, 8, 4, 16, 2, einsum);
        run_passes(&mut module, &[("icd-simplify", ""), ("icd-fuse", "")]);
        let got = outline(&module);
        println!("{}", module.funcs[0]);
        println!("{got:?}");
    }
}
