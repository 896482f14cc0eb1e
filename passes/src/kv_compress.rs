//! Keeps the key-value caches of decoder loops as integers or 8-bit floats.
//!
//! *Before* (in the body of a `while`; `%keys` is carried from step to step)
//! ```mlir
//! %1 = stablehlo.dynamic_update_slice %keys, %key, %z, %position, %z : (tensor<12x4096x64xf16>, tensor<12x1x64xf16>, …)
//! %2 = stablehlo.dot_general %query, %1, batching_dims = [0] x [0], contracting_dims = [2] x [2]
//! stablehlo.return …, %1
//! ```
//! *After* (`scheme=int8 group=32`; carried are `%codes`, `%scales`, `%lows`, and the group that is being filled)
//! ```mlir
//! %c = stablehlo.dynamic_update_slice %codes, … : (tensor<12x4096x64xui8>, tensor<12x32x64xui8>, …)
//! %s = stablehlo.dynamic_update_slice %scales, … : (tensor<12x128x64xf16>, tensor<12x1x64xf16>, …)
//! %1 = …                                        // codes · scales + lows, as f16
//! %2 = stablehlo.dot_general %query, %1, batching_dims = [0] x [0], contracting_dims = [2] x [2]
//! ```
//!
//! A grid has a scale and a least value, as KIVI has it (Liu et al., arXiv 2402.02750): keys share one a channel over `group` slots, values one a slot
//! over `group` channels. A value is rounded when it is appended. A key joins the group that its slot lies in, which is kept unrounded while it is
//! filled and rounded as a whole in every step, so that no error adds up; what the group held before it was entered is rounded once more with it.
//! With `int4` two channels share a byte. With `fp8` codes are E4M3, and the largest magnitude of a group is the largest of the format: a scale without a
//! least value, and small numbers keep their precision.
//!
//! *When it fires*: on a tensor of floats that a `while` carries, whose body does nothing to it but write one slot by `dynamic_update_slice`, and whose
//! new state a product reads, contracting channels (keys) or slots (values). Where a loop begins with a filled cache it is rounded before; behind the loop it
//! is made floats again if anything reads it.
//!
//! *What it never does*: change the types of parameters or results, so a cache that comes from outside and goes back there is compressed inside
//! the loop only; compress caches of programs that compute a single step. Products read floats: the cache of one layer at a time is made floats
//! while they run, and there is no kernel that multiplies codes. Numbers that are not finite spoil the group that they lie in.
//!
//! *Cost*: linear in operations.

mod codec;

use crate::options::OptionValue;
use crate::{KvCompressOptions, Pass, PassContext, PassError, RemarkKind, options::choice, simplify::free_dims};
use codec::{Codec, Stored};
use icd_core::{
    DType, Literal, TensorType,
    graph::{Binary, Builder, Direction, Func, Module, Op, OpKind, Region, ValueId, remove_dead},
};
use serde_json::json;
use std::collections::BTreeMap;

choice! {
    /// What the elements of a cache become.
    CacheScheme {
        Int8 "int8" "256 levels.",
        Int4 "int4" "16 levels, two channels a byte.",
        Fp8 "fp8" "E4M3, a byte.",
    }
}

/// `icd-kv-compress`.
pub struct KvCompress {
    /// Options.
    pub options: KvCompressOptions,
}

impl Pass for KvCompress {
    fn run(&self, module: &mut Module, cx: &mut PassContext) -> Result<(), PassError> {
        for func in &mut module.funcs {
            let mut body = std::mem::take(&mut func.body);
            let outcome = self.region(func, &mut body, cx);
            func.body = body;
            outcome?;
            remove_dead(func);
        }
        Ok(())
    }
}

/// What products do with a cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// Channels are contracted.
    Keys,
    /// Slots are.
    Values,
}

/// A carried tensor that a loop appends to and reads.
struct Cache {
    /// Place among the carried values.
    at: usize,
    /// The update in the body, and its place there.
    update: Op,
    update_at: usize,
    role: Role,
    slot: usize,
    /// Type of slot numbers.
    index: DType,
    codec: Codec,
}

impl KvCompress {
    fn region(&self, func: &mut Func, region: &mut Region, cx: &mut PassContext) -> Result<(), PassError> {
        let mut out = Vec::with_capacity(region.ops.len());
        for mut op in std::mem::take(&mut region.ops) {
            for inner in &mut op.regions {
                self.region(func, inner, cx)?;
            }
            let caches = if op.kind == OpKind::While { self.caches(func, &op, cx) } else { Vec::new() };
            if caches.is_empty() {
                out.push(op);
            } else {
                rebuild(func, op, &caches, &mut out)?;
            }
        }
        region.ops = out;
        Ok(())
    }

