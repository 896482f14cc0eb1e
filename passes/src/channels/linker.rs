//! What rules do to a function's index spaces: make them equal, or pin them.

use super::forest::{Forest, Space};
use icd_core::graph::{Func, Op, Region, ValueId};

/// Where a dimension meets something that fixes its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Site {
    /// A value as it is made: a parameter, or a result of an operation.
    Made(ValueId, usize),
    /// An operand: number of the operation in program order, operand, dimension.
    Read(usize, usize, usize),
    /// A result of the function.
    Returned(usize, usize),
    /// Where no map can be put: an argument or result of an inner region, or values that are no floats.
    Inner,
}

/// A reason why the order of a space is fixed.
#[derive(Clone, Debug)]
pub(crate) struct Pin {
    pub(crate) space: Space,
    /// What fixes it and why, for reports.
    pub(crate) reason: String,
    pub(crate) site: Site,
}

/// Spaces of a function while rules run over it.
pub(crate) struct Linker<'f> {
    pub(crate) func: &'f Func,
    pub(crate) forest: Forest,
    /// By value and dimension; `None` for sizes 0 and 1, where there is nothing to order.
    pub(crate) dims: Vec<Vec<Option<Space>>>,
    pub(crate) uniform: Vec<Vec<bool>>,
    pub(crate) pins: Vec<Pin>,
    /// By operation in program order: one space for each set of dimensions that run together.
    pub(crate) groups: Vec<Vec<Space>>,
    /// Values that a channel map reads or makes, by dimension: their order may depend on nothing outside of that dimension.
    pub(crate) local: Vec<(ValueId, usize)>,
    op: usize,
}

impl<'f> Linker<'f> {
    pub(crate) fn new(func: &'f Func) -> Self {
        let mut forest = Forest::default();
        let mut pins = Vec::new();
        let mut dims = Vec::with_capacity(func.values.len());
        for (v, value) in func.values.iter().enumerate() {
            let Some(ty) = value.ty.as_tensor() else {
                dims.push(Vec::new());
                continue;
            };
            let axis = ty.quant.as_ref().and_then(|q| q.axis);
            let one = |(d, &n): (usize, &i64)| {
                let size = usize::try_from(n).unwrap_or(0);
                let space = (n < 0 || size > 1).then(|| forest.leaf(size))?;
                let reason = match (n < 0, axis == Some(d)) {
                    (true, _) => Some("its size is known only at run time"),
                    (_, true) => Some("its elements are quantized along it"),
                    _ => None,
                };
                if let Some(reason) = reason {
                    pins.push(Pin { space, reason: reason.into(), site: Site::Made(ValueId(v as u32), d) });
                }
                Some(space)
            };
            dims.push(ty.dims.iter().enumerate().map(one).collect());
        }
        Linker { func, forest, dims, uniform: super::uniform::analyse(func), pins, groups: Vec::new(), local: Vec::new(), op: 0 }
    }

    /// Runs the rules over all regions, then pins what leaves the function.
    pub(crate) fn run(&mut self) {
        let func = self.func;
        for p in &func.params {
            for d in 0..self.rank(p.value) {
                self.pin(
                    self.value(p.value)[d],
                    format!("it is dimension {d} of parameter %{}", p.value.0),
                    Site::Made(p.value, d),
                    p.value,
                );
            }
        }
        self.region(&func.body);
        for (i, &v) in func.body.results.iter().enumerate() {
            for d in 0..self.rank(v) {
                let space = self.read(v)[d];
                self.pin(space, format!("it is dimension {d} of result {i}"), Site::Returned(i, d), v);
            }
        }
    }

    fn region(&mut self, region: &Region) {
        for op in &region.ops {
            self.op = self.groups.len();
            self.groups.push(Vec::new());
            super::rules::link(self, op);
            op.regions.iter().for_each(|r| self.region(r));
        }
    }

    fn rank(&self, v: ValueId) -> usize {
        self.dims[v.0 as usize].len()
    }

    /// Spaces of a value's dimensions.
    pub(crate) fn value(&self, v: ValueId) -> &[Option<Space>] {
        &self.dims[v.0 as usize]
    }

    /// The same for a use: where the value is uniform a use has a space of its own.
    pub(crate) fn read(&mut self, v: ValueId) -> Vec<Option<Space>> {
        let dims = self.dims[v.0 as usize].clone();
        let fresh = |(d, space): (usize, Option<Space>)| match self.uniform[v.0 as usize].get(d) {
            Some(true) => space.map(|s| {
                let size = self.forest.size(s);
                self.forest.leaf(size)
            }),
            _ => space,
        };
        dims.into_iter().enumerate().map(fresh).collect()
    }

