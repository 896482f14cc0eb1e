//! Choosing one node a class so that the whole program costs least, every shared value counted once.
//!
//! 1. Greedy: classes are settled bottom-up by the cost of everything below them, as a set, so sharing below one class counts once.
//! 2. Moves: one class takes another of its nodes, or several classes change together where a rule proposed them together (three products that
//!    merge pay only as three). A move stays if the cost of the whole program falls and nothing becomes cyclic. Repeated until no move helps or
//!    the budget is spent.
//!
//! 3. Proof: [`super::certificate`] bounds what any choice costs, and finds a better one if there is.
//!
//! Cost: greedy is nodes × classes / 64; each move is linear in the program.

use super::certificate::certify;
use super::terms::{Head, Node, Terms};
use egg::Id;
use icd_core::cost::{Machine, Work};
use std::collections::BTreeMap;

/// Moves tried at most, times the size of the program: bounds the work, not the wall-clock time.
const MOVE_BUDGET: usize = 40_000_000;

/// The chosen node of each class that the program needs.
pub(crate) struct Extraction {
    pub(crate) chosen: BTreeMap<Id, Node>,
    /// Predicted microseconds of the greedy choice, and after the moves.
    pub(crate) greedy_us: f64,
    pub(crate) final_us: f64,
    /// No choice of the e-graph costs less; equal to `final_us` when the choice is proven best.
    pub(crate) lower_us: f64,
    pub(crate) moves_tried: usize,
    pub(crate) moves_kept: usize,
    /// Bounds computed for the proof.
    pub(crate) branches: usize,
    /// `no move helps` or `budget`.
    pub(crate) stop: &'static str,
}

/// Classes by number: the nodes of each, with children and costs.
pub(super) struct Problem<'t> {
    pub(super) ids: Vec<Id>,
    pub(super) nodes: Vec<&'t [Node]>,
    pub(super) children: Vec<Vec<Vec<usize>>>,
    pub(super) costs: Vec<Vec<f64>>,
    pub(super) roots: Vec<usize>,
}

/// Chooses nodes for everything that `roots` need; `None` if some root has no acyclic choice (cannot happen for an imported program).
pub(crate) fn extract(terms: &Terms, roots: &[Id], joint: &[Vec<(Id, Id)>], machine: &Machine) -> Option<Extraction> {
    extract_by(terms, roots, joint, &|node, id| node_cost(terms, node, id, machine))
}

/// The same with another cost of nodes.
pub(crate) fn extract_by(terms: &Terms, roots: &[Id], joint: &[Vec<(Id, Id)>], cost: &dyn Fn(&Node, Id) -> f64) -> Option<Extraction> {
    let ids = terms.class_ids();
    let index: BTreeMap<Id, usize> = ids.iter().enumerate().map(|(i, &id)| (id, i)).collect();
    let at = |id: Id| index[&terms.egraph.find(id)];
    let nodes: Vec<&[Node]> = ids.iter().map(|&id| terms.nodes(id)).collect();
    let children = nodes.iter().map(|ns| ns.iter().map(|n| n.children.iter().map(|&c| at(c)).collect()).collect()).collect();
    let costs = nodes.iter().zip(&ids).map(|(ns, &id)| ns.iter().map(|n| cost(n, id)).collect()).collect();
    let roots = roots.iter().map(|&r| at(r)).collect();
    let problem = Problem { ids, nodes, children, costs, roots };
    let mut choice = problem.greedy();
    if problem.roots.iter().any(|&r| choice[r].is_none()) {
        return None;
    }
    let greedy_us = problem.total(&choice)?;
    let (mut best, mut tried, mut kept, mut stop) = (greedy_us, 0, 0, "no move helps");
    let moves = problem.moves(terms, joint, &index);
    let budget = MOVE_BUDGET / problem.ids.len().max(1);
    'search: loop {
        let before = kept;
        for candidate in &moves {
            if candidate.iter().all(|&(class, node)| choice[class] == Some(node)) {
                continue;
            }
            if tried == budget {
                stop = "budget";
                break 'search;
            }
            tried += 1;
            let saved: Vec<_> = candidate.iter().map(|&(class, _)| choice[class]).collect();
            candidate.iter().for_each(|&(class, node)| choice[class] = Some(node));
            match problem.total(&choice).filter(|&t| t < best - 1e-9) {
                Some(total) => {
                    best = total;
                    kept += 1;
                }
                None => candidate.iter().zip(saved).for_each(|(&(class, _), old)| choice[class] = old),
            }
        }
        if kept == before {
            break;
        }
    }
    let certificate = certify(&problem, best);
    if let Some(better) = certificate.better {
        best = problem.total(&better)?;
        choice = better;
    }
    let chosen =
        problem.reachable(&choice)?.into_iter().filter_map(|c| Some((problem.ids[c], problem.nodes[c].get(choice[c]?)?.clone()))).collect();
    Some(Extraction {
        chosen,
        greedy_us,
        final_us: best,
        lower_us: certificate.lower_us,
        moves_tried: tried,
        moves_kept: kept,
        branches: certificate.branches,
        stop,
    })
}

