use super::*;
use proptest::prelude::*;

fn any_layout(in_bits: u32, out_bits: u32) -> impl Strategy<Value = Layout> {
    prop::collection::vec(0..1u64 << out_bits, in_bits as usize).prop_map(move |columns| {
        let rows = columns.into_iter().map(|c| vec![c]).collect();
        Layout::new(vec![Dim { name: "i".into(), bits: in_bits }], vec![Dim { name: "o".into(), bits: out_bits }], &[rows]).unwrap()
    })
}

fn any_bijection(bits: u32) -> impl Strategy<Value = Layout> {
    prop::collection::vec((0..bits, 0..bits), 40).prop_map(move |steps| {
        let mut columns: Vec<u64> = (0..bits).map(|b| 1 << b).collect();
        for (a, b) in steps {
            if a != b {
                columns[a as usize] ^= columns[b as usize];
            }
        }
        let rows = columns.into_iter().map(|c| vec![c]).collect();
        Layout::new(vec![Dim { name: "i".into(), bits }], vec![Dim { name: "o".into(), bits }], &[rows]).unwrap()
    })
}

fn flipped(l: &Layout) -> Layout {
    let rows = (0..l.in_bits()).map(|b| vec![l.apply_flat(1 << b)]).collect();
    Layout::new(vec![Dim { name: "o".into(), bits: l.in_bits() }], vec![Dim { name: "p".into(), bits: l.out_bits() }], &[rows]).unwrap()
}

proptest! {
    #[test]
    fn maps_are_linear(l in any_layout(9, 7), a in 0u64..512, b in 0u64..512) {
        prop_assert_eq!(l.apply_flat(a) ^ l.apply_flat(b), l.apply_flat(a ^ b));
    }

    #[test]
    fn composition_is_application_in_turn(a in any_layout(8, 6), b in any_layout(6, 9), x in 0u64..256) {
        let b = flipped(&b);
        prop_assert_eq!(a.then(&b).unwrap().apply_flat(x), b.apply_flat(a.apply_flat(x)));
    }

    #[test]
    fn inverse_undoes_on_both_sides(l in any_bijection(10), x in 0u64..1024) {
        let inverse = l.inverse().unwrap();
        prop_assert_eq!(inverse.apply_flat(l.apply_flat(x)), x);
        prop_assert_eq!(l.apply_flat(inverse.apply_flat(x)), x);
        prop_assert_eq!(inverse.inverse().unwrap(), l);
    }

    #[test]
    fn product_applies_each_factor(a in any_layout(4, 5), b in any_layout(3, 6), x in 0u64..16, y in 0u64..8) {
        let p = a.product(&b).unwrap();
        prop_assert_eq!(p.apply(&[x | y << 4]), vec![a.apply_flat(x) | b.apply_flat(y) << 5]);
        let c = flipped(&b).reorder(&["o"], &["p"]).unwrap();
        prop_assert_eq!(a.product(&c).unwrap().apply(&[x, y]), vec![a.apply_flat(x), b.apply_flat(y)]);
    }

    #[test]
    fn rank_counts_the_image(l in any_layout(7, 6)) {
        let image: std::collections::BTreeSet<u64> = (0..128).map(|x| l.apply_flat(x)).collect();
        prop_assert_eq!(image.len(), 1 << l.rank());
        prop_assert_eq!(l.is_injective(), image.len() == 128);
        prop_assert_eq!(l.is_surjective(), image.len() == 64);
        prop_assert_eq!(l.inverse().is_ok(), l.is_bijective());
    }

    #[test]
    fn json_round_trips(l in any_layout(7, 6)) {
        let text = serde_json::to_string(&l).unwrap();
        prop_assert_eq!(serde_json::from_str::<Layout>(&text).unwrap(), l);
    }
}

#[test]
fn the_worked_example_holds() {
    let l = Layout::from_bases(&[("reg", &[&[0, 1], &[0, 2]]), ("lane", &[&[1, 0], &[2, 2]])], &[("row", 2), ("col", 2)]).unwrap();
    assert_eq!(l.apply(&[1, 3]), vec![3, 3]);
    assert_eq!(l.apply(&[2, 2]), vec![2, 0]);
    assert!(l.is_bijective());
}

