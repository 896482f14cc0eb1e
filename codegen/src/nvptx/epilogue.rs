//! What follows a product in a fused region, recognised as `activation(x·W + bias) + residual`; a product of integers times scales of its rows or columns
//! first.
//!
//! The activation is recognised by what it computes, not by how it is written: the scalar function between the biased product and the
//! result is evaluated on sample points and compared with each activation that the GEMM kernels have.

use super::view::Defs;
use icd_core::{
    DType,
    graph::{Binary, Direction, Func, Op, OpKind, Unary, ValueId},
    problem::Activation,
};
use std::collections::BTreeMap;

/// Largest relative difference between a recognised activation and the program's.
const TOLERANCE: f64 = 1e-5;

/// Operands of a recognised epilogue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Matched {
    /// A vector with one element a row.
    pub row_scales: Option<ValueId>,
    /// A vector with one element a column.
    pub column_scales: Option<ValueId>,
    /// A vector with one element a column.
    pub bias: Option<ValueId>,
    /// What is applied after the bias.
    pub activation: Activation,
    /// A matrix of the product's shape.
    pub residual: Option<ValueId>,
}

struct Chain<'a> {
    func: &'a Func,
    ops: &'a [Op],
    defs: Defs<'a>,
    /// Values that depend on the product.
    dependent: Vec<ValueId>,
}

/// A product whose epilogue is looked for.
pub(super) struct Anchor {
    /// Its result, columns innermost.
    pub value: ValueId,
    pub rows: i64,
    pub columns: i64,
    /// Whether the rows of its left operand have scales.
    pub has_row_scales: bool,
    /// Whether the columns of its right operand have scales.
    pub has_column_scales: bool,
}

/// Recognises what turns a product into `root` by the operations of a region.
pub(super) fn recognise(func: &Func, ops: &[Op], product: &Anchor, root: ValueId) -> Option<Matched> {
    let &Anchor { value: anchor, rows, columns, .. } = product;
    let mut dependent = vec![anchor];
    for op in ops {
        if op.operands.iter().any(|v| dependent.contains(v)) {
            dependent.extend(&op.results);
        }
    }
    let chain = Chain { func, ops, defs: Defs::of(ops), dependent };
    let mut matched = Matched { row_scales: None, column_scales: None, bias: None, activation: Activation::None, residual: None };
    let mut top = chain.unconverted(root, anchor);
    if let Some((inner, other)) = chain.pair(top, Binary::Add)
        && let Some(residual) = chain.matrix(other, anchor)
    {
        matched.residual = Some(residual);
        top = chain.unconverted(inner, anchor);
    }
    let mut bottom = chain.converted(anchor, top);
    while bottom != top
        && let Some(user) = chain.only_user(bottom)
        && let Some((_, other)) = chain.pair(user.result(), Binary::Multiply)
    {
        if product.has_column_scales
            && matched.column_scales.is_none()
            && let Some(scales) = chain.column_vector(other, columns).filter(|v| chain.is_stored(*v) || chain.is_constant(*v))
        {
            matched.column_scales = Some(scales);
        } else if product.has_row_scales
            && matched.row_scales.is_none()
            && let Some(scales) = chain.row_vector(other, rows, columns).filter(|v| chain.is_stored(*v))
        {
            matched.row_scales = Some(scales);
        } else {
            break;
        }
        bottom = chain.converted(user.result(), top);
    }
    if bottom != top
        && let Some(user) = chain.only_user(bottom)
        && let Some((_, other)) = chain.pair(user.result(), Binary::Add)
        && let Some(bias) = chain.column_vector(other, columns).filter(|v| chain.is_stored(*v))
    {
        matched.bias = Some(bias);
        bottom = chain.converted(user.result(), top);
    }
    if bottom != top {
        matched.activation = chain.activation(bottom, top)?;
    }
    Some(matched)
}

