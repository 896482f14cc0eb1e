//! Random schedules are run twice: every slot in memory of its own, and all in the planned places. Both must see the same data.

use super::*;
use crate::schedule::{Kernel, SlotInfo};
use icd_core::graph::{Func, Op, OpKind, Region};
use proptest::prelude::*;
use std::collections::BTreeMap;

fn func() -> Func {
    Func { name: "f".into(), public: true, params: vec![], result_attrs: vec![], values: vec![], body: Region::default(), handle: 0 }
}

fn op() -> Op {
    Op { kind: OpKind::Select, operands: vec![], results: vec![], regions: vec![], loc: Default::default(), attrs: 0 }
}

/// Builds random nodes from a stream of bytes.
struct Maker<'a> {
    choices: std::vec::IntoIter<u8>,
    slots: Vec<SlotInfo>,
    func: &'a Func,
    op: &'a Op,
}

impl<'a> Maker<'a> {
    fn choice(&mut self, n: usize) -> usize {
        self.choices.next().unwrap_or(0) as usize % n.max(1)
    }
    fn slot(&mut self, bytes: usize) -> Slot {
        self.slots.push(SlotInfo { bytes, home: Home::Arena });
        self.slots.len() - 1
    }
    fn kernel(&mut self, live: &mut Vec<Slot>) -> Node<'a> {
        let args: Vec<Slot> = (0..if live.is_empty() { 0 } else { self.choice(3) }).map(|_| live[self.choice(live.len())]).collect();
        let bytes = 256 * (1 + self.choice(3));
        let result = self.slot(bytes);
        let in_place = match args.first() {
            Some(&a) if args.iter().filter(|&&x| x == a).count() == 1 && self.slots[a].bytes == bytes && self.choice(2) == 0 => {
                vec![(result, a)]
            }
            _ => vec![],
        };
        let temporaries = if self.choice(3) == 0 { vec![self.slot(512)] } else { vec![] };
        live.push(result);
        let args = args.into_iter().map(|s| (icd_core::graph::ValueId(0), s)).collect();
        Node::Kernel(Box::new(Kernel {
            func: self.func,
            op: self.op,
            inlined: vec![],
            args,
            results: vec![result],
            temporaries,
            in_place,
            updates: false,
        }))
    }
    /// A value of `bytes` bytes in scope, or a new one.
    fn pick(&mut self, bytes: usize, live: &mut Vec<Slot>, nodes: &mut Vec<Node<'a>>) -> Slot {
        let fitting: Vec<Slot> = live.iter().copied().filter(|&s| self.slots[s].bytes == bytes).collect();
        if fitting.is_empty() {
            let result = self.slot(bytes);
            nodes.push(Node::Kernel(Box::new(Kernel {
                func: self.func,
                op: self.op,
                inlined: vec![],
                args: vec![],
                results: vec![result],
                temporaries: vec![],
                in_place: vec![],
                updates: false,
            })));
            live.push(result);
            return result;
        }
        fitting[self.choice(fitting.len())]
    }
    fn nodes(&mut self, depth: usize, live: &mut Vec<Slot>) -> Vec<Node<'a>> {
        let mut nodes = Vec::new();
        for _ in 0..2 + self.choice(6) {
            match self.choice(8) {
                0 if depth > 0 && !live.is_empty() => {
                    let state: Vec<Slot> = (0..1 + self.choice(2))
                        .map(|_| {
                            let src = live[self.choice(live.len())];
                            let dst = self.slot(self.slots[src].bytes);
                            nodes.push(Node::Copy { dst, src });
                            dst
                        })
                        .collect();
                    let mut inner = live.clone();
                    inner.extend(&state);
                    let mut condition = self.nodes(0, &mut inner.clone());
                    let predicate = self.slot(256);
                    let mut scope = inner.clone();
                    let source = self.pick(256, &mut scope, &mut condition);
                    condition.push(Node::Copy { dst: predicate, src: source });
                    let mut body = self.nodes(depth - 1, &mut inner);
                    let moves: Vec<(Slot, Slot)> =
                        state.iter().map(|&dst| (dst, self.pick(self.slots[dst].bytes, &mut inner, &mut body))).collect();
                    for (dst, src) in moves.iter().copied().filter(|(d, s)| d != s) {
                        let src = if state.contains(&src) {
                            let saved = self.slot(self.slots[src].bytes);
                            body.insert(
                                body.len()
                                    - body.iter().rev().take_while(|n| matches!(n, Node::Copy { dst, .. } if state.contains(dst))).count(),
                                Node::Copy { dst: saved, src },
                            );
                            saved
                        } else {
                            src
                        };
                        body.push(Node::Copy { dst, src });
                    }
                    nodes.push(Node::While { predicate, condition, body });
                    live.extend(state);
                }
                1 if depth > 0 && !live.is_empty() => {
                    let index = live[self.choice(live.len())];
                    let result = self.slot(512);
                    let branches = (0..2)
                        .map(|_| {
                            let mut inner = live.clone();
                            let mut branch = self.nodes(depth - 1, &mut inner);
                            let src = self.pick(512, &mut inner, &mut branch);
                            branch.push(Node::Copy { dst: result, src });
                            branch
                        })
                        .collect();
                    nodes.push(Node::Branch { index, branches });
                    live.push(result);
                }
                _ => nodes.push(self.kernel(live)),
            }
        }
        nodes
    }
}