    fn caches(&self, func: &Func, op: &Op, cx: &mut PassContext) -> Vec<Cache> {
        let mut out = Vec::new();
        for at in 0..op.operands.len() {
            match self.cache(func, op, at) {
                None => {}
                Some(Err(why)) => {
                    cx.remark(RemarkKind::Missed, &func.name, op, format!("the cache in carried value {at} stays as it is: {why}"));
                }
                Some(Ok(cache)) => {
                    let Codec { dims, dtype, group, scheme, .. } = &cache.codec;
                    let (before, after) = (dims.iter().product::<usize>() * dtype.bytes(), cache.bytes());
                    let role = if cache.role == Role::Keys { "keys" } else { "values" };
                    let row = json!({
                        "function": &*func.name, "carried": at, "role": role, "shape": dims, "scheme": scheme.show(), "group": group,
                        "bytes_before": before, "bytes_after": after,
                    });
                    cx.row("caches", row);
                    cx.count("caches", 1);
                    cx.count("bytes_before", before);
                    cx.count("bytes_after", after);
                    let message = format!("{role} of shape {dims:?} take {after} bytes in place of {before} from step to step");
                    cx.remark(RemarkKind::Applied, &func.name, op, message);
                    out.push(cache);
                }
            }
        }
        out
    }

    /// Carried value `at` as a cache; `None` if it is none, the error if it is one that cannot be compressed.
    fn cache(&self, func: &Func, op: &Op, at: usize) -> Option<Result<Cache, String>> {
        let [condition, body] = op.regions.as_slice() else { return None };
        let ty = func.tensor(*op.operands.get(at)?)?;
        let dims = ty.shape()?;
        let argument = *body.args.get(at)?;
        let once = uses(body, argument) == 1 && uses(condition, *condition.args.get(at)?) == 0;
        let update_at = body.ops.iter().position(|o| o.kind == OpKind::DynamicUpdateSlice && o.operands.first() == Some(&argument))?;
        let update = body.ops.get(update_at)?;
        let state = *update.results.first()?;
        let returned = body.results.get(at) == Some(&state);
        let floats = matches!(ty.dtype, DType::F16 | DType::BF16 | DType::F32) && ty.quant.is_none();
        if !once || !returned || !floats {
            return None;
        }
        let written = func.tensor(*update.operands.get(1)?)?.shape()?;
        let changed: Vec<usize> = (0..dims.len()).filter(|&d| written.get(d) != dims.get(d)).collect();
        let &[slot] = changed.as_slice() else { return None };
        let (role, channel) = match role(func, body, state, slot)? {
            Ok(found) => found,
            Err(why) => return Some(Err(why)),
        };
        let (slots, channels) = (*dims.get(slot)?, *dims.get(channel)?);
        if dims.iter().product::<usize>() < self.options.min_elems.max(1) {
            return Some(Err(format!("{} elements are fewer than min-elems={}", dims.iter().product::<usize>(), self.options.min_elems)));
        }
        if written.get(slot) != Some(&1) {
            return Some(Err("a step writes several slots".into()));
        }
        let index = func.tensor(*update.operands.get(2 + slot)?)?.dtype;
        if !matches!(index, DType::I32 | DType::I64 | DType::U32 | DType::U64) {
            return Some(Err(format!("slot numbers of type {index} are not supported")));
        }
        let scheme = self.options.scheme;
        if scheme == CacheScheme::Int4 && !channels.is_multiple_of(2) {
            return Some(Err(format!("{channels} channels do not fill bytes of two")));
        }
        let wanted = self.options.group.max(1);
        let (axis, group) = match role {
            Role::Keys if slots.is_multiple_of(wanted) => (slot, wanted),
            Role::Keys => return Some(Err(format!("{slots} slots are no multiple of group={wanted}"))),
            Role::Values => (channel, if channels.is_multiple_of(wanted) { wanted } else { channels }),
        };
        let codec = Codec { dims, dtype: ty.dtype, axis, group, channel, scheme };
        Some(Ok(Cache { at, update: update.clone(), update_at, role, slot, index, codec }))
    }
}

/// How often `v` is read in a region.
fn uses(region: &Region, v: ValueId) -> usize {
    let read = |vs: &[ValueId]| vs.iter().filter(|o| **o == v).count();
    let inside: usize = region.ops.iter().map(|op| read(&op.operands) + op.regions.iter().map(|r| uses(r, v)).sum::<usize>()).sum();
    inside + read(&region.results)
}