impl<'a> Chain<'a> {
    /// The value before float conversions, not going past `stop`.
    fn unconverted(&self, mut v: ValueId, stop: ValueId) -> ValueId {
        while v != stop
            && let Some(op) = self.defs.get(v)
            && op.kind == OpKind::Convert
            && let [inner] = op.operands.as_slice()
            && self.func.tensor(*inner).is_some_and(|t| t.dtype.is_float())
        {
            v = *inner;
        }
        v
    }
    /// The value after float conversions that are its only use, not going past `stop`.
    fn converted(&self, mut v: ValueId, stop: ValueId) -> ValueId {
        while v != stop
            && let Some(op) = self.only_user(v)
            && op.kind == OpKind::Convert
            && self.func.tensor(op.result()).is_some_and(|t| t.dtype.is_float())
        {
            v = op.result();
        }
        v
    }
    fn only_user(&self, v: ValueId) -> Option<&'a Op> {
        let mut users = self.ops.iter().filter(|op| op.operands.contains(&v));
        match (users.next(), users.next()) {
            (Some(op), None) => Some(op),
            _ => None,
        }
    }
    /// Of a sum or product of a dependent and an independent value: both, in this order.
    fn pair(&self, v: ValueId, kind: Binary) -> Option<(ValueId, ValueId)> {
        let op = self.defs.get(v)?;
        let [a, b] = op.operands.as_slice() else { return None };
        match (op.kind == OpKind::Binary(kind), self.dependent.contains(a), self.dependent.contains(b)) {
            (true, true, false) => Some((*a, *b)),
            (true, false, true) => Some((*b, *a)),
            _ => None,
        }
    }
    /// The region argument that is the whole matrix `v`.
    fn matrix(&self, v: ValueId, anchor: ValueId) -> Option<ValueId> {
        let view = self.defs.view(self.func, self.unconverted(v, anchor))?;
        let whole = self.func.tensor(view.source)?.elems() == self.func.tensor(anchor)?.elems();
        (whole && view.offset == 0 && view.is_contiguous() && self.defs.get(view.source).is_none()).then_some(view.source)
    }
    /// A region argument.
    fn is_stored(&self, v: ValueId) -> bool {
        self.defs.get(v).is_none()
    }
    fn is_constant(&self, v: ValueId) -> bool {
        self.defs.get(v).is_some_and(|op| matches!(op.kind, OpKind::Constant(_)))
    }
    /// The value whose elements `v` repeats for every row.
    fn column_vector(&self, v: ValueId, columns: i64) -> Option<ValueId> {
        let view = self.defs.view(self.func, self.unconverted(v, v))?;
        let mut left = columns;
        let mut stride = 1;
        for (&d, &s) in view.dims.iter().zip(&view.strides).rev().filter(|(d, _)| **d != 1) {
            if left > 1 && (s != stride || left % d != 0) || left == 1 && s != 0 {
                return None;
            }
            if left > 1 {
                (left, stride) = (left / d, stride * d);
            }
        }
        let whole = self.func.tensor(view.source)?.elems()? as i64 == columns;
        (whole && left == 1 && view.offset == 0).then_some(view.source)
    }

    /// The value whose elements `v` repeats for every column.
    fn row_vector(&self, v: ValueId, rows: i64, columns: i64) -> Option<ValueId> {
        let view = self.defs.view(self.func, v)?;
        let (mut repeated, mut left, mut stride) = (columns, rows, 1);
        for (&d, &s) in view.dims.iter().zip(&view.strides).rev().filter(|(d, _)| **d != 1) {
            if repeated > 1 {
                if s != 0 || repeated % d != 0 {
                    return None;
                }
                repeated /= d;
            } else {
                if s != stride || left % d != 0 {
                    return None;
                }
                (left, stride) = (left / d, stride * d);
            }
        }
        let source = self.func.tensor(view.source)?;
        let whole = source.elems()? as i64 == rows && source.dtype == DType::F32;
        (whole && left == 1 && repeated == 1 && view.offset == 0).then_some(view.source)
    }

    fn activation(&self, from: ValueId, to: ValueId) -> Option<Activation> {
        let points: Vec<f64> = (-60..=60).map(|i| f64::from(i) * 0.137 + 0.003).collect();
        let values: Vec<f64> = points.iter().map(|&x| self.evaluate(to, &mut BTreeMap::from([(from, x)]))).collect::<Option<_>>()?;
        [Activation::None, Activation::Relu, Activation::Silu, Activation::GeluErf, Activation::GeluTanh].into_iter().find(|a| {
            points.iter().zip(&values).all(|(&x, &y)| {
                let wanted = apply(*a, x);
                (y - wanted).abs() <= TOLERANCE * (1.0 + wanted.abs())
            })
        })
    }

    /// The scalar function of a value in f64; `None` if it depends on more than known values and splats.
    fn evaluate(&self, v: ValueId, known: &mut BTreeMap<ValueId, f64>) -> Option<f64> {
        if let Some(&x) = known.get(&v) {
            return Some(x);
        }
        let op = self.defs.get(v)?;
        if let OpKind::Constant(literal) = &op.kind {
            return literal.splat_f32().map(f64::from);
        }
        let args: Vec<f64> = op.operands.iter().map(|&o| self.evaluate(o, known)).collect::<Option<_>>()?;
        let value = scalar(&op.kind, &args)?;
        known.insert(v, value);
        Some(value)
    }
}

