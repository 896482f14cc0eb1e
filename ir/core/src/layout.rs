//! Layouts as linear maps over F2: which logical element a hardware place holds.
//!
//! # A worked example
//!
//! Take a 4×4 matrix held by 4 lanes with 4 registers each. Lane bits `l0 l1`, register bits `r0 r1`, row bits `i0 i1`, column bits `j0 j1`.
//! A layout says for every *input bit* which *output bits* flip when it flips. Let each lane hold one row, its registers the columns, and let
//! row 2 and 3 be stored with their halves exchanged (a swizzle):
//!
//! | input bit | row | col | meaning |
//! |---|---|---|---|
//! | reg 0 | 0 | 1 | next register, next column |
//! | reg 1 | 0 | 2 | two registers on, two columns on |
//! | lane 0 | 1 | 0 | next lane, next row |
//! | lane 1 | 2 | 2 | two lanes on: two rows down, and the column's bit 1 flips |
//!
//! The place (lane 3, reg 1) holds the XOR of the rows of its set bits: row `1 ^ 2 = 3`, column `1 ^ 0 ^ 2 = 3`. The whole table:
//!
//! | | reg 0 | reg 1 | reg 2 | reg 3 |
//! |---|---|---|---|---|
//! | lane 0 | (0,0) | (0,1) | (0,2) | (0,3) |
//! | lane 1 | (1,0) | (1,1) | (1,2) | (1,3) |
//! | lane 2 | (2,2) | (2,3) | (2,0) | (2,1) |
//! | lane 3 | (3,2) | (3,3) | (3,0) | (3,1) |
//!
//! Maps compose ([`Layout::then`]), are put side by side ([`Layout::product`]) and inverted ([`Layout::inverse`]) by algebra on bits, so a
//! conversion between two layouts is `source.then(&target.inverse()?)`, and whether every element is held (surjective) or held once
//! (injective) is a rank. The idea of linear layouts over F2: arXiv:2505.23819.
//!
//! The direction is always *place → element*, because one element may be held in several places (a broadcast), never the reverse.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

mod banks;
mod fragments;

pub use banks::{BankReport, bank_conflicts};
pub use fragments::*;

/// A named dimension of `2^bits` values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dim {
    /// Name, unique within its side of a layout: `lane`, `reg`, `m`, `k`.
    pub name: String,
    /// Binary logarithm of the size.
    pub bits: u32,
}

/// Why a layout could not be made or combined. All are errors of the caller.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// More than 64 bits on one side.
    #[error("layout side '{side}' has {bits} bits, at most 64 are supported: split the layout")]
    TooWide {
        /// `in` or `out`.
        side: &'static str,
        /// Bits asked for.
        bits: u32,
    },
    /// A dimension name occurs twice on one side.
    #[error("dimension '{0}' occurs twice on one side of the layout")]
    Duplicate(String),
    /// A basis vector names bits outside its output dimension.
    #[error("basis of '{input}' bit {bit} reaches value {value} in '{output}', which has only {bits} bits")]
    OutOfRange {
        /// Input dimension.
        input: String,
        /// Its bit.
        bit: u32,
        /// Output dimension.
        output: String,
        /// The value.
        value: u64,
        /// Bits of the output dimension.
        bits: u32,
    },
    /// Wrong number of basis vectors or values.
    #[error("bases of '{input}': expected {expected} entries, found {found}")]
    Shape {
        /// Input dimension.
        input: String,
        /// How many there should be.
        expected: usize,
        /// How many there are.
        found: usize,
    },
    /// Composition of maps whose dimensions differ.
    #[error("cannot compose: the first layout yields {left}, the second takes {right}")]
    Mismatch {
        /// Output dimensions of the first.
        left: String,
        /// Input dimensions of the second.
        right: String,
    },
    /// Inverse of a map that is not a bijection.
    #[error("layout is not invertible: {in_bits} input bits, {out_bits} output bits, rank {rank}")]
    Singular {
        /// Input bits.
        in_bits: u32,
        /// Output bits.
        out_bits: u32,
        /// Rank of the map.
        rank: u32,
    },
    /// A dimension that the layout has not got.
    #[error("layout has no dimension '{0}'")]
    Unknown(String),
}