#[test]
fn hostile_json_is_refused() {
    for text in [
        r#"{"in":[["a",1]],"out":[["b",1]],"bases":{"a":[[2]]}}"#,
        r#"{"in":[["a",2]],"out":[["b",1]],"bases":{"a":[[1]]}}"#,
        r#"{"in":[["a",1],["a",1]],"out":[["b",1]],"bases":{"a":[[1]]}}"#,
        r#"{"in":[["a",4000000000]],"out":[["b",4000000000]],"bases":{}}"#,
        r#"{"in":[],"out":[["b",65]],"bases":{}}"#,
    ] {
        assert!(serde_json::from_str::<Layout>(text).is_err(), "{text}");
    }
}

#[test]
fn mma_fragments_follow_the_instruction_set_manual() {
    for lane in 0..32u64 {
        let (g, t) = (lane >> 2, lane & 3);
        for i in 0..8u64 {
            let row = if matches!(i, 0 | 1 | 4 | 5) { g } else { g + 8 };
            let col = t * 2 + (i & 1) + if i >= 4 { 8 } else { 0 };
            assert_eq!(mma_m16n8k16_a().apply(&[i, lane]), vec![row, col], "A a{i} lane {lane}");
            for warp in 0..4 {
                assert_eq!(wgmma_m64k16_a().apply(&[i, lane, warp]), vec![16 * warp + row, col], "wgmma A a{i} lane {lane} warp {warp}");
            }
        }
        for i in 0..4u64 {
            let (row, col) = (t * 2 + (i & 1) + if i >= 2 { 8 } else { 0 }, g);
            assert_eq!(mma_m16n8k16_b().apply(&[i, lane]), vec![row, col], "B b{i} lane {lane}");
            let (row, col) = (if i < 2 { g } else { g + 8 }, t * 2 + (i & 1));
            assert_eq!(mma_m16n8k16_c().apply(&[i, lane]), vec![row, col], "C c{i} lane {lane}");
        }
        for i in 0..2u64 {
            assert_eq!(ldmatrix().apply(&[i, lane]), vec![g, 2 * t + i]);
            assert_eq!(ldmatrix_trans().apply(&[i, lane]), vec![2 * t + i, g]);
        }
        for n_bits in 3..=8 {
            let layout = wgmma_m64_c(n_bits).unwrap();
            for i in 0..1u64 << (n_bits - 1) {
                for warp in 0..4 {
                    let row = 16 * warp + g + 8 * ((i / 2) % 2);
                    let col = 8 * (i / 4) + 2 * t + (i & 1);
                    assert_eq!(layout.apply(&[i, lane, warp]), vec![row, col], "wgmma D d{i} lane {lane} warp {warp} n 2^{n_bits}");
                }
            }
        }
    }
    assert!(wgmma_m64_c(9).is_err());
    for l in [mma_m16n8k16_a(), mma_m16n8k16_b(), mma_m16n8k16_c(), wgmma_m64k16_a(), ldmatrix(), ldmatrix_trans(), swizzle_128b()] {
        assert!(l.is_bijective(), "{l:?}");
    }
    for l in [k_order_natural(3), k_order_natural(2), mma_sp_m16n8k32_positions(), k_order_lane16(), k_order_bytes(), packed_nibbles()] {
        assert!(l.is_bijective(), "{l:?}");
    }
}

#[test]
fn swizzle_makes_columns_of_rows_conflict_free() {
    let plain = |lane: u64| (lane & 7) * 128 + (lane >> 3) * 16;
    assert_eq!(bank_conflicts(plain, 16), BankReport { wavefronts: 32, ideal: 4 });
    let swizzle = swizzle_128b();
    assert!(bank_conflicts(|lane| swizzle.apply_flat(plain(lane)), 16).is_conflict_free());
    assert!(bank_conflicts(|lane| lane * 4, 4).is_conflict_free());
    assert!(bank_conflicts(|_| 64, 4).is_conflict_free());
    assert_eq!(bank_conflicts(|lane| lane * 8, 4).wavefronts, 2);
}