/// The activations of [`Activation`] in f64.
fn apply(activation: Activation, x: f64) -> f64 {
    match activation {
        Activation::None => x,
        Activation::Relu => x.max(0.0),
        Activation::Silu => x / (1.0 + (-x).exp()),
        Activation::GeluErf => 0.5 * x * (1.0 + libm::erf(x / 2f64.sqrt())),
        Activation::GeluTanh => 0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x)).tanh()),
    }
}

fn scalar(kind: &OpKind, args: &[f64]) -> Option<f64> {
    Some(match (kind, args) {
        (OpKind::Convert | OpKind::BroadcastInDim { .. } | OpKind::Reshape, [x]) => *x,
        (OpKind::Unary(u), [x]) => match u {
            Unary::Abs => x.abs(),
            Unary::Erf => libm::erf(*x),
            Unary::Erfc => libm::erfc(*x),
            Unary::Exponential => x.exp(),
            Unary::ExponentialMinusOne => x.exp_m1(),
            Unary::Log => x.ln(),
            Unary::LogPlusOne => x.ln_1p(),
            Unary::Logistic => 1.0 / (1.0 + (-x).exp()),
            Unary::Negate => -x,
            Unary::Rsqrt => x.sqrt().recip(),
            Unary::Sign => {
                if *x == 0.0 {
                    0.0
                } else {
                    x.signum()
                }
            }
            Unary::Sqrt => x.sqrt(),
            Unary::Tanh => x.tanh(),
            _ => return None,
        },
        (OpKind::Binary(b), [x, y]) => match b {
            Binary::Add => x + y,
            Binary::Subtract => x - y,
            Binary::Multiply => x * y,
            Binary::Divide => x / y,
            Binary::Maximum => x.max(*y),
            Binary::Minimum => x.min(*y),
            Binary::Power => x.powf(*y),
            Binary::And => f64::from(*x != 0.0 && *y != 0.0),
            Binary::Or => f64::from(*x != 0.0 || *y != 0.0),
            _ => return None,
        },
        (OpKind::Compare { direction, .. }, [x, y]) => f64::from(match direction {
            Direction::Eq => x == y,
            Direction::Ne => x != y,
            Direction::Lt => x < y,
            Direction::Le => x <= y,
            Direction::Gt => x > y,
            Direction::Ge => x >= y,
        }),
        (OpKind::Select, [c, x, y]) => {
            if *c != 0.0 {
                *x
            } else {
                *y
            }
        }
        (OpKind::Clamp, [low, x, high]) => x.max(*low).min(*high),
        _ => return None,
    })
}