/// What the products in `body` do with `state`, and which of its dimensions are channels. `None` if no product reads it.
fn role(func: &Func, body: &Region, state: ValueId, slot: usize) -> Option<Result<(Role, usize), String>> {
    // For values made of `state`: which dimension of it each of theirs is.
    let mut origin: BTreeMap<ValueId, Vec<Option<usize>>> = BTreeMap::new();
    origin.insert(state, (0..func.tensor(state)?.rank()).map(Some).collect());
    let mut found: Option<(Role, usize)> = None;
    for op in &body.ops {
        for (side, operand) in op.operands.iter().enumerate() {
            let Some(dims) = origin.get(operand).cloned() else { continue };
            if let (OpKind::DotGeneral(dot), Some(ty)) = (&op.kind, func.tensor(*operand)) {
                let d = &dot.dims;
                let (batch, contract) = if side == 0 { (&d.lhs_batch, &d.lhs_contract) } else { (&d.rhs_batch, &d.rhs_contract) };
                let of = |places: &[usize]| places.iter().filter_map(|p| dims.get(*p).copied().flatten()).collect::<Vec<_>>();
                let (contracted, left) = (of(contract), of(&free_dims(ty.rank(), batch, contract)));
                let here = match (contracted.as_slice(), left.as_slice()) {
                    (&[s], &[channel]) if s == slot => (Role::Values, channel),
                    (&[channel], &[s]) if s == slot => (Role::Keys, channel),
                    _ => return Some(Err("a product reads it in another way than attention does".into())),
                };
                if found.is_some_and(|f| f != here) {
                    return Some(Err("products read it both as keys and as values".into()));
                }
                found = Some(here);
            } else if let ([result], Some(dims)) = (op.results.as_slice(), followed(func, op, &dims)) {
                origin.insert(*result, dims);
            }
        }
    }
    found.map(Ok)
}

/// Which dimension of the cache each dimension of an operation's result is, if `dims` says so of its operand.
fn followed(func: &Func, op: &Op, dims: &[Option<usize>]) -> Option<Vec<Option<usize>>> {
    let from = func.tensor(*op.operands.first()?)?.shape()?;
    let to = func.tensor(*op.results.first()?)?.shape()?;
    match &op.kind {
        OpKind::Transpose { permutation } => permutation.iter().map(|&p| dims.get(p).copied()).collect(),
        OpKind::BroadcastInDim { dims: places } => {
            let mut out = vec![None; to.len()];
            for ((place, dim), size) in places.iter().zip(dims).zip(&from) {
                if to.get(*place) == Some(size) {
                    *out.get_mut(*place)? = *dim;
                }
            }
            Some(out)
        }
        OpKind::Reshape => {
            // A dimension stays itself where as many elements lie in front of it and it is as long.
            let places = |shape: &[usize]| -> Vec<(usize, usize)> {
                shape.iter().enumerate().map(|(d, &size)| (shape.iter().take(d).product(), size)).collect()
            };
            let old = places(&from);
            let of = |place: &(usize, usize)| old.iter().zip(dims).find(|(o, _)| *o == place && place.1 > 1).and_then(|(_, d)| *d);
            Some(places(&to).iter().map(of).collect())
        }
        kind if kind.is_elementwise() && from == to => Some(dims.to_vec()),
        _ => None,
    }
}

impl Cache {
    /// Bytes that are carried.
    fn bytes(&self) -> usize {
        let window =
            self.codec.dims.iter().product::<usize>() / self.codec.dims.get(self.slot).copied().unwrap_or(1).max(1) * self.codec.group;
        self.codec.bytes() + if self.role == Role::Keys { window * self.codec.dtype.bytes() + self.index.bytes() } else { 0 }
    }

    fn slots(&self) -> usize {
        self.codec.dims.get(self.slot).copied().unwrap_or(1)
    }

    fn number(&self, b: &mut Builder<'_>, v: usize) -> Result<ValueId, PassError> {
        let bytes = (v as u64).to_le_bytes();
        let literal = Literal::splat(TensorType::scalar(self.index), bytes.get(..self.index.bytes()).unwrap_or_default())?;
        Ok(b.constant(literal))
    }

    /// `count` slots of a tensor from slot `at` on.
    fn read(&self, b: &mut Builder<'_>, v: ValueId, at: ValueId, zero: ValueId, count: usize) -> Option<ValueId> {
        let mut ty = b.func.tensor(v)?.clone();
        *ty.dims.get_mut(self.slot)? = count as i64;
        let mut operands = vec![v];
        operands.extend((0..ty.rank()).map(|d| if d == self.slot { at } else { zero }));
        Some(b.op(OpKind::DynamicSlice { sizes: ty.dims.clone() }, &operands, ty))
    }

