//! Structural check of a module: every use sees its definition, every value has one, and the shapes that passes rely on agree.

use crate::simplify::free_dims;
use icd_core::{
    TensorType,
    graph::{Func, Module, Op, OpKind, Region, ValueId},
    types::DYNAMIC,
};

/// A module breaks a rule of the graph IR.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("function @{func}: {op}: {problem}")]
pub struct VerifyError {
    /// Function.
    pub func: String,
    /// Operation or terminator.
    pub op: String,
    /// What is wrong.
    pub problem: String,
}

/// Checks a module.
///
/// # Errors
/// The first violation found, in program order.
pub fn verify(module: &Module) -> Result<(), VerifyError> {
    module.funcs.iter().try_for_each(|func| {
        let mut check = Check { func, defined: vec![false; func.values.len()], seen: vec![false; func.values.len()] };
        check.region(&func.body, "return", false)
    })
}

struct Check<'a> {
    func: &'a Func,
    defined: Vec<bool>,
    seen: Vec<bool>,
}

impl Check<'_> {
    fn fail<T>(&self, op: &str, problem: String) -> Result<T, VerifyError> {
        Err(VerifyError { func: self.func.name.to_string(), op: op.into(), problem })
    }

    fn define(&mut self, v: ValueId, op: &str) -> Result<(), VerifyError> {
        let i = v.0 as usize;
        match self.seen.get(i) {
            Some(false) => {}
            Some(true) => return self.fail(op, format!("value %{i} is defined twice")),
            None => return self.fail(op, format!("value %{i} has no type")),
        }
        self.seen[i] = true;
        self.defined[i] = true;
        Ok(())
    }

    fn uses(&self, vs: &[ValueId], op: &str) -> Result<(), VerifyError> {
        match vs.iter().find(|v| self.defined.get(v.0 as usize) != Some(&true)) {
            Some(v) => self.fail(op, format!("value %{} is used where it is not defined", v.0)),
            None => Ok(()),
        }
    }

    fn region(&mut self, region: &Region, name: &str, isolated: bool) -> Result<(), VerifyError> {
        let outer = self.defined.clone();
        if isolated {
            self.defined.fill(false);
        }
        for &a in &region.args {
            self.define(a, name)?;
        }
        for op in &region.ops {
            let name = op.kind.name();
            self.uses(&op.operands, &name)?;
            for inner in &op.regions {
                self.region(inner, &name, matches!(op.kind, OpKind::Fusion(_)))?;
            }
            self.shapes(op, &name)?;
            for &r in &op.results {
                self.define(r, &name)?;
            }
        }
        self.uses(&region.results, name)?;
        self.defined = outer;
        Ok(())
    }

    fn shapes(&self, op: &Op, name: &str) -> Result<(), VerifyError> {
        let f = self.func;
        let tensor = |v: &ValueId| f.tensor(*v);
        let result = op.results.first().and_then(tensor);
        let differ = |a: &[i64], b: &[i64]| a.len() != b.len() || a.iter().zip(b).any(|(m, n)| m != n && m.min(n) != &DYNAMIC);
        let unlike = |a: ValueId, b: ValueId| matches!((tensor(&a), tensor(&b)), (Some(x), Some(y)) if differ(&x.dims, &y.dims));
        match &op.kind {
            OpKind::Fusion(_) => {
                let [region] = op.regions.as_slice() else { return self.fail(name, "needs one region".into()) };
                let same = |a: &[ValueId], b: &[ValueId]| a.len() == b.len() && a.iter().zip(b).all(|(x, y)| f.ty(*x) == f.ty(*y));
                if !same(&region.args, &op.operands) || !same(&region.results, &op.results) {
                    return self.fail(name, "region and operation differ in types".into());
                }
            }
            OpKind::Reshape => {
                if let (Some(a), Some(b)) = (op.operands.first().and_then(tensor), result)
                    && let (Some(x), Some(y)) = (a.elems(), b.elems())
                    && (x != y || a.dtype != b.dtype)
                {
                    return self.fail(name, format!("{a} does not reshape to {b}"));
                }
            }
            OpKind::Transpose { permutation } => {
                if let (Some(a), Some(b)) = (op.operands.first().and_then(tensor), result) {
                    let want: Option<Vec<i64>> = permutation.iter().map(|&p| a.dims.get(p).copied()).collect();
                    if want.as_ref() != Some(&b.dims) {
                        return self.fail(name, format!("{a} permuted by {permutation:?} is not {b}"));
                    }
                }
            }
            OpKind::Unary(_) | OpKind::Binary(_) | OpKind::Convert | OpKind::Compare { .. } => {
                for t in op.operands.iter().filter_map(tensor) {
                    if let (Some(r), Some(s)) = (result.and_then(|r| r.shape()), t.shape())
                        && r != s
                    {
                        return self.fail(name, format!("operand of shape {s:?}, result of shape {r:?}"));
                    }
                }
            }
            OpKind::DynamicSlice { sizes } => {
                let (Some(x), Some(r)) = (op.operands.first().and_then(tensor), result) else { return Ok(()) };
                if differ(sizes, &r.dims) || sizes.iter().zip(&x.dims).any(|(s, n)| s > n && *n != DYNAMIC) {
                    return self.fail(name, format!("{r} is no piece of {x} of sizes {sizes:?}"));
                }
            }
            OpKind::DynamicUpdateSlice => {
                let [Some(x), Some(u)] = [0, 1].map(|i| op.operands.get(i).and_then(tensor)) else { return Ok(()) };
                if result.is_some_and(|r| differ(&r.dims, &x.dims)) || u.dims.iter().zip(&x.dims).any(|(s, n)| s > n && *n != DYNAMIC) {
                    return self.fail(name, format!("{u} is no piece of {x}, or the result has another shape"));
                }
            }
            OpKind::While => {
                let [condition, body] = op.regions.as_slice() else { return self.fail(name, "needs two regions".into()) };
                let sides = [&op.operands, &condition.args, &body.args, &body.results];
                if let Some(i) = (0..op.results.len()).find(|&i| sides.iter().any(|s| s.get(i).is_none_or(|v| unlike(*v, op.results[i])))) {
                    return self.fail(name, format!("operand, regions and result {i} differ in shape"));
                }
            }
            OpKind::If | OpKind::Case => {
                let wrong = |r: &Region, i: usize| r.results.get(i).is_none_or(|v| unlike(*v, op.results[i]));
                if let Some(i) = (0..op.results.len()).find(|&i| op.regions.iter().any(|r| wrong(r, i))) {
                    return self.fail(name, format!("a region and result {i} differ in shape"));
                }
            }
            OpKind::OptimizationBarrier => {
                if let Some((x, r)) = op.operands.iter().zip(&op.results).find(|(x, r)| f.ty(**x) != f.ty(**r)) {
                    return self.fail(name, format!("passes {} as {}", f.ty(*x), f.ty(*r)));
                }
            }
            OpKind::Select | OpKind::Clamp => {
                let Some(r) = result.and_then(|r| r.shape()).filter(|r| !r.is_empty()) else { return Ok(()) };
                let differs = |s: &Vec<usize>| !s.is_empty() && *s != r;
                if let Some(s) = op.operands.iter().filter_map(tensor).filter_map(|t| t.shape()).find(differs) {
                    return self.fail(name, format!("operand of shape {s:?}, result of shape {r:?}"));
                }
            }
            OpKind::DotGeneral(dot) => {
                let [Some(a), Some(b)] = [0, 1].map(|i| op.operands.get(i).and_then(tensor)) else { return Ok(()) };
                let d = &dot.dims;
                let pairs = d.lhs_contract.iter().zip(&d.rhs_contract).chain(d.lhs_batch.iter().zip(&d.rhs_batch));
                for (&l, &r) in pairs {
                    let (l, r) = (a.dims.get(l), b.dims.get(r));
                    if l != r && l.min(r) != Some(&DYNAMIC) {
                        return self.fail(name, format!("{a} and {b} differ along dimensions that go together"));
                    }
                }
                let free = |t: &TensorType, batch: &[usize], contract: &[usize]| -> Vec<i64> {
                    free_dims(t.rank(), batch, contract).into_iter().filter_map(|i| t.dims.get(i).copied()).collect()
                };
                let batch = d.lhs_batch.iter().filter_map(|&i| a.dims.get(i).copied()).collect();
                let made = [batch, free(a, &d.lhs_batch, &d.lhs_contract), free(b, &d.rhs_batch, &d.rhs_contract)].concat();
                let Some(r) = result else { return Ok(()) };
                if made.iter().zip(&r.dims).any(|(m, r)| m != r && m.min(r) != &DYNAMIC) {
                    return self.fail(name, format!("{a} and {b} do not make {r}"));
                }
            }
            OpKind::Concatenate { dim } => {
                let Some(r) = result else { return Ok(()) };
                for t in op.operands.iter().filter_map(tensor) {
                    let differs =
                        |d: usize| d != *dim && t.dims.get(d) != r.dims.get(d) && t.dims.get(d).min(r.dims.get(d)) != Some(&DYNAMIC);
                    if (0..r.rank()).any(differs) {
                        return self.fail(name, format!("{t} is no part of {r} along dimension {dim}"));
                    }
                }
            }
            OpKind::Reduce { dims } => {
                let (Some(x), Some(r)) = (op.operands.first().and_then(tensor), result) else { return Ok(()) };
                let kept = x.dims.iter().enumerate().filter(|(d, _)| !dims.contains(d)).map(|(_, n)| n);
                if kept.zip(&r.dims).any(|(a, b)| a != b && a.min(b) != &DYNAMIC) {
                    return self.fail(name, format!("{x} over dimensions {dims:?} is not {r}"));
                }
            }
            OpKind::BroadcastInDim { dims } => {
                let (Some(a), Some(b)) = (op.operands.first().and_then(tensor), result) else { return Ok(()) };
                for (&size, &to) in a.dims.iter().zip(dims) {
                    let target = b.dims.get(to).copied();
                    if size != 1 && Some(size) != target && size != DYNAMIC && target != Some(DYNAMIC) {
                        return self.fail(name, format!("{a} does not broadcast along {dims:?} to {b}"));
                    }
                }
            }
            OpKind::QuantizedDot(q) => {
                let [Some(x), Some(codes), Some(scales)] = [0, 1, 2].map(|i| op.operands.get(i).and_then(tensor)) else {
                    return self.fail(name, "needs activations, codes and scales".into());
                };
                let (&[k, n], &[groups, sn]) = (codes.dims.as_slice(), scales.dims.as_slice()) else {
                    return self.fail(name, format!("codes {codes} and scales {scales} must be matrices"));
                };
                let expected = (k as usize).div_ceil(q.group_size.max(1)) as i64;
                if x.dims.last() != Some(&k) || groups != expected || sn != n || op.operands.len() != 3 + usize::from(q.zeros) {
                    return self.fail(name, format!("x {x}, codes {codes}, scales {scales}, group {} do not fit", q.group_size));
                }
            }
            _ => {}
        }
        Ok(())
    }
}