/// Memory of a run: block number to tag.
struct Machine<'p> {
    plan: Option<&'p Plan>,
    slots: &'p [SlotInfo],
    blocks: BTreeMap<(usize, usize), u64>,
    steps: u64,
}

impl Machine<'_> {
    fn range(&self, slot: Slot) -> Vec<(usize, usize)> {
        let count = self.slots[slot].bytes / 256;
        let (space, start) = match self.plan {
            None => (1 + slot, 0),
            Some(plan) => match &plan.buffers[plan.buffer(slot)].place {
                Place::Arena(offset) => (0, offset / 256),
                Place::Output(i) => (1_000_000 + i, 0),
                other => panic!("unexpected place {other:?}"),
            },
        };
        (0..count).map(|i| (space, start + i)).collect()
    }
    fn read(&self, slot: Slot) -> Vec<u64> {
        self.range(slot).iter().map(|b| self.blocks.get(b).copied().unwrap_or(0)).collect()
    }
    fn write(&mut self, slot: Slot, tag: u64) {
        for (i, block) in self.range(slot).into_iter().enumerate() {
            self.blocks.insert(block, tag.wrapping_add(i as u64));
        }
    }
    fn run(&mut self, nodes: &[Node<'_>], seen: &mut Vec<u64>) {
        for node in nodes {
            self.steps += 1;
            match node {
                Node::Kernel(k) => {
                    let in_place: Vec<Vec<u64>> = k.in_place.iter().map(|&(_, a)| self.read(a)).collect();
                    let garbage = 0xdead_0000 + self.steps;
                    let shares = |s: Slot| k.in_place.iter().any(|&(_, a)| a == s);
                    k.results.iter().chain(&k.temporaries).for_each(|&s| self.write(s, garbage));
                    let mut tag = self.steps.wrapping_mul(0x9E37_79B9);
                    for values in k.args.iter().filter(|(_, s)| !shares(*s)).map(|&(_, s)| self.read(s)).chain(in_place) {
                        for v in values {
                            tag = tag.rotate_left(7) ^ v.wrapping_mul(0x1000_0001_B3);
                        }
                    }
                    seen.push(tag);
                    k.results.iter().for_each(|&s| self.write(s, tag));
                }
                &Node::Copy { dst, src } => {
                    let values = self.read(src);
                    for (block, v) in self.range(dst).into_iter().zip(values) {
                        self.blocks.insert(block, v);
                    }
                }
                Node::While { condition, body, predicate } => {
                    for _ in 0..2 {
                        self.run(condition, seen);
                        seen.extend(self.read(*predicate));
                        self.run(body, seen);
                    }
                    self.run(condition, seen);
                }
                Node::Branch { index, branches } => {
                    let values = self.read(*index);
                    seen.extend(&values);
                    let which = (values[0] % 2) as usize;
                    self.run(&branches[which], seen);
                }
                Node::BranchIndex { .. } => {}
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn planned_memory_behaves_as_separate_memory(choices in proptest::collection::vec(any::<u8>(), 20..300)) {
        let (func, op) = (func(), op());
        let mut maker = Maker { choices: choices.into_iter(), slots: vec![], func: &func, op: &op };
        let mut live = Vec::new();
        let mut nodes = vec![maker.kernel(&mut live)];
        nodes.extend(maker.nodes(2, &mut live));
        let last = *live.last().unwrap();
        maker.slots[last].home = Home::Output(0);
        let schedule = Schedule { nodes, slots: maker.slots, weights: BTreeMap::new(), inputs: vec![], outputs: vec![] };
        let plan = plan(&schedule);

        let mut want = Vec::new();
        let mut apart = Machine { plan: None, slots: &schedule.slots, blocks: BTreeMap::new(), steps: 0 };
        apart.run(&schedule.nodes, &mut want);
        let mut got = Vec::new();
        let mut together = Machine { plan: Some(&plan), slots: &schedule.slots, blocks: BTreeMap::new(), steps: 0 };
        together.run(&schedule.nodes, &mut got);
        prop_assert_eq!(want, got);
        prop_assert_eq!(apart.read(last), together.read(last));
        for buffer in &plan.buffers {
            if let Place::Arena(offset) = buffer.place {
                prop_assert!(offset % ALIGNMENT == 0 && offset + buffer.bytes <= plan.arena_bytes);
            }
        }
    }
}