    fn write(&self, b: &mut Builder<'_>, into: ValueId, v: ValueId, at: ValueId, zero: ValueId) -> Option<ValueId> {
        let ty = b.func.tensor(into)?.clone();
        let mut operands = vec![into, v];
        operands.extend((0..ty.rank()).map(|d| if d == self.slot { at } else { zero }));
        Some(b.op(OpKind::DynamicUpdateSlice, &operands, ty))
    }

    /// What the loop carries to begin with, for a cache that holds `value`.
    fn begin(&self, b: &mut Builder<'_>, value: ValueId, constant: Option<&Literal>) -> Result<Option<Vec<ValueId>>, PassError> {
        let stored = match constant.and_then(Literal::as_splat) {
            Some(element) => Some(self.codec.constant(b, element)?),
            None => self.codec.quantize(b, value)?,
        };
        let Some(stored) = stored else { return Ok(None) };
        let mut out = stored.to_vec();
        if self.role == Role::Keys {
            let zero = Literal::splat(self.window(), &vec![0; self.codec.dtype.bytes()])?;
            out.push(b.constant(zero));
            // No group has this number.
            out.push(self.number(b, self.slots() / self.codec.group)?);
        }
        Ok(Some(out))
    }

    /// Type of the group of keys that is being filled.
    fn window(&self) -> TensorType {
        let size = |d: usize, all: usize| if d == self.slot { self.codec.group } else { all };
        TensorType::new(self.codec.dtype, self.codec.dims.iter().enumerate().map(|(d, all)| size(d, *all)))
    }

    /// One step: what is carried on, and the whole cache as floats.
    fn step(&self, b: &mut Builder<'_>, carried: &[ValueId]) -> Result<Option<(Vec<ValueId>, ValueId)>, PassError> {
        let (Some(&new), Some(&start)) = (self.update.operands.get(1), self.update.operands.get(2 + self.slot)) else { return Ok(None) };
        let (zero, last) = (self.number(b, 0)?, self.number(b, self.slots().saturating_sub(1))?);
        let scalar = TensorType::scalar(self.index);
        let position = b.op(OpKind::Clamp, &[zero, start, last], scalar.clone());
        let Some((stored, own)) = carried.split_at_checked(self.codec.parts()) else { return Ok(None) };
        match (self.role, stored, own) {
            (Role::Values, stored, []) => {
                let Some(added) = self.codec.quantize(b, new)? else { return Ok(None) };
                let mut out = Vec::new();
                for (into, part) in stored.iter().zip(added.to_vec()) {
                    out.extend(self.write(b, *into, part, position, zero));
                }
                Ok(self.floats(b, &out)?.map(|all| (out, all)))
            }
            (Role::Keys, [codes, grids @ ..], &[window, held]) => {
                let size = self.number(b, self.codec.group)?;
                let group = b.op(OpKind::Binary(Binary::Divide), &[position, size], scalar.clone());
                let first = b.op(OpKind::Binary(Binary::Multiply), &[group, size], scalar.clone());
                let inside = b.op(OpKind::Binary(Binary::Subtract), &[position, first], scalar);
                let mut parts = vec![(*codes, first, self.codec.group)];
                parts.extend(grids.iter().map(|grid| (*grid, group, 1)));
                let Some(old) = parts.iter().map(|&(v, at, count)| self.read(b, v, at, zero, count)).collect::<Option<Vec<_>>>() else {
                    return Ok(None);
                };
                let Some(old) = self.floats(b, &old)? else { return Ok(None) };
                let ty = self.window();
                let same = OpKind::Compare { direction: Direction::Eq, compare_type: codec::compare_type(self.index) };
                let same = b.op(same, &[held, group], TensorType::scalar(DType::I1));
                let everywhere = TensorType { dtype: DType::I1, ..ty.clone() };
                let same = b.op(OpKind::BroadcastInDim { dims: Vec::new() }, &[same], everywhere);
                let window = b.op(OpKind::Select, &[same, window, old], ty);
                let Some(window) = self.write(b, window, new, inside, zero) else { return Ok(None) };
                let Some(added) = self.codec.quantize(b, window)? else { return Ok(None) };
                let mut out = Vec::new();
                for ((into, at, _), part) in parts.into_iter().zip(added.to_vec()) {
                    out.extend(self.write(b, into, part, at, zero));
                }
                let all = self.floats(b, &out)?;
                out.extend([window, group]);
                Ok(all.map(|all| (out, all)))
            }
            _ => Ok(None),
        }
    }

