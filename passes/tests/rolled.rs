//! Deep models: the e-graph sees one layer, every layer is rewritten, and the program keeps its meaning.

mod support;
use icd_core::graph::*;
use support::*;

/// What the e-graph reported: copies, nodes and classes of each piece.
fn pieces(module: &mut Module, options: &str) -> Vec<(u64, u64, u64)> {
    let cx = run_passes(module, &[("icd-egraph", options)]);
    let stats = cx.stats.last().expect("the pass reported");
    let number = |row: &serde_json::Value, key: &str| row[key].as_u64().expect(key);
    stats.tables["functions"].iter().map(|row| (number(row, "copies"), number(row, "nodes"), number(row, "classes"))).collect()
}

fn models(layers: usize) -> [(&'static str, Module); 4] {
    [
        ("encoder", encoder(3, 2, 5, 2, 4, layers, false)),
        ("encoder, einsum", encoder(4, 1, 4, 3, 2, layers, true)),
        ("llama", llama(5, 4, 2, 4, layers)),
        ("mamba", mamba(6, 3, 6, 2, layers)),
    ]
}

#[test]
fn deep_models_are_rolled_and_keep_their_meaning() {
    for layers in [2, 3, 5] {
        for (name, module) in models(layers) {
            for options in ["", "reassociate=true"] {
                let mut before = module.clone();
                run_passes(&mut before, &[("icd-simplify", "")]);
                let mut after = before.clone();
                let found = pieces(&mut after, options);
                let rolled = found.iter().map(|p| p.0).max();
                // With two layers, a first one that makes what both share is like no other.
                let least = if layers == 2 { 1 } else { layers };
                assert!(rolled >= Some(least as u64), "{name}, {layers} layers: {found:?}");
                for seed in 0..2 {
                    let inputs = arguments(&module, seed);
                    let d = difference(&evaluate(&after, &inputs), &evaluate(&module, &inputs));
                    assert!(d <= 5e-6, "{name}, {layers} layers {options}: differs by {d}\n{}", after.funcs[0]);
                }
            }
        }
    }
}

/// Products that merge in one layer merge in all.
#[test]
fn every_copy_is_rewritten() {
    let dots = |m: &Module| outline(m).iter().filter(|k| *k == "stablehlo.dot_general").count();
    for (name, module) in models(4) {
        let mut after = module.clone();
        run_passes(&mut after, &[("icd-simplify", ""), ("icd-egraph", "")]);
        let mut one = models(1).into_iter().find(|(n, _)| *n == name).unwrap().1;
        run_passes(&mut one, &[("icd-simplify", ""), ("icd-egraph", "")]);
        assert_eq!(dots(&after), 4 * dots(&one), "{name}\n{}", after.funcs[0]);
        assert!(dots(&after) < dots(&module), "{name}: nothing merged");
    }
}

#[test]
fn the_e_graph_does_not_grow_with_depth() {
    let total = |mut module: Module| {
        run_passes(&mut module, &[("icd-simplify", "")]);
        pieces(&mut module, "").iter().map(|p| p.1).sum::<u64>()
    };
    for (shallow, deep) in [
        (llama(5, 4, 2, 4, 1), llama(5, 4, 2, 4, 80)),
        (mamba(6, 3, 6, 2, 1), mamba(6, 3, 6, 2, 64)),
        (encoder(3, 2, 5, 2, 4, 1, false), encoder(3, 2, 5, 2, 4, 12, false)),
    ] {
        let (shallow, deep) = (total(shallow), total(deep));
        assert!(deep <= shallow + shallow / 2, "{deep} nodes for the deep model, {shallow} for one layer");
    }
}

/// A layer that differs from the others in a number that rules look at, or in its wiring, is not taken for one of them.
#[test]
fn what_is_not_alike_is_not_rolled() {
    for odd in 0..3 {
        let mut p = Program::new(9);
        let x = p.param(f32s(&[3, 8]));
        let (mut h, mut last) = (x, x);
        for layer in 0..4 {
            let w = p.weight(&[8, 8], 0.3);
            let y = p.dot(h, w, (&[], &[]), (&[1], &[0]));
            let s = p.splat(if odd == 0 && layer == 2 { 0.5 } else { 0.25 }, &[3, 8]);
            let y = p.binary(Binary::Multiply, y, s);
            let y = p.unary(Unary::Tanh, y);
            // The second wiring reads two layers back, the third the input.
            let other = if layer == 3 { [h, last, x][odd] } else { h };
            last = h;
            h = p.binary(Binary::Add, y, other);
        }
        let module = p.finish(&[h]);
        let mut after = module.clone();
        run_passes(&mut after, &[("icd-egraph", "reassociate=true")]);
        for seed in 0..3 {
            let inputs = arguments(&module, seed);
            let d = difference(&evaluate(&after, &inputs), &evaluate(&module, &inputs));
            assert!(d <= 2e-6, "case {odd}: differs by {d}\n{}", after.funcs[0]);
        }
    }
}
