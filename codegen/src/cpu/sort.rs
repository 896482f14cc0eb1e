//! Sorting along one dimension: a stable merge sort of each line with the program's comparator, and `top_k`, which sorts a line's values with their
//! indices.
//!
//! A line is copied to scratch, sorted bottom-up between two scratch lines, and copied to the result:
//!
//! ```text
//! 7 2 9 1 | 5      runs of 1 → 2 7 · 1 9 · 5 → 1 2 7 9 · 5 → 1 2 5 7 9
//! ```

use super::{
    loops::shape_text,
    site::{Emitted, Site, begin_chunks, scratch},
    structure,
};
use crate::{
    elemental::{Affine, Elemental, Index},
    error::{CodegenError, Result},
    ll::{Scalar, Val},
};
use icd_core::{
    dtype::Class,
    graph::{OpKind, Region},
    manifest::StepInfo,
};

/// What orders two elements.
enum Order<'a> {
    /// The program's comparator over (left, right) pairs of each operand.
    Comparator(&'a Region),
    /// Largest value first; NaN counts as largest. Key and index are the two columns.
    Descending {
        /// Keys are unsigned integers.
        unsigned: bool,
    },
}

/// Lines of one operand in scratch memory: where the two copies lie, and the register type.
struct Column {
    from: i64,
    to: i64,
    register: Scalar,
}

/// Emits a sort or a top_k.
pub(super) fn emit(site: &Site<'_>, key: &str) -> Result<Emitted> {
    let op = site.kernel.op;
    let input = *op.operands.first().ok_or_else(|| CodegenError::invalid(op, "no operand"))?;
    let dims = site.kernel.func.tensor(input).map(|t| t.dims.clone()).unwrap_or_default();
    let (dim, order) = match &op.kind {
        OpKind::Sort { dim, .. } => {
            let region = op.regions.first().ok_or_else(|| CodegenError::invalid(op, "the comparator is missing"))?;
            (*dim, Order::Comparator(region))
        }
        _ => {
            let class = site.kernel.func.tensor(input).map(|t| t.dtype.class());
            (dims.len().saturating_sub(1), Order::Descending { unsigned: matches!(class, Some(Class::Unsigned | Class::Bool)) })
        }
    };
    let length = *dims.get(dim).ok_or_else(|| CodegenError::invalid(op, "the dimension does not exist"))?;
    let lines: i64 = dims.iter().enumerate().filter(|(d, _)| *d != dim).map(|(_, &s)| s).product();
    let inner: i64 = dims[dim + 1..].iter().product();

    let mut e = site.elemental()?;
    let mut columns = Vec::new();
    let mut total = 0;
    let registers = match order {
        Order::Comparator(_) => op.operands.iter().map(|&v| e.register(v)).collect::<Result<Vec<_>>>()?,
        Order::Descending { .. } => vec![e.register(input)?, Scalar::I32],
    };
    for register in registers {
        let bytes = length * 8;
        columns.push(Column { from: total, to: total + bytes, register });
        total += 2 * bytes;
    }
    let outer = begin_chunks(&mut e);
    let line = e.atoms.variable(outer.iv.clone(), lines, None);
    // Line number to the position of its first element.
    let (high, low) = e.atoms.divide(&line, inner.max(1));
    let place = |i: &Affine, stride: i64| high.times(length * inner).plus(&low).plus(&i.times(stride));

    let (load, i) = e.begin_range(length, None);
    let at = Index::linear(place(&i, inner));
    for (n, column) in columns.iter().enumerate() {
        let value = match (&order, n) {
            (Order::Descending { .. }, 1) => {
                let index = e.atoms.emit(&mut e.code, &i);
                e.code.cast("trunc", &index, Scalar::I32)
            }
            _ => e.element(op.operands[n], &at)?,
        };
        write(&mut e, column, column.from, &load.iv, &value);
    }
    e.end_loop(load);
    let source = merge_sort(&mut e, &order, &columns, length)?;

    let (count, stride) = match op.kind {
        OpKind::TopK { k } => (k as i64, 1),
        _ => (length, inner),
    };
    let (store, i) = e.begin_range(count, None);
    let target = match op.kind {
        OpKind::TopK { .. } => line.times(count).plus(&i),
        _ => place(&i, stride),
    };
    for (n, column) in columns.iter().enumerate() {
        let value = read(&mut e, column, &source[n], &store.iv);
        e.store(site.result_dtype(n), &value, &site.result(n), &target)?;
    }
    e.end_loop(store);
    e.end_loop(outer);
    let info = StepInfo { label: format!("sort {}", shape_text(&dims)), bytes: site.bytes, flops: 0 };
    Ok(site.finish(structure::symbol(site, "sort", key), e, lines.max(1) as u64, total as usize, info))
}

fn stored(register: Scalar) -> Scalar {
    if register == Scalar::I1 { Scalar::I8 } else { register }
}

fn write(e: &mut Elemental<'_>, column: &Column, offset: i64, position: &Val, value: &Val) {
    let base = e.code.gep(Scalar::I8, &scratch(), &Val::i64(offset));
    write_at(e, column, &base, position, value);
}

fn write_at(e: &mut Elemental<'_>, column: &Column, base: &Val, position: &Val, value: &Val) {
    let ty = stored(column.register);
    let value = e.code.cast("zext", value, ty);
    let place = e.code.gep(ty, base, position);
    e.code.store(&value, &place, 1);
}

