//! What a pass reports while it runs: remarks and statistics. Passes reach nothing global.

use crate::Knowledge;
use icd_core::graph::{Func, Loc, Module, Op, OpKind, Region};
use serde::Serialize;
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// Kind of a remark, as in LLVM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RemarkKind {
    /// A transformation was done.
    Applied,
    /// It could have been useful but was not done; the text says why.
    Missed,
    /// Something worth knowing.
    Analysis,
}

/// A note to the user, tied to an operation.
#[derive(Clone, Debug, Serialize)]
pub struct Remark {
    /// Flag of the pass.
    pub pass: String,
    /// Kind.
    pub kind: RemarkKind,
    /// Function.
    pub func: String,
    /// Operation name.
    pub op: String,
    /// Source location of the operation.
    #[serde(skip)]
    pub loc: Loc,
    /// One sentence.
    pub message: String,
}

/// Size of a module in the terms that a report shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Census {
    /// Operations in all regions, constants excluded.
    pub ops: usize,
    /// Operations that only move data (transpose, copying broadcast, concatenate, slice, pad, reverse, gather …) outside fusions; reshapes are free.
    pub movement_ops: usize,
    /// Bytes that those write.
    pub movement_bytes: usize,
    /// Fused regions.
    pub fusions: usize,
}

impl Census {
    /// Counts a module.
    pub fn of(module: &Module) -> Self {
        let mut census = Census::default();
        for func in &module.funcs {
            census.region(func, &func.body, false);
        }
        census
    }

    fn region(&mut self, func: &Func, region: &Region, fused: bool) {
        for op in &region.ops {
            if matches!(op.kind, OpKind::Constant(_)) {
                continue;
            }
            self.ops += 1;
            if !fused && moves_data(&op.kind) {
                self.movement_ops += 1;
                self.movement_bytes += op.results.iter().filter_map(|&r| func.tensor(r)?.bytes()).sum::<usize>();
            }
            let inside = matches!(op.kind, OpKind::Fusion(_));
            self.fusions += usize::from(inside);
            for inner in &op.regions {
                self.region(func, inner, fused || inside);
            }
        }
    }
}

fn moves_data(kind: &OpKind) -> bool {
    matches!(
        kind,
        OpKind::Transpose { .. }
            | OpKind::BroadcastInDim { .. }
            | OpKind::Concatenate { .. }
            | OpKind::Slice { .. }
            | OpKind::DynamicSlice { .. }
            | OpKind::DynamicUpdateSlice
            | OpKind::Pad { .. }
            | OpKind::Reverse { .. }
            | OpKind::Gather(_)
            | OpKind::ChannelMap { .. }
            | OpKind::ChannelUnmap { .. }
    )
}

/// Statistics of one pass run.
#[derive(Clone, Debug, Serialize)]
pub struct PassStats {
    /// Flag of the pass.
    pub pass: String,
    /// Before the pass.
    pub before: Census,
    /// After it.
    pub after: Census,
    /// Named counters, in name order.
    pub counters: BTreeMap<String, u64>,
    /// Named tables: one JSON object a row.
    pub tables: BTreeMap<String, Vec<serde_json::Value>>,
}

/// Collects what passes report.
#[derive(Clone, Debug, Default)]
pub struct PassContext {
    /// Remarks in program order of each pass.
    pub remarks: Vec<Remark>,
    /// One entry a pass that ran.
    pub stats: Vec<PassStats>,
    /// What passes leave for later ones: statistics of activations, weights before they were pruned.
    pub knowledge: Knowledge,
    /// Wall-clock time of parts of passes, for measurements of the compiler itself; no report has it.
    pub clocks: BTreeMap<&'static str, Duration>,
    pass: String,
    counters: BTreeMap<String, u64>,
    tables: BTreeMap<String, Vec<serde_json::Value>>,
}

impl PassContext {
    /// An empty context.
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes something about an operation of `func`.
    pub fn remark(&mut self, kind: RemarkKind, func: &str, op: &Op, message: impl Into<String>) {
        let remark = Remark { pass: self.pass.clone(), kind, func: func.into(), op: op.kind.name(), loc: op.loc, message: message.into() };
        self.remarks.push(remark);
    }

    /// Adds to a counter of the running pass.
    pub fn count(&mut self, counter: &str, n: usize) {
        *self.counters.entry(counter.into()).or_default() += n as u64;
    }

    /// Runs `work`, and adds its time to the clock `name`.
    pub(crate) fn timed<T>(&mut self, name: &'static str, work: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let out = work();
        *self.clocks.entry(name).or_default() += start.elapsed();
        out
    }

    /// Appends a row to a table of the running pass.
    pub fn row(&mut self, table: &str, row: serde_json::Value) {
        self.tables.entry(table.into()).or_default().push(row);
    }

    pub(crate) fn begin(&mut self, pass: &str) {
        self.pass = pass.into();
        self.counters.clear();
        self.tables.clear();
    }

    pub(crate) fn finish(&mut self, before: Census, after: Census) {
        let counters = std::mem::take(&mut self.counters);
        let tables = std::mem::take(&mut self.tables);
        self.stats.push(PassStats { pass: std::mem::take(&mut self.pass), before, after, counters, tables });
    }
}
