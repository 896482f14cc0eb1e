//! Merging of equal operations: same kind, attributes, operands, types and regions (up to the names of inner values).

use icd_core::{
    Literal,
    graph::{Func, Op, OpKind, Region, ValueId},
};
use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write,
};

/// Merges equal pure operations. A value merges with one of its own or an enclosing region, never across siblings. Returns how many
/// operations went. Cost: linear in program size.
pub(super) fn run(func: &mut Func) -> usize {
    let mut body = std::mem::take(&mut func.body);
    let mut merger = Merger { func, scopes: Vec::new(), renamed: BTreeMap::new(), merged: 0 };
    merger.region(&mut body);
    let merged = merger.merged;
    func.body = body;
    merged
}

struct Merger<'f> {
    func: &'f Func,
    scopes: Vec<HashMap<String, Vec<ValueId>>>,
    renamed: BTreeMap<ValueId, ValueId>,
    merged: usize,
}

impl Merger<'_> {
    fn region(&mut self, region: &mut Region) {
        self.scopes.push(HashMap::new());
        for mut op in std::mem::take(&mut region.ops) {
            for v in &mut op.operands {
                self.resolve(v);
            }
            for inner in &mut op.regions {
                self.region(inner);
            }
            if op.is_pure() && !matches!(op.kind, OpKind::Opaque(_)) {
                let key = self.key(&op);
                if let Some(results) = self.scopes.iter().rev().find_map(|s| s.get(&key)) {
                    self.renamed.extend(op.results.iter().copied().zip(results.iter().copied()));
                    self.merged += 1;
                    continue;
                }
                if let Some(scope) = self.scopes.last_mut() {
                    scope.insert(key, op.results.clone());
                }
            }
            region.ops.push(op);
        }
        for v in &mut region.results {
            self.resolve(v);
        }
        self.scopes.pop();
    }

    fn resolve(&self, v: &mut ValueId) {
        while let Some(&to) = self.renamed.get(v) {
            *v = to;
        }
    }

    fn key(&self, op: &Op) -> String {
        let mut out = String::new();
        let mut local = BTreeMap::new();
        self.write_op(&mut out, op, &mut local);
        out
    }

    fn write_op(&self, out: &mut String, op: &Op, local: &mut BTreeMap<ValueId, usize>) {
        match &op.kind {
            OpKind::Constant(l) => out.push_str(&literal_key(l)),
            kind => write!(out, "{kind:?}").unwrap_or_default(),
        }
        write!(out, "|{}|", op.attrs).unwrap_or_default();
        for v in &op.operands {
            write_value(out, *v, local);
        }
        for r in &op.results {
            write!(out, ":{:?}", self.func.ty(*r)).unwrap_or_default();
        }
        for region in &op.regions {
            out.push('{');
            for &a in &region.args {
                let n = local.len();
                local.insert(a, n);
                write!(out, ":{:?}", self.func.ty(a)).unwrap_or_default();
            }
            for inner in &region.ops {
                self.write_op(out, inner, local);
                for &r in &inner.results {
                    let n = local.len();
                    local.insert(r, n);
                }
                out.push(';');
            }
            for &v in &region.results {
                write_value(out, v, local);
            }
            out.push('}');
        }
    }
}

fn write_value(out: &mut String, v: ValueId, local: &BTreeMap<ValueId, usize>) {
    match local.get(&v) {
        Some(n) => write!(out, "@{n},").unwrap_or_default(),
        None => write!(out, "%{},", v.0).unwrap_or_default(),
    }
}

/// Equal keys mean operations that are equal up to their operands.
pub(crate) fn template_key(func: &Func, op: &Op) -> String {
    let merger = Merger { func, scopes: Vec::new(), renamed: BTreeMap::new(), merged: 0 };
    merger.key(&Op { operands: Vec::new(), ..op.clone() })
}

/// Above this, a literal is identified by where its bytes lie instead of by content.
const HASHED_BYTES: usize = 1 << 16;

/// Equal keys mean equal literals.
pub(crate) fn literal_key(l: &Literal) -> String {
    let bytes = l.stored_bytes();
    match l.name() {
        Some(name) => format!("weight {name:?} {:?} {:p}", l.ty(), bytes.as_ptr()),
        None if bytes.len() <= HASHED_BYTES => format!("literal {} {} {:?}", l.content_hash().to_hex(), l.is_splat(), l.ty()),
        None => format!("literal {:p} {} {:?}", bytes.as_ptr(), bytes.len(), l.ty()),
    }
}