fn read(e: &mut Elemental<'_>, column: &Column, base: &Val, position: &Val) -> Val {
    let ty = stored(column.register);
    let place = e.code.gep(ty, base, position);
    let raw = e.code.load(ty, &place, 1);
    if column.register == Scalar::I1 { e.code.icmp("ne", &raw, &Val::int(Scalar::I8, 0)) } else { raw }
}

/// Whether the right element goes before the left one.
fn right_first<'a>(e: &mut Elemental<'a>, order: &Order<'a>, left: &[Val], right: &[Val]) -> Result<Val> {
    match order {
        Order::Comparator(region) => {
            let pairs: Vec<Val> = right.iter().zip(left).flat_map(|(r, l)| [r.clone(), l.clone()]).collect();
            let outcome = e.apply(region, &pairs)?;
            outcome.into_iter().next().ok_or_else(|| CodegenError::Mismatch { why: "the comparator returns nothing".into() })
        }
        Order::Descending { unsigned } => {
            let (l, r) = (&left[0], &right[0]);
            if !l.ty.scalar.is_float() {
                return Ok(e.code.icmp(if *unsigned { "ugt" } else { "sgt" }, r, l));
            }
            let greater = e.code.fcmp("ogt", r, l);
            let (nan, number) = (e.code.fcmp("uno", r, r), e.code.fcmp("ord", l, l));
            let nan_first = e.code.bin("and", &nan, &number);
            Ok(e.code.bin("or", &greater, &nan_first))
        }
    }
}

/// Sorts the lines at each column's `from`; returns where the sorted lines are.
fn merge_sort<'a>(e: &mut Elemental<'a>, order: &Order<'a>, columns: &[Column], length: i64) -> Result<Vec<Val>> {
    let ptr = Scalar::Ptr(0);
    let slots: Vec<(Val, Val)> = columns
        .iter()
        .map(|c| {
            let (a, b) = (e.code.alloca(ptr), e.code.alloca(ptr));
            let from = e.code.gep(Scalar::I8, &scratch(), &Val::i64(c.from));
            let to = e.code.gep(Scalar::I8, &scratch(), &Val::i64(c.to));
            e.code.set(&a, &from);
            e.code.set(&b, &to);
            (a, b)
        })
        .collect();
    let n = Val::i64(length);
    let mut width = 1i64;
    while width < length {
        let froms: Vec<Val> = slots.iter().map(|(a, _)| e.code.get(ptr, a)).collect();
        let tos: Vec<Val> = slots.iter().map(|(_, b)| e.code.get(ptr, b)).collect();
        let runs = e.begin_loop(&Val::i64(0), &n, &Val::i64(2 * width));
        let middle = e.code.bin("add nsw", &runs.iv, &Val::i64(width));
        let middle = e.code.overloaded("smin", &[&middle, &n]);
        let last = e.code.bin("add nsw", &runs.iv, &Val::i64(2 * width));
        let last = e.code.overloaded("smin", &[&last, &n]);
        let (left, right) = (e.code.alloca(Scalar::I64), e.code.alloca(Scalar::I64));
        e.code.set(&left, &runs.iv);
        e.code.set(&right, &middle);
        let out = e.begin_loop(&runs.iv, &last, &Val::i64(1));
        let (l, r) = (e.code.get(Scalar::I64, &left), e.code.get(Scalar::I64, &right));
        let (has_left, has_right) = (e.code.icmp("slt", &l, &middle), e.code.icmp("slt", &r, &last));
        // Reading at a clamped place is harmless; what it gives is not used.
        let most = Val::i64(length - 1);
        let (l_at, r_at) = (e.code.overloaded("smin", &[&l, &most]), e.code.overloaded("smin", &[&r, &most]));
        let lefts: Vec<Val> = columns.iter().zip(&froms).map(|(c, from)| read(e, c, from, &l_at)).collect();
        let rights: Vec<Val> = columns.iter().zip(&froms).map(|(c, from)| read(e, c, from, &r_at)).collect();
        let before = right_first(e, order, &lefts, &rights)?;
        let no_left = e.code.bin("xor", &has_left, &Val::bool(true));
        let take = e.code.bin("or", &before, &no_left);
        let take_right = e.code.select(&has_right, &take, &Val::bool(false));
        for (((c, to), a), b) in columns.iter().zip(&tos).zip(&lefts).zip(&rights) {
            let value = e.code.select(&take_right, b, a);
            write_at(e, c, to, &out.iv, &value);
        }
        let step = e.code.cast("zext", &take_right, Scalar::I64);
        let next = e.code.bin("add nsw", &r, &step);
        e.code.set(&right, &next);
        let step = e.code.bin("sub nsw", &Val::i64(1), &step);
        let next = e.code.bin("add nsw", &l, &step);
        e.code.set(&left, &next);
        e.end_loop(out);
        e.end_loop(runs);
        for (((a, b), from), to) in slots.iter().zip(&froms).zip(&tos) {
            e.code.set(a, to);
            e.code.set(b, from);
        }
        width *= 2;
    }
    Ok(slots.iter().map(|(a, _)| e.code.get(ptr, a)).collect())
}
