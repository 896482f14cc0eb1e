//! Symbolic indices: affine sums of atoms with known ranges, so that linearising and delinearising cancel before any code is written.
//!
//! An atom is a loop variable, a value computed at run time (a clamped gather index), or the quotient or remainder of an affine
//! expression by a constant. Example: reshaping 64×384 to 64×12×32 and reading at `(i, j)`, with loop variables i < 64 and j < 384:
//!
//! ```text
//! linear       384·i + j
//! dims         (i, j / 32, j % 32)        because 384 = 12·32, and 384·i + j / 32 mod 12 = j / 32
//! ```
//!
//! Neither quotient simplifies, so the pair (j, 32) is recorded as a wanted split; a driver that owns the loop over j makes it two loops
//! (12 and 32) and starts over, and then all three indices are plain loop variables.

use crate::ll::{Code, Scalar, Val};

/// An atom by number; see [`Atoms`].
pub type Atom = u32;

/// `constant + Σ coefficient · atom`, terms sorted by atom, no zero coefficients.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Affine {
    constant: i64,
    terms: Vec<(Atom, i64)>,
}

impl Affine {
    /// A constant.
    pub fn constant(constant: i64) -> Self {
        Affine { constant, terms: Vec::new() }
    }
    /// One atom.
    pub fn atom(atom: Atom) -> Self {
        Affine { constant: 0, terms: vec![(atom, 1)] }
    }
    /// The value, if no atom occurs.
    pub fn as_constant(&self) -> Option<i64> {
        self.terms.is_empty().then_some(self.constant)
    }
    /// The atom, if it is one and nothing else.
    pub fn as_atom(&self) -> Option<Atom> {
        match *self.terms.as_slice() {
            [(atom, 1)] if self.constant == 0 => Some(atom),
            _ => None,
        }
    }
    /// Sum.
    pub fn plus(&self, other: &Affine) -> Affine {
        let mut terms = Vec::with_capacity(self.terms.len() + other.terms.len());
        let (mut a, mut b) = (self.terms.iter().peekable(), other.terms.iter().peekable());
        loop {
            let next = match (a.peek(), b.peek()) {
                (Some(&&(x, c)), Some(&&(y, d))) if x == y => {
                    a.next();
                    b.next();
                    (x, c + d)
                }
                (Some(&&x), Some(&&y)) if x.0 < y.0 => {
                    a.next();
                    x
                }
                (_, Some(&&y)) => {
                    b.next();
                    y
                }
                (Some(&&x), None) => {
                    a.next();
                    x
                }
                (None, None) => break,
            };
            if next.1 != 0 {
                terms.push(next);
            }
        }
        Affine { constant: self.constant + other.constant, terms }
    }
    /// Sum with a constant.
    pub fn offset(&self, constant: i64) -> Affine {
        Affine { constant: self.constant + constant, terms: self.terms.clone() }
    }
    /// Product with a constant.
    pub fn times(&self, factor: i64) -> Affine {
        if factor == 0 {
            return Affine::default();
        }
        Affine { constant: self.constant * factor, terms: self.terms.iter().map(|&(a, c)| (a, c * factor)).collect() }
    }
    /// How the value changes when only `atom` grows by one; `None` when `atom` also occurs inside a quotient or remainder.
    pub fn stride_of(&self, atom: Atom, atoms: &Atoms) -> Option<i64> {
        let hidden = self.terms.iter().any(|&(a, _)| a != atom && atoms.mentions(a, atom));
        (!hidden).then(|| self.terms.iter().find(|t| t.0 == atom).map_or(0, |t| t.1))
    }
}

#[derive(Clone, Debug)]
enum Kind {
    /// A value of the code being written; loop variables carry the position of their loop in the driver's list.
    Value(Val, Option<usize>),
    Quotient(Affine, i64),
    Remainder(Affine, i64),
}

/// All atoms of the code being written, with their ranges `0..extent`.
#[derive(Default)]
pub struct Atoms {
    infos: Vec<(Kind, i64)>,
    wanted: Option<(usize, i64)>,
}

impl Atoms {
    /// A loop variable in `0..extent`; `position` names the loop when the driver can split it.
    pub fn variable(&mut self, value: Val, extent: i64, position: Option<usize>) -> Affine {
        if extent <= 1 {
            return Affine::default();
        }
        self.push(Kind::Value(value, position), extent)
    }
    /// A value computed at run time that lies in `0..extent`.
    pub fn value(&mut self, value: Val, extent: i64) -> Affine {
        self.variable(value, extent, None)
    }
    /// The first split that would have simplified an index: loop position and inner extent, which divides the loop's.
    pub fn wanted_split(&self) -> Option<(usize, i64)> {
        self.wanted
    }