/// A linear map over F2 from places (named input dimensions) to elements (named output dimensions). See the module's worked example.
///
/// Equality is of dimensions in order and of every basis vector.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "LayoutJson", into = "LayoutJson")]
pub struct Layout {
    ins: Vec<Dim>,
    outs: Vec<Dim>,
    /// One packed output vector per input bit; outputs are packed first dimension lowest.
    columns: Vec<u64>,
}

/// JSON form: dimensions with their bits in order, and for each input bit the value that it contributes to each output dimension.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LayoutJson {
    r#in: Vec<(String, u32)>,
    out: Vec<(String, u32)>,
    bases: BTreeMap<String, Vec<Vec<u64>>>,
}

impl TryFrom<LayoutJson> for Layout {
    type Error = LayoutError;
    fn try_from(json: LayoutJson) -> Result<Self, LayoutError> {
        let ins: Vec<Dim> = json.r#in.into_iter().map(|(name, bits)| Dim { name, bits }).collect();
        let bases: Vec<Vec<Vec<u64>>> = ins.iter().map(|d| json.bases.get(&d.name).cloned().unwrap_or_default()).collect();
        Layout::new(ins, json.out.into_iter().map(|(name, bits)| Dim { name, bits }).collect(), &bases)
    }
}

impl From<Layout> for LayoutJson {
    fn from(layout: Layout) -> Self {
        let mut bit = 0;
        let bases = layout
            .ins
            .iter()
            .map(|d| {
                let rows = (0..d.bits).map(|b| layout.unpack(layout.columns[bit + b as usize])).collect();
                bit += d.bits as usize;
                (d.name.clone(), rows)
            })
            .collect();
        let names = |dims: &[Dim]| dims.iter().map(|d| (d.name.clone(), d.bits)).collect();
        LayoutJson { r#in: names(&layout.ins), out: names(&layout.outs), bases }
    }
}

fn total_bits(dims: &[Dim], side: &'static str) -> Result<u32, LayoutError> {
    let bits = dims.iter().fold(0u32, |n, d| n.saturating_add(d.bits));
    for (i, d) in dims.iter().enumerate() {
        if dims[..i].iter().any(|e| e.name == d.name) {
            return Err(LayoutError::Duplicate(d.name.clone()));
        }
    }
    if bits > 64 { Err(LayoutError::TooWide { side, bits }) } else { Ok(bits) }
}

fn mask(bits: u32) -> u64 {
    if bits >= 64 { u64::MAX } else { (1 << bits) - 1 }
}

fn names(dims: &[Dim]) -> String {
    dims.iter().map(|d| format!("{}:{}", d.name, d.bits)).collect::<Vec<_>>().join(" ")
}

impl Layout {
    /// A layout from its bases: `bases[i][b][o]` is what bit `b` of input dimension `i` contributes to output dimension `o`.
    ///
    /// # Errors
    /// Sides over 64 bits, repeated names, wrong counts, values outside their dimension.
    pub fn new(ins: Vec<Dim>, outs: Vec<Dim>, bases: &[Vec<Vec<u64>>]) -> Result<Self, LayoutError> {
        total_bits(&ins, "in")?;
        total_bits(&outs, "out")?;
        let mut columns = Vec::new();
        for (i, dim) in ins.iter().enumerate() {
            let rows = bases.get(i).map(Vec::as_slice).unwrap_or_default();
            if rows.len() != dim.bits as usize {
                return Err(LayoutError::Shape { input: dim.name.clone(), expected: dim.bits as usize, found: rows.len() });
            }
            for (b, row) in rows.iter().enumerate() {
                if row.len() != outs.len() {
                    return Err(LayoutError::Shape { input: dim.name.clone(), expected: outs.len(), found: row.len() });
                }
                let (mut packed, mut shift) = (0, 0);
                for (out, &value) in outs.iter().zip(row) {
                    if value & !mask(out.bits) != 0 {
                        let (input, output) = (dim.name.clone(), out.name.clone());
                        return Err(LayoutError::OutOfRange { input, bit: b as u32, output, value, bits: out.bits });
                    }
                    packed |= if out.bits == 0 { 0 } else { value << shift };
                    shift += out.bits;
                }
                columns.push(packed);
            }
        }
        Ok(Self { ins, outs, columns })
    }

