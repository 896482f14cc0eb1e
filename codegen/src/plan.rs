//! The buffer plan: which slots share memory, and where each lies in the arena.
//!
//! Steps are numbered in program order, nested ones included. A slot *occurs* at the steps that read or write it, and at the end of every
//! loop that uses it but did not start it. Slots are first merged into classes:
//!
//! * a copy disappears when its source is not needed behind it and its destination is not in use while the source is;
//! * a kernel writes its result over an operand that it reads element for element and that nothing needs any more.
//!
//! Then classes get offsets, largest first, each at the lowest place where no class that lives at the same time lies.

use crate::schedule::{Home, Node, Schedule, Slot};
use icd_core::manifest::{Buffer, Place};
use std::collections::{BTreeMap, BTreeSet};

/// Alignment of arena ranges in bytes.
pub const ALIGNMENT: usize = 256;

/// Places of all slots.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Bytes of the arena.
    pub arena_bytes: usize,
    /// Buffers of the program, one a class of slots.
    pub buffers: Vec<Buffer>,
    /// Buffer of each slot; `None` for slots that nothing uses.
    pub buffer_of: Vec<Option<usize>>,
}

impl Plan {
    /// Buffer of a slot that a step uses.
    pub fn buffer(&self, slot: Slot) -> usize {
        self.buffer_of.get(slot).copied().flatten().unwrap_or(usize::MAX)
    }
    /// Whether two slots share memory.
    pub fn same(&self, a: Slot, b: Slot) -> bool {
        self.buffer(a) == self.buffer(b)
    }
}

#[derive(Default)]
struct Walk {
    position: usize,
    occurrences: Vec<BTreeSet<usize>>,
    /// First and last position of every loop.
    loops: Vec<(usize, usize)>,
    /// Copies: position, destination, source.
    copies: Vec<(usize, Slot, Slot)>,
    /// In-place chances: position, result, operand.
    chances: Vec<(usize, Slot, Slot)>,
    /// Slots that the kernel at a position reads.
    reads: BTreeMap<usize, Vec<Slot>>,
}

impl Walk {
    fn occur(&mut self, slot: Slot) {
        self.occurrences[slot].insert(self.position);
    }

    fn nodes(&mut self, nodes: &[Node<'_>]) {
        for node in nodes {
            self.position += 1;
            match node {
                Node::Kernel(k) => {
                    k.args.iter().for_each(|&(_, s)| self.occur(s));
                    k.results.iter().chain(&k.temporaries).for_each(|&s| self.occur(s));
                    self.reads.insert(self.position, k.args.iter().map(|&(_, s)| s).collect());
                    self.chances.extend(k.in_place.iter().map(|&(r, a)| (self.position, r, a)));
                }
                &Node::Copy { dst, src } => {
                    self.occur(dst);
                    self.occur(src);
                    self.copies.push((self.position, dst, src));
                }
                &Node::BranchIndex { index, predicate } => {
                    self.occur(index);
                    self.occur(predicate);
                }
                Node::While { predicate, condition, body } => {
                    let start = self.position;
                    self.nodes(condition);
                    self.position += 1;
                    self.occur(*predicate);
                    self.nodes(body);
                    self.position += 1;
                    self.loops.push((start, self.position));
                }
                Node::Branch { index, branches } => {
                    self.occur(*index);
                    branches.iter().for_each(|b| self.nodes(b));
                    self.position += 1;
                }
            }
        }
    }
}

struct Classes {
    parent: Vec<Slot>,
    occurrences: Vec<BTreeSet<usize>>,
    homes: Vec<Home>,
    bytes: Vec<usize>,
}

impl Classes {
    fn find(&self, mut slot: Slot) -> Slot {
        while self.parent[slot] != slot {
            slot = self.parent[slot];
        }
        slot
    }
    fn first(&self, class: Slot) -> usize {
        self.occurrences[class].first().copied().unwrap_or(usize::MAX)
    }
    fn last(&self, class: Slot) -> usize {
        self.occurrences[class].last().copied().unwrap_or(0)
    }
    /// The home of two classes in one place; `None` if they cannot share.
    fn joint_home(&self, a: Slot, b: Slot) -> Option<Home> {
        match (&self.homes[a], &self.homes[b]) {
            (Home::Arena, Home::Arena) => Some(Home::Arena),
            (Home::Arena, Home::Output(i)) | (Home::Output(i), Home::Arena) => Some(Home::Output(*i)),
            _ => None,
        }
    }
    fn merge(&mut self, a: Slot, b: Slot, home: Home) {
        let (keep, gone) = (a.min(b), a.max(b));
        let moved = std::mem::take(&mut self.occurrences[gone]);
        self.occurrences[keep].extend(moved);
        self.parent[gone] = keep;
        self.homes[keep] = home;
    }