    fn push(&mut self, kind: Kind, extent: i64) -> Affine {
        self.infos.push((kind, extent));
        Affine::atom((self.infos.len() - 1) as Atom)
    }
    fn kind(&self, atom: Atom) -> &Kind {
        &self.infos[atom as usize].0
    }
    fn extent(&self, atom: Atom) -> i64 {
        self.infos[atom as usize].1
    }
    fn mentions(&self, atom: Atom, inner: Atom) -> bool {
        match self.kind(atom) {
            Kind::Value(..) => atom == inner,
            Kind::Quotient(x, _) | Kind::Remainder(x, _) => x.terms.iter().any(|&(a, _)| a == inner || self.mentions(a, inner)),
        }
    }

    /// Smallest and largest value.
    pub fn range(&self, x: &Affine) -> (i64, i64) {
        x.terms.iter().fold((x.constant, x.constant), |(lo, hi), &(a, c)| {
            let reach = c * (self.extent(a) - 1);
            (lo + reach.min(0), hi + reach.max(0))
        })
    }

    /// Quotient and remainder of a non-negative `x` by `divisor` > 0.
    pub fn divide(&mut self, x: &Affine, divisor: i64) -> (Affine, Affine) {
        if divisor == 1 {
            return (x.clone(), Affine::default());
        }
        let (whole, part): (Vec<_>, Vec<_>) = x.terms.iter().copied().partition(|t| t.1 % divisor == 0);
        let part = Affine { constant: x.constant.rem_euclid(divisor), terms: part };
        let whole = Affine { constant: x.constant.div_euclid(divisor), terms: whole.into_iter().map(|(a, c)| (a, c / divisor)).collect() };
        let (low, high) = self.range(&part);
        if low >= 0 && high < divisor {
            return (whole, part);
        }
        if low < 0 {
            return (self.quotient(x, divisor), self.remainder(x, divisor));
        }
        // (g·a + b) / (g·d) = a / d when 0 ≤ b < g, and then the remainder is g·(a mod d) + b.
        let mut steps: Vec<i64> = part.terms.iter().map(|t| gcd(t.1.abs(), divisor)).filter(|&g| g > 1).collect();
        steps.sort_unstable();
        steps.dedup();
        for &step in steps.iter().rev() {
            let (high, low): (Vec<_>, Vec<_>) = part.terms.iter().copied().partition(|t| t.1 % step == 0);
            let low = Affine { constant: part.constant % step, terms: low };
            let (least, most) = self.range(&low);
            if least < 0 || most >= step {
                continue;
            }
            let scaled = Affine { constant: part.constant / step, terms: high.into_iter().map(|(a, c)| (a, c / step)).collect() };
            if self.range(&scaled).0 < 0 {
                continue;
            }
            let (q, r) = self.divide(&scaled, divisor / step);
            return (whole.plus(&q), r.times(step).plus(&low));
        }
        (whole.plus(&self.quotient(&part, divisor)), self.remainder(&part, divisor))
    }

    fn want(&mut self, x: &Affine, divisor: i64) {
        let Some(atom) = x.as_atom() else { return };
        if let Kind::Value(_, Some(position)) = *self.kind(atom)
            && self.extent(atom) % divisor == 0
            && self.wanted.is_none()
        {
            self.wanted = Some((position, divisor));
        }
    }

    fn quotient(&mut self, x: &Affine, divisor: i64) -> Affine {
        self.want(x, divisor);
        let known = self.infos.iter().position(|(k, _)| matches!(k, Kind::Quotient(y, d) if y == x && *d == divisor));
        let extent = self.range(x).1 / divisor + 1;
        known.map_or_else(|| self.push(Kind::Quotient(x.clone(), divisor), extent), |i| Affine::atom(i as Atom))
    }

    fn remainder(&mut self, x: &Affine, divisor: i64) -> Affine {
        let known = self.infos.iter().position(|(k, _)| matches!(k, Kind::Remainder(y, d) if y == x && *d == divisor));
        known.map_or_else(|| self.push(Kind::Remainder(x.clone(), divisor), divisor), |i| Affine::atom(i as Atom))
    }

    /// Writes code that computes `x` as an `i64`.
    pub fn emit(&self, code: &mut Code, x: &Affine) -> Val {
        let mut sum: Option<Val> = None;
        for &(atom, coefficient) in &x.terms {
            let value = self.emit_atom(code, atom);
            let term = if coefficient == 1 { value } else { code.bin("mul nsw", &value, &Val::i64(coefficient)) };
            sum = Some(match sum {
                None => term,
                Some(s) => code.bin("add nsw", &s, &term),
            });
        }
        match sum {
            None => Val::i64(x.constant),
            Some(s) if x.constant == 0 => s,
            Some(s) => code.bin("add nsw", &s, &Val::i64(x.constant)),
        }
    }