    /// A layout from a compact notation: for each input dimension its name and, for each bit from the lowest, the contribution to each output.
    ///
    /// # Errors
    /// As [`Layout::new`].
    pub fn from_bases(ins: &[(&str, &[&[u64]])], outs: &[(&str, u32)]) -> Result<Self, LayoutError> {
        let dims = ins.iter().map(|(n, rows)| Dim { name: (*n).into(), bits: rows.len() as u32 }).collect();
        let bases: Vec<Vec<Vec<u64>>> = ins.iter().map(|(_, rows)| rows.iter().map(|r| r.to_vec()).collect()).collect();
        Self::new(dims, outs.iter().map(|(n, b)| Dim { name: (*n).into(), bits: *b }).collect(), &bases)
    }

    /// The map that copies one input dimension to one output dimension of the same size.
    ///
    /// # Errors
    /// More than 64 bits.
    pub fn identity(input: &str, output: &str, bits: u32) -> Result<Self, LayoutError> {
        let rows = (0..bits.min(64)).map(|b| vec![1u64 << b]).collect();
        Self::new(vec![Dim { name: input.into(), bits }], vec![Dim { name: output.into(), bits }], &[rows])
    }

    /// The map of one input dimension to zero of an output dimension: `2^bits` places that hold the same element.
    ///
    /// # Errors
    /// More than 64 bits.
    pub fn broadcast(input: &str, bits: u32, output: &str, out_bits: u32) -> Result<Self, LayoutError> {
        let rows = (0..bits.min(64)).map(|_| vec![0]).collect();
        Self::new(vec![Dim { name: input.into(), bits }], vec![Dim { name: output.into(), bits: out_bits }], &[rows])
    }

    /// Input dimensions, in order.
    pub fn ins(&self) -> &[Dim] {
        &self.ins
    }
    /// Output dimensions, in order.
    pub fn outs(&self) -> &[Dim] {
        &self.outs
    }
    /// Sum of the input bits.
    pub fn in_bits(&self) -> u32 {
        self.columns.len() as u32
    }
    /// Sum of the output bits.
    pub fn out_bits(&self) -> u32 {
        self.outs.iter().map(|d| d.bits).sum()
    }

    fn unpack(&self, packed: u64) -> Vec<u64> {
        let mut shift = 0;
        self.outs
            .iter()
            .map(|d| {
                let v = if d.bits == 0 { 0 } else { (packed >> shift) & mask(d.bits) };
                shift += d.bits;
                v
            })
            .collect()
    }

    /// The element at a place: one value an input dimension, in order; excess high bits of a value are ignored. Missing values are zero.
    pub fn apply(&self, place: &[u64]) -> Vec<u64> {
        let (mut flat, mut shift) = (0, 0);
        for (d, &v) in self.ins.iter().zip(place) {
            flat |= if d.bits == 0 { 0 } else { (v & mask(d.bits)) << shift };
            shift += d.bits;
        }
        self.unpack(self.apply_flat(flat))
    }

    /// The element at a place, both packed first dimension lowest.
    pub fn apply_flat(&self, place: u64) -> u64 {
        self.columns.iter().enumerate().filter(|(b, _)| place >> b & 1 == 1).fold(0, |acc, (_, c)| acc ^ c)
    }

    /// This map, then `next`. The output dimensions of `self` must be the input dimensions of `next`, in order.
    ///
    /// # Errors
    /// [`LayoutError::Mismatch`].
    pub fn then(&self, next: &Layout) -> Result<Layout, LayoutError> {
        if self.outs != next.ins {
            return Err(LayoutError::Mismatch { left: names(&self.outs), right: names(&next.ins) });
        }
        let columns = self.columns.iter().map(|&c| next.apply_flat(c)).collect();
        Ok(Layout { ins: self.ins.clone(), outs: next.outs.clone(), columns })
    }

