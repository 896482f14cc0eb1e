//! Inlining of `func.call` and composites, callees first; recursion is left as it is.

use crate::{PassContext, RemarkKind};
use icd_core::graph::{Func, Module, Op, OpKind, Region, ValueId};
use std::{collections::BTreeMap, sync::Arc};

/// Inlines every call and composite whose callee is in the module, then removes private functions that nothing calls.
pub(super) fn run(module: &mut Module, cx: &mut PassContext) {
    let index: BTreeMap<Arc<str>, usize> = module.funcs.iter().enumerate().map(|(i, f)| (f.name.clone(), i)).collect();
    let mut state = vec![State::New; module.funcs.len()];
    for i in 0..module.funcs.len() {
        visit(module, i, &index, &mut state, cx);
    }
    remove_unused(module, cx);
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    New,
    Open,
    Done,
}

fn callee(op: &Op) -> Option<&Arc<str>> {
    match &op.kind {
        OpKind::Call { callee } => Some(callee),
        OpKind::Composite { decomposition, .. } => Some(decomposition),
        _ => None,
    }
}

fn callees(region: &Region, out: &mut Vec<Arc<str>>) {
    for op in &region.ops {
        out.extend(callee(op).cloned());
        op.regions.iter().for_each(|r| callees(r, out));
    }
}

fn visit(module: &mut Module, i: usize, index: &BTreeMap<Arc<str>, usize>, state: &mut [State], cx: &mut PassContext) {
    // An explicit stack: call chains may be as deep as a hostile program likes.
    let mut stack = vec![(i, false)];
    while let Some((i, expanded)) = stack.pop() {
        if expanded {
            inline_into(module, i, index, state, cx);
            state[i] = State::Done;
        } else if state[i] == State::New {
            state[i] = State::Open;
            stack.push((i, true));
            let mut names = Vec::new();
            callees(&module.funcs[i].body, &mut names);
            stack.extend(names.iter().filter_map(|n| index.get(n)).filter(|&&j| state[j] == State::New).map(|&j| (j, false)));
        }
    }
}

/// Operations that inlining may produce in one function; beyond it calls stay calls (callees that call callees can grow exponentially).
const MAX_OPS: usize = 1 << 20;

fn inline_into(module: &mut Module, i: usize, index: &BTreeMap<Arc<str>, usize>, state: &[State], cx: &mut PassContext) {
    let mut func = module.funcs[i].clone();
    let mut body = std::mem::take(&mut func.body);
    let mut inliner = Inliner { module, index, state, ops: count_ops(&body), cx };
    inliner.region(&mut func, &mut body);
    func.body = body;
    module.funcs[i] = func;
}

fn count_ops(region: &Region) -> usize {
    region.ops.iter().map(|op| 1 + op.regions.iter().map(count_ops).sum::<usize>()).sum()
}

struct Inliner<'a> {
    module: &'a Module,
    index: &'a BTreeMap<Arc<str>, usize>,
    state: &'a [State],
    ops: usize,
    cx: &'a mut PassContext,
}

impl Inliner<'_> {
    fn region(&mut self, func: &mut Func, region: &mut Region) {
        let mut renamed: BTreeMap<ValueId, ValueId> = BTreeMap::new();
        for mut op in std::mem::take(&mut region.ops) {
            rename(&mut op, &renamed);
            for inner in &mut op.regions {
                self.region(func, inner);
            }
            match self.target(func, &op) {
                Some(target) => {
                    let target = &self.module.funcs[target];
                    self.ops += count_ops(&target.body);
                    self.cx.count("inlined", 1);
                    let (ops, results) = splice(func, target, &op.operands);
                    region.ops.extend(ops);
                    renamed.extend(op.results.iter().copied().zip(results));
                }
                None => region.ops.push(op),
            }
        }
        let mut tail = Op {
            kind: OpKind::Tuple,
            operands: std::mem::take(&mut region.results),
            results: Vec::new(),
            regions: Vec::new(),
            loc: Default::default(),
            attrs: 0,
        };
        rename(&mut tail, &renamed);
        region.results = tail.operands;
    }

    fn target(&mut self, func: &Func, op: &Op) -> Option<usize> {
        let name = callee(op)?;
        let missed = |cx: &mut PassContext, why: String| cx.remark(RemarkKind::Missed, &func.name, op, why);
        let Some(&i) = self.index.get(name) else {
            missed(self.cx, format!("@{name} is not defined in this module, so the call stays"));
            return None;
        };
        let target = &self.module.funcs[i];
        let types_fit = target.params.len() == op.operands.len()
            && target.body.results.len() == op.results.len()
            && target.params.iter().zip(&op.operands).all(|(p, v)| target.ty(p.value) == func.ty(*v))
            && target.body.results.iter().zip(&op.results).all(|(t, v)| target.ty(*t) == func.ty(*v));
        if self.state.get(i) != Some(&State::Done) {
            missed(self.cx, format!("@{name} is recursive, so the call stays"));
        } else if !types_fit {
            missed(self.cx, format!("@{name} has other types than the call, so the call stays"));
        } else if self.ops + count_ops(&target.body) > MAX_OPS {
            missed(self.cx, format!("inlining @{name} would make more than {MAX_OPS} operations, so the call stays"));
        } else {
            return Some(i);
        }
        None
    }
}