    fn emit_atom(&self, code: &mut Code, atom: Atom) -> Val {
        let (opcode, x, divisor) = match self.kind(atom) {
            Kind::Value(v, _) => {
                return if v.ty == Scalar::I64.into() { v.clone() } else { code.cast("zext", v, Scalar::I64) };
            }
            Kind::Quotient(x, d) => ("udiv", x, *d),
            Kind::Remainder(x, d) => ("urem", x, *d),
        };
        let value = self.emit(code, x);
        code.bin(opcode, &value, &Val::i64(divisor))
    }
}

fn gcd(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Where an element lies in a tensor: by its row-major position, by one index a dimension, or both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Index {
    linear: Option<Affine>,
    dims: Option<Vec<Affine>>,
}

impl Index {
    /// By row-major position.
    pub fn linear(position: Affine) -> Self {
        Index { linear: Some(position), dims: None }
    }
    /// By one index a dimension.
    pub fn dims(dims: Vec<Affine>) -> Self {
        Index { linear: None, dims: Some(dims) }
    }
    /// The element of a rank-0 tensor.
    pub fn scalar() -> Self {
        Index { linear: Some(Affine::default()), dims: Some(Vec::new()) }
    }
    /// Row-major position in a tensor of sizes `shape`.
    pub fn to_linear(&self, shape: &[i64]) -> Affine {
        if let Some(linear) = &self.linear {
            return linear.clone();
        }
        let (mut stride, mut sum) = (1, Affine::default());
        for (i, &size) in self.dims.as_deref().unwrap_or_default().iter().zip(shape).rev() {
            sum = sum.plus(&i.times(stride));
            stride *= size;
        }
        sum
    }
    /// One index a dimension in a tensor of sizes `shape` without zeros.
    pub fn to_dims(&self, atoms: &mut Atoms, shape: &[i64]) -> Vec<Affine> {
        if let Some(dims) = &self.dims {
            return dims.clone();
        }
        let mut rest = self.linear.clone().unwrap_or_default();
        let mut dims = vec![Affine::default(); shape.len()];
        let mut left: i64 = shape.iter().product();
        for (dim, &size) in dims.iter_mut().zip(shape) {
            left /= size.max(1);
            (*dim, rest) = if size == 1 { (Affine::default(), rest) } else { atoms.divide(&rest, left.max(1)) };
        }
        dims
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn eval(atoms: &Atoms, x: &Affine, values: &[i64]) -> i64 {
        x.terms.iter().fold(x.constant, |sum, &(a, c)| {
            let v = match atoms.kind(a) {
                Kind::Value(..) => values[a as usize],
                Kind::Quotient(y, d) => eval(atoms, y, values) / d,
                Kind::Remainder(y, d) => eval(atoms, y, values) % d,
            };
            sum + c * v
        })
    }

    proptest::proptest! {
        #[test]
        fn division_keeps_the_value(
            terms in proptest::collection::vec((1i64..50, -40i64..60, 0i64..1000), 1..4), constant in 0i64..5000, divisor in 1i64..70,
        ) {
            let mut atoms = Atoms::default();
            let mut x = Affine::constant(constant);
            let mut values = Vec::new();
            for &(extent, coefficient, value) in &terms {
                let atom = atoms.variable(Val::i64(0), extent + 1, None);
                x = x.plus(&atom.times(coefficient));
                values.push(value % (extent + 1));
            }
            proptest::prop_assume!(atoms.range(&x).0 >= 0);
            let (q, r) = atoms.divide(&x, divisor);
            let value = eval(&atoms, &x, &values);
            proptest::prop_assert_eq!(eval(&atoms, &q, &values), value / divisor);
            proptest::prop_assert_eq!(eval(&atoms, &r, &values), value % divisor);
            let (low, high) = atoms.range(&r);
            proptest::prop_assert!(low >= 0 && high < divisor);
        }
    }

    #[test]
    fn a_reshape_of_split_loops_needs_no_division() {
        let mut atoms = Atoms::default();
        let i = atoms.variable(Val::i64(0), 64, Some(0));
        let j = atoms.variable(Val::i64(0), 12, Some(1));
        let k = atoms.variable(Val::i64(0), 32, Some(2));
        let index = Index::linear(i.times(384).plus(&j.times(32)).plus(&k));
        assert_eq!(index.to_dims(&mut atoms, &[64, 12, 32]), vec![i, j, k]);
        assert_eq!(atoms.wanted_split(), None);
    }

    #[test]
    fn an_unsplit_loop_asks_for_its_split() {
        let mut atoms = Atoms::default();
        let i = atoms.variable(Val::i64(0), 24576, Some(0));
        Index::linear(i).to_dims(&mut atoms, &[64, 384]);
        assert_eq!(atoms.wanted_split(), Some((0, 384)));
    }
}
