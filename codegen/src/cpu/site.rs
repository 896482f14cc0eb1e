//! One kernel at its place in the program: which buffers it gets, and the frame that every native function has.

use super::object::Processor;
use crate::{
    elemental::{Binding, Elemental},
    error::Result,
    ll::{Loop, Scalar, Unit, Val},
    plan::Plan,
    schedule::{Kernel, Schedule, Slot},
};
use icd_core::{
    DType,
    graph::{OpKind, Region, ValueId},
    manifest::StepInfo,
};

/// A compiled kernel.
#[derive(Clone, Debug)]
pub(in crate::cpu) struct Emitted {
    /// Symbol of the exported function.
    pub(in crate::cpu) symbol: String,
    /// Code; empty when it was compiled for another place already.
    pub(in crate::cpu) unit: Unit,
    /// Independent chunks.
    pub(in crate::cpu) chunks: u64,
    /// Scratch memory a thread.
    pub(in crate::cpu) scratch_bytes: usize,
    /// For profiles.
    pub(in crate::cpu) info: StepInfo,
}

/// A kernel and the buffers that it gets.
pub(in crate::cpu) struct Site<'a> {
    /// What to compute.
    pub(in crate::cpu) kernel: &'a Kernel<'a>,
    /// The processor to compile for.
    pub(in crate::cpu) processor: &'a Processor,
    /// Distinct buffers, in the order of the native function's parameters.
    pub(in crate::cpu) buffers: Vec<usize>,
    /// Parameter of each argument in `kernel.args`; `None` when a packed weight replaced it.
    pub(in crate::cpu) arg_params: Vec<Option<usize>>,
    /// Parameter of each result.
    pub(in crate::cpu) result_params: Vec<usize>,
    /// The packed weight of a product, if its weight was packed: parameter index.
    pub(in crate::cpu) packed: Option<usize>,
    /// Whether a whole argument is constant: the weight's name.
    pub(in crate::cpu) weights: Vec<Option<&'a icd_core::Literal>>,
    /// Bytes that arguments and results take.
    pub(in crate::cpu) bytes: u64,
}

impl<'a> Site<'a> {
    pub(in crate::cpu) fn new(kernel: &'a Kernel<'a>, plan: &Plan, schedule: &'a Schedule<'a>, processor: &'a Processor) -> Self {
        let mut site = Site {
            kernel,
            processor,
            buffers: Vec::new(),
            arg_params: Vec::new(),
            result_params: Vec::new(),
            packed: None,
            weights: Vec::new(),
            bytes: 0,
        };
        for &(_, slot) in &kernel.args {
            let param = site.param(plan.buffer(slot));
            site.arg_params.push(Some(param));
            site.weights.push(weight(schedule, slot));
            site.bytes += schedule.slots[slot].bytes as u64;
        }
        for &slot in &kernel.results {
            let param = site.param(plan.buffer(slot));
            site.result_params.push(param);
            site.bytes += schedule.slots[slot].bytes as u64;
        }
        site
    }

    /// Parameter index of a program buffer, new if the kernel did not have it yet.
    pub(in crate::cpu) fn param(&mut self, buffer: usize) -> usize {
        self.buffers.iter().position(|&b| b == buffer).unwrap_or_else(|| {
            self.buffers.push(buffer);
            self.buffers.len() - 1
        })
    }

    /// Takes arguments out of the function's parameters, and puts a buffer with packed data in their place.
    pub(in crate::cpu) fn replace_args(&mut self, dropped: &[usize], packed: usize) {
        let old = std::mem::take(&mut self.buffers);
        let kept: Vec<Option<usize>> = self
            .arg_params
            .iter()
            .enumerate()
            .map(|(n, p)| if dropped.contains(&n) { None } else { p.and_then(|p| old.get(p).copied()) })
            .collect();
        self.arg_params = kept.into_iter().map(|b| b.map(|b| self.param(b))).collect();
        let results: Vec<usize> = self.result_params.iter().filter_map(|&p| old.get(p).copied()).collect();
        self.result_params = results.into_iter().map(|b| self.param(b)).collect();
        self.packed = Some(self.param(packed));
    }

    /// Pointer of a parameter inside the function body.
    pub(in crate::cpu) fn pointer(&self, param: usize) -> Val {
        Val::named(Scalar::Ptr(0), format!("%b{param}"))
    }

    /// Pointer to a result.
    pub(in crate::cpu) fn result(&self, n: usize) -> Val {
        self.pointer(self.result_params.get(n).copied().unwrap_or(0))
    }

    /// Element type of a result.
    pub(in crate::cpu) fn result_dtype(&self, n: usize) -> DType {
        let value = self.kernel.op.results.get(n);
        value.and_then(|&v| self.kernel.func.tensor(v)).map_or(DType::F32, |t| t.dtype)
    }