    /// Both maps at once. A dimension that both name is one dimension: bits of `self` low, bits of `other` high.
    ///
    /// # Errors
    /// A side that grows over 64 bits.
    pub fn product(&self, other: &Layout) -> Result<Layout, LayoutError> {
        let merge = |a: &[Dim], b: &[Dim]| {
            let mut dims: Vec<Dim> = a.to_vec();
            for d in b {
                match dims.iter_mut().find(|e| e.name == d.name) {
                    Some(e) => e.bits += d.bits,
                    None => dims.push(d.clone()),
                }
            }
            dims
        };
        let (ins, outs) = (merge(&self.ins, &other.ins), merge(&self.outs, &other.outs));
        total_bits(&ins, "in")?;
        total_bits(&outs, "out")?;
        let mut bases = vec![Vec::new(); ins.len()];
        for (layout, is_high) in [(self, false), (other, true)] {
            let mut bit = 0;
            for d in &layout.ins {
                let at = ins.iter().position(|e| e.name == d.name).unwrap_or_default();
                for _ in 0..d.bits {
                    let values = layout.unpack(layout.columns[bit]);
                    bit += 1;
                    let row = outs.iter().map(|o| {
                        let low = if is_high { self.outs.iter().find(|e| e.name == o.name).map_or(0, |e| e.bits) } else { 0 };
                        layout.outs.iter().position(|e| e.name == o.name).map_or(0, |p| values[p] << low)
                    });
                    bases[at].push(row.collect());
                }
            }
        }
        Layout::new(ins, outs, &bases)
    }

    /// The same map with input and output dimensions listed in the given order.
    ///
    /// # Errors
    /// A name that the side has not got, or a list of another length.
    pub fn reorder(&self, ins: &[&str], outs: &[&str]) -> Result<Layout, LayoutError> {
        let pick = |dims: &[Dim], order: &[&str]| -> Result<Vec<usize>, LayoutError> {
            if order.len() != dims.len() {
                return Err(LayoutError::Shape { input: names(dims), expected: dims.len(), found: order.len() });
            }
            order.iter().map(|n| dims.iter().position(|d| d.name == *n).ok_or_else(|| LayoutError::Unknown((*n).into()))).collect()
        };
        let (ip, op) = (pick(&self.ins, ins)?, pick(&self.outs, outs)?);
        let starts: Vec<u32> = self.ins.iter().scan(0, |s, d| Some(std::mem::replace(s, *s + d.bits))).collect();
        let bases: Vec<Vec<Vec<u64>>> = ip
            .iter()
            .map(|&i| {
                let rows = 0..self.ins[i].bits;
                rows.map(|b| {
                    let values = self.unpack(self.columns[(starts[i] + b) as usize]);
                    op.iter().map(|&o| values[o]).collect()
                })
                .collect()
            })
            .collect();
        Layout::new(ip.iter().map(|&i| self.ins[i].clone()).collect(), op.iter().map(|&o| self.outs[o].clone()).collect(), &bases)
    }

    /// Rank of the map: `2^rank` different elements are held.
    pub fn rank(&self) -> u32 {
        let mut basis: Vec<u64> = Vec::new();
        for &c in &self.columns {
            let reduced = basis.iter().fold(c, |v, &b| v.min(v ^ b));
            if reduced != 0 {
                basis.push(reduced);
                basis.sort_unstable_by(|a, b| b.cmp(a));
            }
        }
        basis.len() as u32
    }

    /// No element is held twice.
    pub fn is_injective(&self) -> bool {
        self.rank() == self.in_bits()
    }
    /// Every element is held.
    pub fn is_surjective(&self) -> bool {
        self.rank() == self.out_bits()
    }
    /// Every element is held exactly once.
    pub fn is_bijective(&self) -> bool {
        self.is_injective() && self.is_surjective()
    }

    /// The map from elements to places.
    ///
    /// # Errors
    /// [`LayoutError::Singular`] unless bijective.
    pub fn inverse(&self) -> Result<Layout, LayoutError> {
        let (n, rank) = (self.columns.len(), self.rank());
        if self.in_bits() != self.out_bits() || rank != self.in_bits() {
            return Err(LayoutError::Singular { in_bits: self.in_bits(), out_bits: self.out_bits(), rank });
        }
        let mut pairs: Vec<(u64, u64)> = self.columns.iter().enumerate().map(|(i, &c)| (c, 1u64 << i)).collect();
        for bit in 0..n {
            if let Some(at) = (bit..n).find(|&r| pairs[r].0 >> bit & 1 == 1) {
                pairs.swap(bit, at);
            }
            let (pc, ps) = pairs[bit];
            for (r, pair) in pairs.iter_mut().enumerate() {
                if r != bit && pair.0 >> bit & 1 == 1 {
                    *pair = (pair.0 ^ pc, pair.1 ^ ps);
                }
            }
        }
        Ok(Layout { ins: self.outs.clone(), outs: self.ins.clone(), columns: pairs.into_iter().map(|p| p.1).collect() })
    }
}

#[cfg(test)]
mod tests;