    /// Spaces of operand `i`; empty if there is none.
    pub(crate) fn operand(&mut self, op: &Op, i: usize) -> Vec<Option<Space>> {
        op.operands.get(i).map(|v| self.read(*v)).unwrap_or_default()
    }

    /// Spaces of result `i`; empty if there is none.
    pub(crate) fn result(&mut self, op: &Op, i: usize) -> Vec<Option<Space>> {
        op.results.get(i).map(|v| self.read(*v)).unwrap_or_default()
    }

    /// Dimensions that run together: they get one order.
    pub(crate) fn group(&mut self, op: &Op, spaces: &[Option<Space>]) {
        let mut some = spaces.iter().copied().flatten();
        let Some(first) = some.next() else { return };
        for other in some {
            self.equal(op, first, other);
        }
        self.groups[self.op].push(first);
    }

    /// Makes two spaces one, or pins both.
    pub(crate) fn equal(&mut self, op: &Op, a: Space, b: Space) {
        if self.forest.unify(a, b).is_err() {
            let reason = || format!("{} takes it apart in two ways", op.kind.name());
            let sites = self.sites(op);
            for space in [a, b] {
                for site in &sites {
                    self.pins.push(Pin { space, reason: reason(), site: *site });
                }
            }
        }
    }

    /// Maps are for floats: elsewhere none can be put.
    fn open(&self, site: Site, v: ValueId) -> Site {
        if self.func.tensor(v).is_some_and(|t| t.dtype.is_float()) { site } else { Site::Inner }
    }

    fn sites(&self, op: &Op) -> Vec<Site> {
        let dims = |v: &ValueId| 0..self.rank(*v);
        let read = |(i, v): (usize, &ValueId)| dims(v).map(move |d| (Site::Read(self.op, i, d), *v)).collect::<Vec<_>>();
        let reads = op.operands.iter().enumerate().flat_map(read).map(|(site, v)| self.open(site, v));
        let made = op.results.iter().flat_map(|v| dims(v).map(|d| self.open(Site::Made(*v, d), *v)));
        reads.chain(made).collect()
    }

    /// A pin at `site`, where `v` is seen.
    fn pin(&mut self, space: Option<Space>, reason: String, site: Site, v: ValueId) {
        let site = self.open(site, v);
        self.pins.extend(space.map(|space| Pin { space, reason, site }));
    }

    /// Fixes dimension `d` of operand `i`.
    pub(crate) fn pin_operand(&mut self, op: &Op, i: usize, d: usize, why: &str) {
        let Some(&v) = op.operands.get(i) else { return };
        let space = self.read(v).get(d).copied().flatten();
        self.pin(space, format!("{} reads it: {why}", op.kind.name()), Site::Read(self.op, i, d), v);
    }

    /// Fixes dimension `d` of result `i`.
    pub(crate) fn pin_result(&mut self, op: &Op, i: usize, d: usize, why: &str) {
        let space = self.result(op, i).get(d).copied().flatten();
        let Some(&v) = op.results.get(i) else { return };
        self.pin(space, format!("{} makes it: {why}", op.kind.name()), Site::Made(v, d), v);
    }

    /// Fixes every dimension of every operand and result, those of inner regions' arguments and results too.
    pub(crate) fn pin_all(&mut self, op: &Op, why: &str) {
        for (i, &v) in op.operands.iter().enumerate() {
            (0..self.rank(v)).for_each(|d| self.pin_operand(op, i, d, why));
        }
        for (i, &v) in op.results.iter().enumerate() {
            (0..self.rank(v)).for_each(|d| self.pin_result(op, i, d, why));
        }
        for region in &op.regions {
            for &v in region.args.iter().chain(&region.results) {
                for d in 0..self.rank(v) {
                    let space = self.read(v)[d];
                    self.pin(space, format!("{} holds it: {why}", op.kind.name()), Site::Inner, v);
                }
            }
        }
    }

    /// Marks dimension `d` of a value: see [`Linker::local`].
    pub(crate) fn keep_local(&mut self, v: ValueId, d: usize) {
        self.local.push((v, d));
    }

    /// Size of dimension `d` of a value, if static.
    pub(crate) fn size(&self, v: ValueId, d: usize) -> Option<usize> {
        usize::try_from(*self.func.tensor(v)?.dims.get(d)?).ok()
    }
}
