//! Scalars, and regions of scalar operations compiled to a list of steps, so that reducers and comparators run without tensors.

use crate::error::{Outcome, invalid};
use crate::float::round_to;
use crate::ops::compare::{holds, order};
use crate::ops::convert::convert_scalar;
use crate::ops::elementwise::{BinaryFn, UnaryFn, binary, binary_result, unary, unary_result};
use crate::tensor::{Draft, Tensor, wrap};
use icd_core::dtype::Class;
use icd_core::graph::{Binary, CompareType, Direction, Func, OpKind, Region, ValueId};
use icd_core::{DType, TensorType};
use num_complex::Complex64;
use std::collections::BTreeMap;

/// One element; bools are the integers 0 and 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Scalar {
    Integer(i128),
    Float(f64),
    Complex(Complex64),
}

impl Scalar {
    /// Zero of a class.
    pub(crate) fn zero(dtype: DType) -> Scalar {
        match dtype.class() {
            Class::Float => Scalar::Float(0.0),
            Class::Complex => Scalar::Complex(Complex64::default()),
            _ => Scalar::Integer(0),
        }
    }
    pub(crate) fn is_true(self) -> bool {
        matches!(self, Scalar::Integer(v) if v != 0)
    }
    /// Wrapped or rounded to what an element of `dtype` can hold.
    pub(crate) fn fit(self, dtype: DType) -> Scalar {
        match self {
            Scalar::Integer(v) => Scalar::Integer(wrap(dtype, v)),
            Scalar::Float(v) => Scalar::Float(round_to(dtype, v)),
            Scalar::Complex(z) if dtype == DType::C64 => Scalar::Complex(Complex64::new(f64::from(z.re as f32), f64::from(z.im as f32))),
            Scalar::Complex(_) => self,
        }
    }
}

impl Tensor {
    /// Element at a linear offset.
    pub(crate) fn scalar(&self, at: usize) -> Scalar {
        match self.dtype.class() {
            Class::Float => {
                let mut v = [0.0];
                self.get_floats(at, &mut v);
                Scalar::Float(v[0])
            }
            Class::Complex => {
                let mut v = [Complex64::default()];
                self.get_complex(at, &mut v);
                Scalar::Complex(v[0])
            }
            _ => Scalar::Integer(self.integer(at)),
        }
    }
}

impl Draft {
    /// Writes one element, rounded or wrapped.
    pub(crate) fn put_scalar(&mut self, at: usize, value: Scalar) {
        match value {
            Scalar::Integer(v) => self.put_integers(at, &[v]),
            Scalar::Float(v) => self.put_floats(at, &[v]),
            Scalar::Complex(v) => self.put_complex(at, &[v]),
        }
    }
    /// Writes the same element everywhere.
    pub(crate) fn fill(&mut self, value: &Tensor) -> Outcome<()> {
        crate::tensor::both_widths!(self.words(), to, value.words(), from => {
            let Some(&x) = from.first() else { return invalid("a scalar was expected") };
            to.fill(x);
            Ok(())
        })
    }
}

enum What {
    Unary(UnaryFn),
    Binary(BinaryFn),
    Compare(Direction, bool),
    Select,
    Clamp,
    Convert,
}

struct Step {
    what: What,
    args: [usize; 3],
    out: usize,
    operand: DType,
    result: DType,
}

/// A region of scalar operations as straight-line code over registers.
pub(crate) struct ScalarFn {
    registers: Vec<Scalar>,
    args: Vec<usize>,
    steps: Vec<Step>,
    results: Vec<usize>,
    single: Option<Binary>,
}