    /// Merges the two sides of a copy at `position` if nothing can tell them apart. `reads_in_place(d, p)`: at `p` the class d is only read element
    /// for element by what starts the source.
    fn merge_copy(&mut self, position: usize, dst: Slot, src: Slot, reads_in_place: impl Fn(&Classes, Slot, Slot, usize) -> bool) {
        let (d, s) = (self.find(dst), self.find(src));
        if d == s || self.bytes[d] != self.bytes[s] {
            return;
        }
        let Some(home) = self.joint_home(d, s) else { return };
        let start = self.first(s);
        let used_between = self.occurrences[d].range(start..position).any(|&p| p != start || !reads_in_place(self, d, s, p));
        if self.last(s) <= position && !used_between {
            self.merge(d, s, home);
        }
    }
}

/// Plans a schedule.
pub fn plan(schedule: &Schedule<'_>) -> Plan {
    let count = schedule.slots.len();
    let mut walk = Walk { occurrences: vec![BTreeSet::new(); count], ..Walk::default() };
    walk.nodes(&schedule.nodes);
    for (slot, info) in schedule.slots.iter().enumerate() {
        if let Home::Output(_) = info.home {
            walk.occurrences[slot].insert(walk.position + 1);
        }
    }
    // Inner loops were recorded first, so that an extension reaches the outer loops too.
    for &(start, end) in &walk.loops {
        for set in &mut walk.occurrences {
            if set.first().is_some_and(|&p| p < start) && set.range(start..=end).next().is_some() {
                set.insert(end);
            }
        }
    }
    let mut classes = Classes {
        parent: (0..count).collect(),
        occurrences: walk.occurrences,
        homes: schedule.slots.iter().map(|s| s.home.clone()).collect(),
        bytes: schedule.slots.iter().map(|s| s.bytes).collect(),
    };
    let chances: BTreeSet<(usize, Slot, Slot)> =
        walk.chances.iter().copied().chain(walk.copies.iter().map(|&(p, d, s)| (p, d, s))).collect();
    // Two arguments of one kernel may have come to share memory; then one of them could be read elsewhere than element for element.
    let read_once = |classes: &Classes, class: Slot, p: usize| {
        walk.reads.get(&p).is_none_or(|slots| slots.iter().filter(|&&s| classes.find(s) == class).count() == 1)
    };
    for &(position, dst, src) in &walk.copies {
        classes.merge_copy(position, dst, src, |classes, d, s, p| {
            let at = chances.range((p, 0, 0)..(p + 1, 0, 0));
            at.clone().any(|&(_, r, a)| classes.find(r) == s && classes.find(a) == d) && read_once(classes, d, p)
        });
    }
    for &(position, result, operand) in &walk.chances {
        let (r, a) = (classes.find(result), classes.find(operand));
        let free = classes.last(a) <= position && classes.first(r) >= position && read_once(&classes, a, position);
        if r != a
            && classes.bytes[r] == classes.bytes[a]
            && free
            && let Some(home) = classes.joint_home(r, a)
        {
            classes.merge(r, a, home);
        }
    }
    place(&classes)
}

fn place(classes: &Classes) -> Plan {
    let count = classes.parent.len();
    let mut plan = Plan { buffer_of: vec![None; count], ..Plan::default() };
    let mut order: Vec<Slot> = (0..count).filter(|&s| classes.parent[s] == s && !classes.occurrences[s].is_empty()).collect();
    let mut offsets = vec![0usize; count];
    let mut arena: Vec<Slot> = order.iter().copied().filter(|&s| classes.homes[s] == Home::Arena).collect();
    arena.sort_by_key(|&s| (std::cmp::Reverse(classes.bytes[s]), s));
    let mut placed: Vec<Slot> = Vec::new();
    for slot in arena {
        let mut taken: Vec<(usize, usize)> = placed
            .iter()
            .filter(|&&other| classes.first(other) <= classes.last(slot) && classes.first(slot) <= classes.last(other))
            .map(|&other| (offsets[other], offsets[other] + size_of_range(classes.bytes[other])))
            .collect();
        taken.sort_unstable();
        let size = size_of_range(classes.bytes[slot]);
        let mut offset = 0;
        for (from, to) in taken {
            if offset + size <= from {
                break;
            }
            offset = offset.max(to);
        }
        offsets[slot] = offset;
        plan.arena_bytes = plan.arena_bytes.max(offset + size);
        placed.push(slot);
    }
    order.sort_unstable();
    for slot in order {
        let place = match &classes.homes[slot] {
            Home::Arena => Place::Arena(offsets[slot]),
            Home::Input(i) => Place::Input(*i),
            Home::Output(i) => Place::Output(*i),
            Home::Weight(name) => Place::Weight(name.clone()),
        };
        plan.buffer_of[slot] = Some(plan.buffers.len());
        plan.buffers.push(Buffer { place, bytes: classes.bytes[slot] });
    }
    for slot in 0..count {
        plan.buffer_of[slot] = plan.buffer_of[classes.find(slot)];
    }
    plan
}

fn size_of_range(bytes: usize) -> usize {
    bytes.max(1).next_multiple_of(ALIGNMENT)
}

#[cfg(test)]
mod tests;