    /// Sizes of a result.
    pub(in crate::cpu) fn result_dims(&self, n: usize) -> Vec<i64> {
        let value = self.kernel.op.results.get(n);
        value.and_then(|&v| self.kernel.func.tensor(v)).map(|t| t.dims.clone()).unwrap_or_default()
    }

    /// The fused region, if the operation has one.
    pub(in crate::cpu) fn region(&self) -> Option<&'a Region> {
        match self.kernel.op.kind {
            OpKind::Fusion(_) => self.kernel.op.regions.first(),
            _ => None,
        }
    }

    /// Values whose elements are the results: the region's results, or the operation's.
    pub(in crate::cpu) fn outcomes(&self) -> &'a [ValueId] {
        self.region().map_or(&self.kernel.op.results, |r| &r.results)
    }

    /// An emitter in which all arguments are bound to their buffers.
    pub(in crate::cpu) fn elemental(&self) -> Result<Elemental<'a>> {
        let mut e = Elemental::new(self.kernel.func, 0);
        for &op in &self.kernel.inlined {
            e.define(std::slice::from_ref(op));
        }
        e.define(std::slice::from_ref(self.kernel.op));
        for (&(value, _), param) in self.kernel.args.iter().zip(&self.arg_params) {
            if let Some(param) = *param {
                e.bind(value, Binding::Buffer { base: self.pointer(param), align: 1 << 8 });
            }
        }
        if let Some(region) = self.region() {
            e.define(&region.ops);
            e.alias_args(region, &self.kernel.op.operands);
        }
        Ok(e)
    }

    /// Wraps a body that uses `%b0 …`, `%scratch`, `%begin` and `%end` as the exported function of the native ABI: buffers are loaded once, and
    /// passed on as pointers that do not alias.
    pub(in crate::cpu) fn finish(&self, symbol: String, e: Elemental<'_>, chunks: u64, scratch_bytes: usize, info: StepInfo) -> Emitted {
        let mut code = e.code;
        code.statement("ret void");
        let names: Vec<String> = (0..self.buffers.len()).map(|i| format!("ptr noalias %b{i}")).collect();
        let params = [names.as_slice(), &["ptr noalias %scratch".into(), "i64 %begin".into(), "i64 %end".into()]].concat();
        let (body, mut unit) = code.finish(&format!("define internal void @{symbol}.body({}) noinline #1", params.join(", ")));
        let mut entry = crate::ll::Code::new();
        let table = Val::named(Scalar::Ptr(0), "%buffers");
        let mut args = Vec::new();
        for i in 0..self.buffers.len() {
            let place = entry.gep(Scalar::Ptr(0), &table, &Val::i64(i as i64));
            args.push(entry.load(Scalar::Ptr(0), &place, 8).typed());
        }
        args.extend(["ptr %scratch".into(), "i64 %begin".into(), "i64 %end".into()]);
        entry.statement(format_args!("call void @{symbol}.body({})", args.join(", ")));
        entry.statement("ret void");
        let (outer, _) = entry.finish(&format!("define void @{symbol}(ptr %buffers, ptr %scratch, i64 %begin, i64 %end) #1"));
        unit.push(body);
        unit.push(outer);
        Emitted { symbol, unit, chunks, scratch_bytes, info }
    }
}

fn weight<'a>(schedule: &'a Schedule<'a>, slot: Slot) -> Option<&'a icd_core::Literal> {
    match &schedule.slots[slot].home {
        crate::schedule::Home::Weight(name) => schedule.weights.get(name),
        _ => None,
    }
}

/// Runtime value of a parameter of the native function: its first chunk.
pub(in crate::cpu) fn begin() -> Val {
    Val::named(Scalar::I64, "%begin")
}

/// Opens the loop over the chunks that a call is for. What LLVM makes of the code of a chunk depends on nothing outside of it, since no two
/// iterations of this loop can be merged: sums may be reassociated, so a chunk that shared vectors with the next would round
/// differently where a thread's share ends between them.
pub(in crate::cpu) fn begin_chunks(e: &mut Elemental<'_>) -> Loop {
    let chunks = e.begin_loop(&begin(), &Val::named(Scalar::I64, "%end"), &Val::i64(1));
    e.code.barrier();
    chunks
}

/// First of the `per_chunk` elements of a chunk, and the one behind its last, of `length` in all.
pub(in crate::cpu) fn range_of_chunk(e: &mut Elemental<'_>, chunk: &Loop, per_chunk: u64, length: i64) -> (Val, Val) {
    let per = Val::i64(per_chunk as i64);
    let first = e.code.bin("mul nsw", &chunk.iv, &per);
    let last = e.code.bin("add nsw", &first, &per);
    (first, e.code.overloaded("smin", &[&last, &Val::i64(length)]))
}

/// Start of the thread's scratch memory.
pub(in crate::cpu) fn scratch() -> Val {
    Val::named(Scalar::Ptr(0), "%scratch")
}