impl ScalarFn {
    /// `None` if the region does something other than arithmetic on rank-0 tensors. `outer` gives rank-0 values from around the region.
    pub(crate) fn compile(func: &Func, region: &Region, outer: impl Fn(ValueId) -> Option<Tensor>) -> Option<ScalarFn> {
        let plain = |v: ValueId| -> Option<&TensorType> {
            func.values.get(v.0 as usize)?;
            func.tensor(v).filter(|t| t.dims.is_empty() && t.quant.is_none())
        };
        let mut registers = Vec::new();
        let mut place = BTreeMap::new();
        let mut args = Vec::new();
        for &a in &region.args {
            place.insert(a, registers.len());
            args.push(registers.len());
            registers.push(Scalar::zero(plain(a)?.dtype));
        }
        let mut steps = Vec::new();
        let find = |v: ValueId, registers: &mut Vec<Scalar>, place: &mut BTreeMap<ValueId, usize>| -> Option<usize> {
            if let Some(&r) = place.get(&v) {
                return Some(r);
            }
            plain(v)?;
            let t = outer(v)?;
            registers.push(t.scalar(0));
            place.insert(v, registers.len() - 1);
            Some(registers.len() - 1)
        };
        for op in &region.ops {
            let [result] = op.results.as_slice() else { return None };
            let ty = plain(*result)?.dtype;
            if let OpKind::Constant(l) = &op.kind {
                if l.elems() != 1 || !l.ty().dims.is_empty() {
                    return None;
                }
                let memory = crate::memory::Memory::new(64);
                place.insert(*result, registers.len());
                registers.push(Tensor::from_literal(&memory, l).ok()?.scalar(0));
                continue;
            }
            let mut at = [0usize; 3];
            if op.operands.len() > 3 || op.operands.is_empty() || !op.regions.is_empty() {
                return None;
            }
            for (slot, &v) in at.iter_mut().zip(&op.operands) {
                *slot = find(v, &mut registers, &mut place)?;
            }
            let operand = func.tensor(op.operands[0])?.dtype;
            let arity = op.operands.len();
            let (what, expected) = match &op.kind {
                OpKind::Unary(u) if arity == 1 => (What::Unary(unary(*u, operand).ok()?), unary_result(*u, operand)),
                OpKind::Binary(b) if arity == 2 => (What::Binary(binary(*b, operand).ok()?), binary_result(*b, operand)),
                OpKind::Compare { direction, compare_type } if arity == 2 => {
                    (What::Compare(*direction, *compare_type == CompareType::TotalOrder), DType::I1)
                }
                OpKind::Select if arity == 3 => (What::Select, func.tensor(op.operands[1])?.dtype),
                OpKind::Clamp if arity == 3 => (What::Clamp, operand),
                OpKind::Convert if arity == 1 => (What::Convert, ty),
                _ => return None,
            };
            if expected != ty {
                return None;
            }
            steps.push(Step { what, args: at, out: registers.len(), operand, result: ty });
            place.insert(*result, registers.len());
            registers.push(Scalar::zero(ty));
        }
        let results = region.results.iter().map(|&v| find(v, &mut registers, &mut place)).collect::<Option<Vec<_>>>()?;
        let single = match (region.ops.as_slice(), region.args.as_slice(), region.results.as_slice()) {
            ([op], [a, b], [r]) if op.operands == [*a, *b] && op.results == [*r] => match &op.kind {
                OpKind::Binary(b) => Some(*b),
                _ => None,
            },
            _ => None,
        };
        Some(ScalarFn { registers, args, steps, results, single })
    }

    /// The operation when the region is just `op(arg0, arg1)`.
    pub(crate) fn single(&self) -> Option<Binary> {
        self.single
    }

    /// Steps that one run takes.
    pub(crate) fn cost(&self) -> u64 {
        1 + self.steps.len() as u64
    }

    /// Runs on arguments of the declared types; `out` receives the results.
    pub(crate) fn run(&mut self, args: &[Scalar], out: &mut Vec<Scalar>) -> Outcome<()> {
        if args.len() != self.args.len() {
            return invalid(format!("the region takes {} values, got {}", self.args.len(), args.len()));
        }
        for (&r, &v) in self.args.iter().zip(args) {
            self.registers[r] = v;
        }
        for step in &self.steps {
            let [a, b, c] = step.args.map(|i| self.registers[i]);
            let value = match (&step.what, a, b) {
                (What::Unary(UnaryFn::Float(f)), Scalar::Float(x), _) => Scalar::Float(f(x)),
                (What::Unary(UnaryFn::Integer(f)), Scalar::Integer(x), _) => Scalar::Integer(f(x, step.operand)),
                (What::Unary(UnaryFn::Complex(f)), Scalar::Complex(x), _) => Scalar::Complex(f(x)),
                (What::Unary(UnaryFn::ComplexToFloat(f)), Scalar::Complex(x), _) => Scalar::Float(f(x)),
                (What::Unary(UnaryFn::FloatToBool(f)), Scalar::Float(x), _) => Scalar::Integer(i128::from(f(x))),
                (What::Binary(BinaryFn::Float(f)), Scalar::Float(x), Scalar::Float(y)) => Scalar::Float(f(x, y)),
                (What::Binary(BinaryFn::Integer(f)), Scalar::Integer(x), Scalar::Integer(y)) => Scalar::Integer(f(x, y, step.operand)),
                (What::Binary(BinaryFn::Complex(f)), Scalar::Complex(x), Scalar::Complex(y)) => Scalar::Complex(f(x, y)),
                (What::Binary(BinaryFn::FloatToComplex(f)), Scalar::Float(x), Scalar::Float(y)) => Scalar::Complex(f(x, y)),
                (What::Compare(direction, total), x, y) => Scalar::Integer(i128::from(holds(*direction, order(x, y, *total)))),
                (What::Select, p, x) => {
                    if p.is_true() {
                        x
                    } else {
                        c
                    }
                }
                (What::Clamp, Scalar::Float(lo), Scalar::Float(x)) => match c {
                    Scalar::Float(hi) => Scalar::Float(crate::ops::math::minimum(crate::ops::math::maximum(x, lo), hi)),
                    _ => return invalid("operands differ in type"),
                },
                (What::Clamp, Scalar::Integer(lo), Scalar::Integer(x)) => match c {
                    Scalar::Integer(hi) => Scalar::Integer(x.max(lo).min(hi)),
                    _ => return invalid("operands differ in type"),
                },
                (What::Convert, x, _) => convert_scalar(x, step.result),
                _ => return invalid("operands differ in type"),
            };
            self.registers[step.out] = value.fit(step.result);
        }
        out.clear();
        out.extend(self.results.iter().map(|&r| self.registers[r]));
        Ok(())
    }
}
