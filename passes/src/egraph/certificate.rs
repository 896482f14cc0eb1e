//! A lower bound on what any choice of nodes costs, and branch and bound that closes the gap between it and the choice in hand.
//!
//! *Bound.* A class is needed if every acyclic choice for the roots holds it: `need(c) = {c} ∪ ⋂ₙ ⋃ need(children of n)` over the nodes n of c, the largest
//! such sets. Each needed class pays at least its cheapest node, where a node is also charged for the classes that it alone brings in; the price of a class
//! that several needed classes may bring in is split among them, so that nothing is charged twice.
//!
//! *Search.* The needed class with several nodes and the largest stake is split, one branch a node. A branch whose bound does not beat the best choice ends.
//! With no such class left the bound is the cost of a choice. Cost: a bound is classes² / 64 for each sweep over the classes, operands first, of which it takes
//! a few; the work is limited, not the time.

use super::extract::Problem;

/// Work that the search may do: sweeps × classes² / 64, over all branches.
const WORK: usize = 40_000_000;
/// Costs that differ by less are equal.
const EPSILON: f64 = 1e-9;

/// What the search proved.
pub(super) struct Certificate {
    /// No choice costs less.
    pub(super) lower_us: f64,
    /// The cheapest choice that was found, if it is cheaper than the one given.
    pub(super) better: Option<Vec<Option<usize>>>,
    /// Bounds computed.
    pub(super) branches: usize,
}

type Set = Vec<u64>;

fn members(set: &Set) -> impl Iterator<Item = usize> + '_ {
    set.iter().enumerate().flat_map(|(w, &word)| {
        let mut rest = word;
        std::iter::from_fn(move || {
            (rest != 0).then(|| {
                let bit = rest.trailing_zeros() as usize;
                rest &= rest - 1;
                w * 64 + bit
            })
        })
    })
}

/// Nodes of each class that a branch still allows.
type Allowed = Vec<Vec<usize>>;

struct Bound {
    lower: f64,
    /// The cheapest node of each class by the bound's prices.
    choice: Vec<Option<usize>>,
    /// The class to split, with its nodes from the most promising.
    split: Option<(usize, Vec<usize>)>,
    /// Sweeps over the classes that it took.
    sweeps: usize,
}

/// The classes, operands before what reads them as far as there are no cycles.
fn operands_first(problem: &Problem<'_>) -> Vec<usize> {
    let n = problem.costs.len();
    let mut order = Vec::with_capacity(n);
    let mut seen = vec![false; n];
    for start in 0..n {
        // Classes on the path, each with how many of its operands were visited.
        let mut path = if std::mem::replace(&mut seen[start], true) { Vec::new() } else { vec![(start, 0)] };
        while let Some((class, visited)) = path.pop() {
            match problem.children[class].iter().flatten().nth(visited) {
                None => order.push(class),
                Some(&child) => {
                    path.push((class, visited + 1));
                    if !std::mem::replace(&mut seen[child], true) {
                        path.push((child, 0));
                    }
                }
            }
        }
    }
    order
}

/// Searches from `choice`, which costs `cost`.
pub(super) fn certify(problem: &Problem<'_>, cost: f64) -> Certificate {
    let n = problem.costs.len();
    let sweep_work = n * n.div_ceil(64);
    let order = operands_first(problem);
    let (mut best, mut better, mut branches, mut work) = (cost, None, 0, 0);
    // Open branches with the bound that they had when they were opened.
    let all: Allowed = problem.costs.iter().map(|costs| (0..costs.len()).collect()).collect();
    let mut open = vec![(0.0, all)];
    let mut unexplored = f64::INFINITY;
    while let Some((known, allowed)) = open.pop() {
        if known >= best - EPSILON {
            continue;
        }
        if work >= WORK {
            unexplored = open.iter().map(|(b, _)| *b).fold(known, f64::min);
            break;
        }
        branches += 1;
        let Some(bound) = bound(problem, &allowed, &order) else { continue };
        work += bound.sweeps * sweep_work;
        if let Some(total) = problem.total(&bound.choice).filter(|&t| t < best - EPSILON) {
            (best, better) = (total, Some(bound.choice.clone()));
        }
        let lower = bound.lower.max(known);
        if lower >= best - EPSILON {
            continue;
        }
        let Some((class, nodes)) = bound.split else { continue };
        // The most promising branch is opened last, so that it is taken first.
        for &node in nodes.iter().rev() {
            let mut narrower = allowed.clone();
            narrower[class] = vec![node];
            open.push((lower, narrower));
        }
    }
    Certificate { lower_us: unexplored.min(best), better, branches }
}