/// Predicted time of a node. What depends on constants alone is computed at compile time.
fn node_cost(terms: &Terms, node: &Node, class: Id, machine: &Machine) -> f64 {
    const TIE: f64 = 1e-4;
    let Head::Term(t) = node.head else { return 0.0 };
    let template = terms.template(t);
    if terms.is_constant(class) {
        let bytes = template.ty.bytes().unwrap_or(0) as f64;
        return if node.children.is_empty() { 0.0 } else { TIE + bytes * 1e-12 };
    }
    let operands: Vec<_> = node.children.iter().filter_map(|&c| terms.ty(c)).collect();
    TIE + Work::of(&template.kind, &operands, &template.ty).time_us(machine)
}

impl Problem<'_> {
    pub(super) fn greedy(&self) -> Vec<Option<usize>> {
        let n = self.ids.len();
        let words = n.div_ceil(64);
        let mut choice: Vec<Option<usize>> = vec![None; n];
        let mut below: Vec<Vec<u64>> = vec![Vec::new(); n];
        let mut cost = vec![f64::INFINITY; n];
        let mut parents: Vec<Vec<usize>> = vec![Vec::new(); n];
        for (class, nodes) in self.children.iter().enumerate() {
            nodes.iter().flatten().for_each(|&c| parents[c].push(class));
        }
        parents.iter_mut().for_each(|p| {
            p.sort_unstable();
            p.dedup();
        });
        let mut queue: std::collections::BTreeSet<usize> = (0..n).collect();
        // Each pass can only lower costs; the bound stops endless tiny gains.
        let mut steps = 0;
        while let Some(class) = queue.pop_first() {
            steps += 1;
            if steps > 64 * n {
                break;
            }
            let mut improved = false;
            for (i, children) in self.children[class].iter().enumerate() {
                if children.iter().any(|&c| choice[c].is_none()) {
                    continue;
                }
                let mut set = vec![0u64; words];
                for &c in children {
                    set.iter_mut().zip(&below[c]).for_each(|(a, b)| *a |= b);
                }
                let bit = 1u64 << (class % 64);
                if set[class / 64] & bit != 0 {
                    continue;
                }
                let mut total = self.costs[class][i];
                for (w, &word) in set.iter().enumerate() {
                    let mut rest = word;
                    while rest != 0 {
                        let c = w * 64 + rest.trailing_zeros() as usize;
                        total += choice[c].map_or(0.0, |i| self.costs[c][i]);
                        rest &= rest - 1;
                    }
                }
                if total < cost[class] - 1e-12 {
                    set[class / 64] |= bit;
                    (cost[class], choice[class], below[class]) = (total, Some(i), set);
                    improved = true;
                }
            }
            if improved {
                queue.extend(&parents[class]);
            }
        }
        choice
    }

    /// Classes that the roots need, children first; `None` if the choice is cyclic or incomplete.
    fn reachable(&self, choice: &[Option<usize>]) -> Option<Vec<usize>> {
        let mut state = vec![0u8; self.ids.len()];
        let mut order = Vec::new();
        let mut stack: Vec<(usize, usize)> = Vec::new();
        for &root in &self.roots {
            if state[root] == 0 {
                state[root] = 1;
                stack.push((root, 0));
            }
            while let Some((class, next)) = stack.pop() {
                match self.children[class][choice[class]?].get(next) {
                    Some(&child) => {
                        stack.push((class, next + 1));
                        match state[child] {
                            0 => {
                                state[child] = 1;
                                stack.push((child, 0));
                            }
                            1 => return None,
                            _ => {}
                        }
                    }
                    None => {
                        state[class] = 2;
                        order.push(class);
                    }
                }
            }
        }
        Some(order)
    }

    /// The cost of a choice; `None` if it is cyclic or incomplete.
    pub(super) fn total(&self, choice: &[Option<usize>]) -> Option<f64> {
        self.reachable(choice)?.into_iter().map(|c| Some(self.costs[c][choice[c]?])).sum()
    }

    /// Joint moves first: they are what single moves cannot reach.
    fn moves(&self, terms: &Terms, joint: &[Vec<(Id, Id)>], index: &BTreeMap<Id, usize>) -> Vec<Vec<(usize, usize)>> {
        let mut out = Vec::new();
        for pairs in joint {
            let candidate: Option<Vec<(usize, usize)>> = pairs
                .iter()
                .map(|&(class, added)| {
                    let class = *index.get(&terms.egraph.find(class))?;
                    // The term's own top node: the one that was hash-consed when it was added.
                    let mut node = terms.egraph.id_to_node(added).clone();
                    node.children.iter_mut().for_each(|c| *c = terms.egraph.find(*c));
                    let at = self.nodes[class].iter().position(|n| {
                        n.head == node.head && n.children.iter().map(|&c| terms.egraph.find(c)).eq(node.children.iter().copied())
                    })?;
                    Some((class, at))
                })
                .collect();
            out.extend(candidate);
        }
        for (class, nodes) in self.nodes.iter().enumerate() {
            if nodes.len() > 1 {
                out.extend((0..nodes.len()).map(|i| vec![(class, i)]));
            }
        }
        out
    }
}
