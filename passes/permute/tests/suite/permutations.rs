use icd_permute::{Edge, Graph, Permutation, PermuteError, Random, read_edge_list};
use proptest::prelude::*;

proptest! {
    #[test]
    fn laws(len in 0usize..60, seed: u64) {
        let mut random = Random::new(seed);
        let mut order: Vec<u32> = (0..len as u32).collect();
        random.shuffle(&mut order);
        let p = Permutation::new(order.clone()).unwrap();
        random.shuffle(&mut order);
        let q = Permutation::new(order).unwrap();
        let values: Vec<u64> = (0..len).map(|_| random.bits()).collect();
        let moved = p.apply(&values).unwrap();
        for (position, &value) in moved.iter().enumerate() {
            prop_assert_eq!(value, values[p.order()[position] as usize]);
            prop_assert_eq!(p.positions()[p.order()[position] as usize] as usize, position);
        }
        prop_assert_eq!(p.inverse().apply(&moved).unwrap(), values.clone());
        prop_assert_eq!(p.then(&p.inverse()).unwrap(), Permutation::identity(len));
        prop_assert_eq!(p.then(&q).unwrap().apply(&values).unwrap(), q.apply(&p.apply(&values).unwrap()).unwrap());
    }
}

#[test]
fn what_is_no_permutation() {
    for (order, position, channel) in [(vec![0, 1, 1], 2, 1), (vec![3, 0, 1], 0, 3), (vec![0, u32::MAX], 1, u32::MAX as usize)] {
        match Permutation::new(order) {
            Err(PermuteError::NotAPermutation { position: p, channel: c, .. }) => assert_eq!((p, c), (position, channel)),
            other => panic!("{other:?}"),
        }
    }
    assert!(Permutation::new(vec![]).unwrap().is_empty());
}

#[test]
fn rows_and_columns() {
    let p = Permutation::new(vec![2, 0, 1]).unwrap();
    assert_eq!(p.apply_to_columns(&[1, 2, 3, 4, 5, 6]).unwrap(), [3, 1, 2, 6, 4, 5]);
    assert_eq!(p.apply_to_rows(&[1, 2, 3, 4, 5, 6], 2).unwrap(), [5, 6, 1, 2, 3, 4]);
    assert!(p.apply(&[1, 2]).is_err() && p.apply_to_columns(&[1, 2]).is_err() && p.apply_to_rows(&[1, 2], 2).is_err());
    assert!(Permutation::identity(0).apply_to_columns(&[1]).is_err());
    assert!(Permutation::new(vec![1, 0, 3, 2]).unwrap().stays_inside_blocks(2));
    assert!(!p.stays_inside_blocks(2) && !p.stays_inside_blocks(0));
}

#[test]
fn graphs_refuse_what_is_none() {
    let edge = |a, b, weight| Edge { a, b, weight };
    for bad in [edge(0, 2, 1.0), edge(1, 1, 1.0), edge(0, 1, f32::NAN), edge(0, 1, f32::INFINITY), edge(0, 1, -1.0)] {
        assert!(matches!(Graph::new(2, &[edge(0, 1, 1.0), bad]), Err(PermuteError::Edge { index: 1, .. })), "{bad:?}");
    }
    assert!(matches!(Graph::new(1 << 25, &[]), Err(PermuteError::Limit { .. })));
}

#[test]
fn packed_files_are_unpacked_and_damaged_ones_refused() {
    let packed = include_bytes!("../data/three.txt.xz");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("g.txt.xz");
    std::fs::write(&path, packed).unwrap();
    let graph = read_edge_list(&path).unwrap();
    assert_eq!((graph.vertices(), graph.edges(), graph.weight(1, 0), graph.weight(1, 2)), (3, 2, 0.5, 2.0));
    for cut in [0, 5, packed.len() / 2] {
        std::fs::write(&path, &packed[..cut]).unwrap();
        assert!(read_edge_list(&path).is_err(), "cut to {cut} bytes");
    }
    for at in 0..packed.len() {
        let mut damaged = packed.to_vec();
        damaged[at] ^= 0x40;
        std::fs::write(&path, damaged).unwrap();
        if let Ok(other) = read_edge_list(&path) {
            assert_eq!(other, graph, "byte {at}");
        }
    }
    assert!(matches!(read_edge_list(&dir.path().join("none")), Err(PermuteError::Io { .. })));
    assert!(read_edge_list(dir.path()).is_err());
}