/// The bound for what `allowed` leaves; `None` if it leaves no acyclic choice.
fn bound(problem: &Problem<'_>, allowed: &Allowed, order: &[usize]) -> Option<Bound> {
    let allowed = feasible(problem, allowed, order);
    if problem.roots.iter().any(|&r| allowed[r].is_empty()) {
        return None;
    }
    let (need, sweeps) = needs(problem, &allowed, order);
    let n = problem.costs.len();
    let mut needed: Set = vec![0; n.div_ceil(64)];
    for &r in &problem.roots {
        needed.iter_mut().zip(&need[r]).for_each(|(a, b)| *a |= b);
    }
    let cheapest = |c: usize| allowed[c].iter().map(|&i| problem.costs[c][i]).fold(f64::INFINITY, f64::min);
    // What each node of a needed class brings in beyond what is needed anyway, and how many needed classes may bring a class in.
    let brings = |c: usize, i: usize| {
        let mut extra: Set = vec![0; needed.len()];
        for &child in &problem.children[c][i] {
            extra.iter_mut().zip(&need[child]).for_each(|(a, b)| *a |= b);
        }
        extra.iter_mut().zip(&needed).for_each(|(a, b)| *a &= !b);
        extra
    };
    let mut sharers = vec![0u32; n];
    for c in members(&needed) {
        let mut any: Set = vec![0; needed.len()];
        for &i in &allowed[c] {
            any.iter_mut().zip(&brings(c, i)).for_each(|(a, b)| *a |= b);
        }
        members(&any).for_each(|x| sharers[x] += 1);
    }
    let mut choice: Vec<Option<usize>> = allowed
        .iter()
        .enumerate()
        .map(|(c, nodes)| nodes.iter().copied().min_by(|&a, &b| problem.costs[c][a].total_cmp(&problem.costs[c][b])))
        .collect();
    let (mut lower, mut split, mut stake) = (0.0, None, 0.0);
    for c in members(&needed) {
        let mut priced: Vec<(f64, usize)> = allowed[c]
            .iter()
            .map(|&i| (problem.costs[c][i] + members(&brings(c, i)).map(|x| cheapest(x) / f64::from(sharers[x].max(1))).sum::<f64>(), i))
            .collect();
        priced.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        let &(price, node) = priced.first()?;
        lower += price;
        choice[c] = Some(node);
        if priced.len() > 1 {
            // What could still be hidden behind this choice: the part of prices that was split, or that the nodes differ in.
            let hidden: f64 =
                priced.iter().map(|&(p, i)| problem.costs[c][i] + members(&brings(c, i)).map(cheapest).sum::<f64>() - p).sum();
            let weight = 1.0 + hidden + priced.last().map_or(0.0, |l| l.0 - price);
            if weight > stake {
                (stake, split) = (weight, Some((c, priced.iter().map(|p| p.1).collect())));
            }
        }
    }
    Some(Bound { lower, choice, split, sweeps })
}

/// The allowed nodes that can be part of an acyclic choice.
fn feasible(problem: &Problem<'_>, allowed: &Allowed, order: &[usize]) -> Allowed {
    let mut possible = vec![false; allowed.len()];
    loop {
        let mut changed = false;
        for &c in order {
            if !possible[c] && allowed[c].iter().any(|&i| problem.children[c][i].iter().all(|&x| possible[x])) {
                possible[c] = true;
                changed = true;
            }
        }
        if !changed {
            break;
        }
    }
    let kept = |c: usize, i: &usize| problem.children[c][*i].iter().all(|&x| possible[x]);
    allowed.iter().enumerate().map(|(c, nodes)| nodes.iter().copied().filter(|i| kept(c, i)).collect()).collect()
}