fn rename(op: &mut Op, renamed: &BTreeMap<ValueId, ValueId>) {
    let resolve = |v: &mut ValueId| {
        while let Some(&to) = renamed.get(v) {
            *v = to;
        }
    };
    op.operands.iter_mut().for_each(resolve);
    for region in &mut op.regions {
        region.ops.iter_mut().for_each(|op| rename(op, renamed));
        region.results.iter_mut().for_each(resolve);
    }
}

/// Copies the body of `source` into `func` with fresh values; `arguments` stand for its parameters. Returns operations and results.
fn splice(func: &mut Func, source: &Func, arguments: &[ValueId]) -> (Vec<Op>, Vec<ValueId>) {
    let mut map: BTreeMap<ValueId, ValueId> = source.params.iter().map(|p| p.value).zip(arguments.iter().copied()).collect();
    let ops = source.body.ops.iter().map(|op| copy_op(func, source, op, &mut map)).collect();
    (ops, source.body.results.iter().map(|v| map.get(v).copied().unwrap_or(*v)).collect())
}

fn copy_op(func: &mut Func, source: &Func, op: &Op, map: &mut BTreeMap<ValueId, ValueId>) -> Op {
    let get = |map: &BTreeMap<ValueId, ValueId>, v: &ValueId| map.get(v).copied().unwrap_or(*v);
    let operands = op.operands.iter().map(|v| get(map, v)).collect();
    let mut regions = Vec::with_capacity(op.regions.len());
    for region in &op.regions {
        let args = region.args.iter().map(|&a| fresh(func, source, a, map)).collect();
        let ops = region.ops.iter().map(|op| copy_op(func, source, op, map)).collect();
        let results = region.results.iter().map(|v| get(map, v)).collect();
        regions.push(Region { args, ops, results });
    }
    let results = op.results.iter().map(|&r| fresh(func, source, r, map)).collect();
    Op { kind: op.kind.clone(), operands, results, regions, loc: op.loc, attrs: op.attrs }
}

fn fresh(func: &mut Func, source: &Func, v: ValueId, map: &mut BTreeMap<ValueId, ValueId>) -> ValueId {
    let new = func.new_value(source.ty(v).clone());
    map.insert(v, new);
    new
}

fn remove_unused(module: &mut Module, cx: &mut PassContext) {
    let entry = module.entry().map(|f| f.name.clone());
    loop {
        let mut used = Vec::new();
        module.funcs.iter().for_each(|f| callees(&f.body, &mut used));
        let before = module.funcs.len();
        let opaque = module.funcs.iter().any(|f| has_opaque(&f.body));
        module.funcs.retain(|f| f.public || opaque || Some(&f.name) == entry.as_ref() || used.contains(&f.name));
        if module.funcs.len() == before {
            return;
        }
        cx.count("functions_removed", before - module.funcs.len());
    }
}

/// An operation that the graph does not model may refer to functions by name.
fn has_opaque(region: &Region) -> bool {
    region.ops.iter().any(|op| matches!(op.kind, OpKind::Opaque(_) | OpKind::CustomCall { .. }) || op.regions.iter().any(has_opaque))
}
