//! Calls, loops and branches.

use super::{Backend, Entry, Home, Kernel, MAX_CALL_DEPTH, Node, Scheduler, Scope, Slot, bytes_of, static_tensor};
use crate::{
    error::{CodegenError, Result},
    scan::{Role, Scan},
};
use icd_core::graph::{Func, Op, OpKind, Region};

impl<'a, B: Backend> Scheduler<'a, B> {
    pub(super) fn call(
        &mut self,
        func: &'a Func,
        op: &'a Op,
        callee: &str,
        scope: &mut Scope<'a>,
        nodes: &mut Vec<Node<'a>>,
    ) -> Result<()> {
        let target = self.module.func(callee).ok_or_else(|| CodegenError::invalid(op, format!("no function @{callee}")))?;
        if self.depth >= MAX_CALL_DEPTH {
            return Err(CodegenError::unsupported(op, "calls are nested too deeply or recursive", "inline them with icd-simplify"));
        }
        let mut inner = Scope::new();
        for (&operand, param) in op.operands.iter().zip(&target.params) {
            let entry = self.materialize_entry(func, operand, scope, nodes)?;
            inner.insert(param.value, entry);
        }
        self.depth += 1;
        self.region(target, &target.body, &mut inner, nodes)?;
        self.depth -= 1;
        for (&result, &value) in op.results.iter().zip(&target.body.results) {
            let entry = self.materialize_entry(target, value, &mut inner, nodes)?;
            scope.insert(result, entry);
        }
        Ok(())
    }

    pub(super) fn while_loop(&mut self, func: &'a Func, op: &'a Op, scope: &mut Scope<'a>, nodes: &mut Vec<Node<'a>>) -> Result<()> {
        let [condition, body] = op.regions.as_slice() else { return Err(CodegenError::invalid(op, "a condition and a body are needed")) };
        let mut state: Vec<Entry<'a>> = Vec::new();
        for &operand in &op.operands {
            let Some(ty) = func.tensor(operand) else {
                state.push(Entry::Token);
                continue;
            };
            static_tensor(func, operand, "the loop state")?;
            let src = self.materialize(func, operand, scope, nodes)?;
            let dst = self.slot(bytes_of(ty)?, Home::Arena);
            nodes.push(Node::Copy { dst, src });
            state.push(Entry::Slot(dst));
        }
        let enter = |region: &Region, scope: &Scope<'a>| {
            let mut inner = scope.clone();
            inner.extend(region.args.iter().copied().zip(state.iter().cloned()));
            inner
        };
        let mut test = Vec::new();
        let mut inner = enter(condition, scope);
        self.region(func, condition, &mut inner, &mut test)?;
        let outcome = *condition.results.first().ok_or_else(|| CodegenError::invalid(op, "the condition returns nothing"))?;
        let computed = self.materialize(func, outcome, &mut inner, &mut test)?;
        // The predicate has a slot of its own: the condition may return a loop variable or a value from outside.
        let predicate = self.slot(1, Home::Arena);
        test.push(Node::Copy { dst: predicate, src: computed });

        let mut steps = Vec::new();
        let mut inner = enter(body, scope);
        self.region(func, body, &mut inner, &mut steps)?;
        let mut moves: Vec<(Slot, Slot)> = Vec::new();
        for (entry, &value) in state.iter().zip(&body.results) {
            if let &Entry::Slot(dst) = entry {
                let src = self.materialize(func, value, &mut inner, &mut steps)?;
                moves.push((dst, src));
            }
        }
        self.move_all(&moves, &mut steps);
        nodes.push(Node::While { predicate, condition: test, body: steps });
        scope.extend(op.results.iter().copied().zip(state));
        Ok(())
    }

    /// A loop in one kernel, which reads the first state and what the body captures, and writes all results but the invariant ones.
    pub(super) fn scan(
        &mut self,
        func: &'a Func,
        op: &'a Op,
        scan: &Scan<'a>,
        scope: &mut Scope<'a>,
        nodes: &mut Vec<Node<'a>>,
    ) -> Result<()> {
        let mut kernel = Kernel::new(func, op);
        let read = scan.roles.iter().zip(&op.operands).filter(|(role, _)| matches!(role, Role::State | Role::Invariant)).map(|(_, v)| v);
        for &v in read.chain(&scan.captured) {
            static_tensor(func, v, "what the loop reads")?;
            self.collect(v, scope, &mut kernel)?;
        }
        for ((role, &operand), &result) in scan.roles.iter().zip(&op.operands).zip(&op.results) {
            let entry = match role {
                Role::Invariant => scope.get(&operand).cloned().unwrap_or(Entry::Token),
                Role::Counter | Role::State | Role::Rows(_) => {
                    let slot = self.slot(bytes_of(static_tensor(func, result, "the loop state")?)?, Home::Arena);
                    kernel.results.push(slot);
                    Entry::Slot(slot)
                }
            };
            scope.insert(result, entry);
        }
        nodes.push(Node::Kernel(Box::new(kernel)));
        Ok(())
    }

    /// Parallel assignment: sources that are also destinations are saved first.
    fn move_all(&mut self, moves: &[(Slot, Slot)], nodes: &mut Vec<Node<'a>>) {
        let mut late = Vec::new();
        for &(dst, src) in moves.iter().filter(|(dst, src)| dst != src) {
            if moves.iter().any(|m| m.0 == src) {
                let saved = self.slot(self.slots[src].bytes, Home::Arena);
                nodes.push(Node::Copy { dst: saved, src });
                late.push((dst, saved));
            } else {
                late.push((dst, src));
            }
        }
        nodes.extend(late.into_iter().map(|(dst, src)| Node::Copy { dst, src }));
    }

    pub(super) fn branch(&mut self, func: &'a Func, op: &'a Op, scope: &mut Scope<'a>, nodes: &mut Vec<Node<'a>>) -> Result<()> {
        let selector = *op.operands.first().ok_or_else(|| CodegenError::invalid(op, "no predicate"))?;
        let selector = self.materialize(func, selector, scope, nodes)?;
        let index = if op.kind == OpKind::If {
            let index = self.slot(4, Home::Arena);
            nodes.push(Node::BranchIndex { index, predicate: selector });
            index
        } else {
            selector
        };
        let mut results = Vec::new();
        for &result in &op.results {
            results.push(match func.tensor(result) {
                None => Entry::Token,
                Some(ty) => {
                    static_tensor(func, result, "the result")?;
                    Entry::Slot(self.slot(bytes_of(ty)?, Home::Arena))
                }
            });
        }
        let mut branches = Vec::new();
        for region in &op.regions {
            let mut steps = Vec::new();
            let mut inner = scope.clone();
            self.region(func, region, &mut inner, &mut steps)?;
            for (entry, &value) in results.iter().zip(&region.results) {
                if let &Entry::Slot(dst) = entry {
                    let src = self.materialize(func, value, &mut inner, &mut steps)?;
                    steps.push(Node::Copy { dst, src });
                }
            }
            branches.push(steps);
        }
        nodes.push(Node::Branch { index, branches });
        scope.extend(op.results.iter().copied().zip(results));
        Ok(())
    }
}