    fn floats(&self, b: &mut Builder<'_>, parts: &[ValueId]) -> Result<Option<ValueId>, PassError> {
        match parts.get(..self.codec.parts()) {
            Some(&[codes, scales, ref lows @ ..]) => self.codec.dequantize(b, Stored { codes, scales, lows: lows.first().copied() }),
            _ => Ok(None),
        }
    }
}

/// Makes the last operation define `wanted` in place of its own result.
fn define(ops: &mut [Op], wanted: ValueId) {
    if let Some(op) = ops.last_mut() {
        op.results = vec![wanted];
    }
}

/// The literal that fills `v`, if operations in front say so.
fn splat(ops: &[Op], v: ValueId) -> Option<&Literal> {
    let op = ops.iter().rev().find(|op| op.results.contains(&v))?;
    match &op.kind {
        OpKind::Constant(literal) => Some(literal).filter(|l| l.is_splat()),
        OpKind::BroadcastInDim { .. } => splat(ops, *op.operands.first()?),
        _ => None,
    }
}

fn rebuild(func: &mut Func, op: Op, caches: &[Cache], out: &mut Vec<Op>) -> Result<(), PassError> {
    let saved = op.clone();
    match rebuilt(func, op, caches, out)? {
        Some(ops) => out.extend(ops),
        None => out.push(saved),
    }
    Ok(())
}

/// The loop with its caches compressed, between what rounds them before and what makes them floats behind.
fn rebuilt(func: &mut Func, mut op: Op, caches: &[Cache], before: &[Op]) -> Result<Option<Vec<Op>>, PassError> {
    let loc = op.loc;
    let mut start = Builder::new(func);
    start.loc = loc;
    let mut initial = BTreeMap::new();
    for cache in caches {
        let Some(&value) = op.operands.get(cache.at) else { return Ok(None) };
        let Some(parts) = cache.begin(&mut start, value, splat(before, value))? else { return Ok(None) };
        initial.insert(cache.at, parts);
    }
    let mut ops = start.ops;
    let types: BTreeMap<usize, Vec<_>> =
        initial.iter().map(|(at, parts)| (*at, parts.iter().map(|v| func.ty(*v).clone()).collect())).collect();
    let mut fresh = |at: &usize| -> Option<Vec<ValueId>> { types.get(at).map(|ts| ts.iter().map(|t| func.new_value(t.clone())).collect()) };
    // For the arguments of both regions and the results of the loop: new values in place of each cache.
    let mut places = Vec::new();
    for _ in 0..3 {
        let new: Option<BTreeMap<usize, Vec<ValueId>>> = caches.iter().map(|c| Some((c.at, fresh(&c.at)?))).collect();
        places.extend(new);
    }
    let [condition, body, results] = places.as_slice() else { return Ok(None) };
    let spread = |values: &[ValueId], new: &BTreeMap<usize, Vec<ValueId>>| -> Vec<ValueId> {
        values.iter().enumerate().flat_map(|(at, v)| new.get(&at).cloned().unwrap_or_else(|| vec![*v])).collect()
    };
    let mut carried = BTreeMap::new();
    let [condition_region, body_region] = op.regions.as_mut_slice() else { return Ok(None) };
    let mut steps = Vec::with_capacity(body_region.ops.len());
    for (at, inner) in std::mem::take(&mut body_region.ops).into_iter().enumerate() {
        let Some(cache) = caches.iter().find(|c| c.update_at == at) else {
            steps.push(inner);
            continue;
        };
        let mut b = Builder::new(func);
        b.loc = inner.loc;
        let arguments = body.get(&cache.at).map(Vec::as_slice).unwrap_or_default();
        let Some((next, _)) = cache.step(&mut b, arguments)? else { return Ok(None) };
        define(&mut b.ops, inner.result());
        steps.append(&mut b.ops);
        carried.insert(cache.at, next);
    }
    body_region.ops = steps;
    body_region.args = spread(&body_region.args, body);
    body_region.results = spread(&body_region.results, &carried);
    condition_region.args = spread(&condition_region.args, condition);
    op.operands = spread(&op.operands, &initial);
    let outer = op.results.clone();
    op.results = spread(&op.results, results);
    ops.push(op);
    for cache in caches {
        let (Some(parts), Some(&wanted)) = (results.get(&cache.at), outer.get(cache.at)) else { return Ok(None) };
        let mut b = Builder::new(func);
        b.loc = loc;
        cache.floats(&mut b, parts)?;
        define(&mut b.ops, wanted);
        ops.append(&mut b.ops);
    }
    Ok(Some(ops))
}
