//! Products and what is fused with them: which kernel family computes which, and the data that it needs.

use super::{
    dot_simt::Product,
    epilogue,
    view::{Defs, View},
};
use icd_core::{
    DType, TensorType,
    graph::{Dot, DotDims, Func, Op, OpKind, ValueId},
    pack_format::WeightFormat,
    problem::Activation,
};

/// A product, bare or fused, taken apart.
pub(super) struct Anchored<'a> {
    /// The product.
    pub anchor: &'a Op,
    /// Operations of the fused region; the product alone when it is bare.
    pub ops: &'a [Op],
    /// Value of the product's shape that is stored; what follows only renames indices.
    pub value: ValueId,
    /// Result of the whole.
    pub result: ValueId,
}

/// The product that an operation computes; `None` for other operations, and for regions of another form.
pub(super) fn anchored<'a>(func: &Func, op: &'a Op) -> Option<Anchored<'a>> {
    let is_product = |op: &Op| matches!(op.kind, OpKind::DotGeneral(_) | OpKind::PackedDot(_));
    if is_product(op) {
        return Some(Anchored { anchor: op, ops: std::slice::from_ref(op), value: op.result(), result: op.result() });
    }
    let region = match &op.kind {
        OpKind::Fusion(icd_core::graph::FusionKind::Dot) => op.regions.first()?,
        _ => return None,
    };
    let mut products = region.ops.iter().filter(|op| is_product(op));
    let (Some(anchor), None, [result]) = (products.next(), products.next(), region.results.as_slice()) else { return None };
    let defs = Defs::of(&region.ops);
    let mut value = *result;
    while let Some(op) = defs.get(value)
        && matches!(op.kind, OpKind::Reshape | OpKind::Transpose { .. })
        && value != anchor.result()
    {
        value = *op.operands.first()?;
    }
    (func.tensor(value)?.dims == func.tensor(anchor.result())?.dims).then_some(Anchored {
        anchor,
        ops: &region.ops,
        value,
        result: *result,
    })
}

impl Anchored<'_> {
    /// Whether the result has the product's layout.
    pub(super) fn is_plain(&self, func: &Func) -> bool {
        self.out(func).is_some_and(|v| v.is_contiguous())
    }

    /// Where elements of [`Self::value`] go in the result; `None` if not at fixed strides.
    pub(super) fn out(&self, func: &Func) -> Option<View> {
        let defs = Defs::of(self.ops);
        let mut v = self.result;
        let mut view = View::whole(v, func.tensor(v)?);
        while v != self.value {
            let op = defs.get(v)?;
            v = *op.operands.first()?;
            view = view.before(&op.kind, func.tensor(v)?)?;
        }
        Some(view)
    }

    /// For the SIMT kernel; `params` gives the parameter that a value lies in. Stores through `out`.
    pub(super) fn product(&self, func: &Func, defs: &Defs, params: &dyn Fn(ValueId) -> Option<usize>, out: View) -> Option<Product> {
        let OpKind::DotGeneral(dot) = &self.anchor.kind else { return None };
        let side = |n: usize| {
            let view = defs.view(func, *self.anchor.operands.get(n)?)?;
            let param = params(view.source)?;
            Some((view, param))
        };
        Some(Product { lhs: side(0)?, rhs: side(1)?, dot: dot.clone(), anchor: self.anchor.result(), value: self.value, out })
    }
}

/// A product of row-major activations with constant weights, and its epilogue.
pub(super) struct Gemm {
    /// Rows, columns, contracted size.
    pub sizes: [usize; 3],
    /// Activations.
    pub x: ValueId,
    /// Weights: packed bytes, or a matrix.
    pub w: ValueId,
    /// Whether the weight matrix is `[n][k]`.
    pub transposed: bool,
    /// What follows.
    pub epilogue: epilogue::Matched,
    /// Type of the stored value.
    pub out: DType,
}

fn product(dims: &[i64]) -> Option<usize> {
    dims.iter().try_fold(1usize, |n, &d| n.checked_mul(usize::try_from(d).ok()?))
}

/// Whether `dims` are the first (or last) dimensions of a rank, in order.
fn are_first(dims: &[usize]) -> bool {
    dims.iter().enumerate().all(|(i, &d)| i == d)
}
fn are_last(dims: &[usize], rank: usize) -> bool {
    dims.iter().rev().enumerate().all(|(i, &d)| d + i + 1 == rank)
}

/// The product as a GEMM, if it has that form. Values are region arguments (operands when bare).
pub(super) fn gemm(func: &Func, a: &Anchored) -> Option<Gemm> {
    let (x, w) = match a.anchor.operands.as_slice() {
        [x, w, ..] => (*x, *w),
        _ => return None,
    };
    let (xt, wt) = (func.tensor(x)?, func.tensor(w)?);
    let (sizes, transposed) = match &a.anchor.kind {
        OpKind::PackedDot(format) => {
            let rows = product(xt.dims.split_last()?.1)?;
            ([rows, format.n, format.k], false)
        }
        OpKind::DotGeneral(dot) => dense_sizes(&dot.dims, xt, wt)?,
        _ => return None,
    };
    let anchor = epilogue::Anchor {
        value: a.anchor.result(),
        rows: sizes[0] as i64,
        columns: sizes[1] as i64,
        has_row_scales: matches!(a.anchor.kind, OpKind::PackedDot(_)) && xt.dtype == DType::I8,
        has_column_scales: matches!(&a.anchor.kind, OpKind::PackedDot(f) if matches!(f.weight, WeightFormat::W8 { .. })),
    };
    let fused = epilogue::recognise(func, a.ops, &anchor, a.value)?;
    Some(Gemm { sizes, x, w, transposed, epilogue: fused, out: func.tensor(a.value)?.dtype })
}

fn dense_sizes(d: &DotDims, x: &TensorType, w: &TensorType) -> Option<([usize; 3], bool)> {
    if !d.lhs_batch.is_empty() || !are_last(&d.lhs_contract, x.rank()) || d.rhs_contract.is_empty() {
        return None;
    }
    let contracted = d.rhs_contract.len();
    let transposed = if are_first(&d.rhs_contract) {
        false
    } else if are_last(&d.rhs_contract, w.rank()) {
        true
    } else {
        return None;
    };
    let split = x.rank().checked_sub(contracted)?;
    let (rows, depth) = x.dims.split_at_checked(split)?;
    let columns = if transposed { w.dims.get(..w.rank() - contracted)? } else { w.dims.get(contracted..)? };
    Some(([product(rows)?, product(columns)?, product(depth)?], transposed))
}

/// Short description of an epilogue for profiles.
pub(super) fn describe(e: &epilogue::Matched) -> String {
    let mut text = String::new();
    if e.bias.is_some() {
        text.push_str(" +bias");
    }
    if e.activation != Activation::None {
        text.push_str(" +");
        text.push_str(e.activation.name());
    }
    if e.residual.is_some() {
        text.push_str(" +residual");
    }
    text
}

/// Dimension numbers of a product that has none of its own (attention's).
pub(super) fn plain(dims: DotDims) -> Dot {
    Dot { dims, ..Dot::default() }
}