/// For each class, the classes that every acyclic choice for it holds; and the sweeps that this took.
fn needs(problem: &Problem<'_>, allowed: &Allowed, order: &[usize]) -> (Vec<Set>, usize) {
    let n = allowed.len();
    let words = n.div_ceil(64);
    let mut need: Vec<Set> = vec![vec![u64::MAX; words]; n];
    let (mut all, mut below): (Set, Set) = (vec![0; words], vec![0; words]);
    let mut sweeps = 0;
    loop {
        sweeps += 1;
        let mut changed = false;
        for &c in order {
            all.fill(u64::MAX);
            for &i in &allowed[c] {
                below.fill(0);
                for &child in &problem.children[c][i] {
                    below.iter_mut().zip(&need[child]).for_each(|(a, b)| *a |= b);
                }
                all.iter_mut().zip(&below).for_each(|(a, b)| *a &= b);
            }
            all[c / 64] |= 1 << (c % 64);
            if all != need[c] {
                need[c].copy_from_slice(&all);
                changed = true;
            }
        }
        if !changed {
            return (need, sweeps);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use egg::Id;

    /// A random problem: class `c` mostly reads lower classes, sometimes higher ones, so that choices can be cyclic.
    fn random(seed: u64, classes: usize) -> Problem<'static> {
        let mut state = seed;
        let mut below = move |n: usize| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) as usize % n
        };
        let (mut children, mut costs) = (Vec::new(), Vec::new());
        for c in 0..classes {
            let nodes = 1 + below(3);
            let node = |below: &mut dyn FnMut(usize) -> usize| -> Vec<usize> {
                let count = if c == 0 { 0 } else { below(3) };
                (0..count).map(|_| if below(8) == 0 { below(classes) } else { below(c) }).collect()
            };
            children.push((0..nodes).map(|_| node(&mut below)).collect::<Vec<_>>());
            costs.push((0..nodes).map(|_| below(20) as f64).collect::<Vec<_>>());
        }
        let ids = (0..classes).map(Id::from).collect();
        Problem { ids, nodes: vec![&[]; classes], children, costs, roots: vec![classes - 1, classes / 2] }
    }

    /// The least cost over all choices, tried one by one.
    fn exhaustive(problem: &Problem<'_>) -> Option<f64> {
        let mut choice: Vec<Option<usize>> = vec![Some(0); problem.costs.len()];
        let mut best: Option<f64> = None;
        loop {
            if let Some(total) = problem.total(&choice) {
                best = Some(best.map_or(total, |b: f64| b.min(total)));
            }
            let Some(c) = (0..choice.len()).find(|&c| choice[c] < Some(problem.costs[c].len() - 1)) else { return best };
            choice[..c].fill(Some(0));
            choice[c] = choice[c].map(|i| i + 1);
        }
    }

    #[test]
    fn the_proven_bound_is_the_least_cost() {
        let mut improved = 0;
        for seed in 0..400 {
            let problem = random(seed, 4 + seed as usize % 8);
            let Some(least) = exhaustive(&problem) else { continue };
            let greedy = problem.greedy();
            let Some(given) = problem.total(&greedy) else { continue };
            let certificate = certify(&problem, given);
            assert!((certificate.lower_us - least).abs() < 1e-6, "seed {seed}: proved {}, least {least}", certificate.lower_us);
            let found = certificate.better.as_ref().map_or(Some(given), |choice| problem.total(choice));
            assert_eq!(found.map(|f| (f - least).abs() < 1e-6), Some(true), "seed {seed}: found {found:?}, least {least}");
            improved += usize::from(certificate.better.is_some());
        }
        assert!(improved > 10, "greedy was beaten only {improved} times: the problems are too easy to test anything");
    }

    /// With too little work allowed, the bound stays a bound.
    #[test]
    fn every_single_bound_is_below_the_least_cost() {
        for seed in 400..800 {
            let problem = random(seed, 4 + seed as usize % 8);
            let Some(least) = exhaustive(&problem) else { continue };
            let all: Allowed = problem.costs.iter().map(|costs| (0..costs.len()).collect()).collect();
            let lower = bound(&problem, &all, &operands_first(&problem)).map(|b| b.lower);
            assert!(lower.is_some_and(|l| l <= least + 1e-9), "seed {seed}: {lower:?} exceeds {least}");
        }
    }
}
