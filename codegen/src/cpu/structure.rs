//! The structure of a kernel as text: equal texts, equal code.

use super::site::Site;
use icd_core::graph::{Func, Op, OpKind, Region, ValueId};
use std::{collections::BTreeMap, fmt::Write};

struct Printer<'a> {
    func: &'a Func,
    numbers: BTreeMap<ValueId, usize>,
    text: String,
}

impl Printer<'_> {
    fn number(&mut self, value: ValueId) -> usize {
        let next = self.numbers.len();
        *self.numbers.entry(value).or_insert(next)
    }

    fn values(&mut self, values: &[ValueId]) {
        for &v in values {
            let n = self.number(v);
            let _ = write!(self.text, "%{n}:{} ", self.func.ty(v));
        }
    }

    fn op(&mut self, op: &Op) {
        self.values(&op.results);
        match &op.kind {
            OpKind::Constant(literal) => {
                let _ = write!(self.text, "= constant {} ", literal.content_hash().to_hex());
            }
            kind => {
                let _ = write!(self.text, "= {kind:?} ");
            }
        }
        self.values(&op.operands);
        for region in &op.regions {
            self.region(region);
        }
        self.text.push('\n');
    }

    fn region(&mut self, region: &Region) {
        self.text.push('{');
        self.values(&region.args);
        self.text.push('\n');
        region.ops.iter().for_each(|op| self.op(op));
        self.text.push_str("-> ");
        self.values(&region.results);
        self.text.push('}');
    }
}

/// What decides the code of a kernel: operations with types and attributes, values numbered by first use, and the parameter of each argument.
pub(super) fn key(site: &Site<'_>) -> String {
    let kernel = site.kernel;
    let mut p = Printer { func: kernel.func, numbers: BTreeMap::new(), text: String::new() };
    p.op(kernel.op);
    // Inlined operations come in the order in which operands lead to them, which is the same for equal kernels.
    kernel.inlined.iter().for_each(|op| p.op(op));
    for (&(value, _), param) in kernel.args.iter().zip(&site.arg_params) {
        let n = p.number(value);
        let _ = write!(p.text, "arg %{n} {param:?};");
    }
    let _ = write!(p.text, "results {:?} packed {:?}", site.result_params, site.packed);
    p.text
}

/// A symbol from what the kernel is and the hash of its structure: `dot_64x384_f32_9ab3c0d1`.
pub(super) fn symbol(site: &Site<'_>, family: &str, key: &str) -> String {
    let hash = blake3::hash(key.as_bytes()).to_hex();
    let dims: Vec<String> = site.result_dims(0).iter().map(|d| d.to_string()).collect();
    let shape = if dims.is_empty() { "scalar".to_string() } else { dims.join("x") };
    let dtype: String = site.result_dtype(0).name().chars().filter(char::is_ascii_alphanumeric).collect();
    format!("{family}_{shape}_{dtype}_{}", &hash.as_str()[..12])
}
