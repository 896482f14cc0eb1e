//! The right operand of a product, as depth-major panels.

use super::{
    super::site::Site,
    Writer,
    problem::{Problem, Tiling},
};
use crate::{
    elemental::{Affine, Elemental},
    error::Result,
    ll::{Scalar, Val},
};

/// How panels come about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Right {
    /// A weight that was packed when compiling.
    Packed {
        /// Parameter of the packed weight.
        param: usize,
    },
    /// Codes that were packed when compiling (see [`super::super::pack`]); each block is dequantized into scratch.
    Codes {
        /// Parameter of the packed codes.
        param: usize,
        /// Bits a stored code: 4 or 8.
        bits: i64,
        /// Rows that share a scale.
        group: i64,
    },
    /// Copied to scratch, whole depth at once.
    Copied,
}

/// Parts of a packed panel.
pub(super) struct Panel {
    /// Panel elements, or codes.
    base: Val,
    /// Scales then zeros of the panel, when it has codes.
    scales: Option<Val>,
}

impl Right {
    pub(super) fn choose(site: &Site<'_>, problem: &Problem<'_>) -> Self {
        match (site.packed, &problem.quantized) {
            (Some(param), Some(q)) => {
                let bits = if q.bits <= 4 { 4 } else { 8 };
                Right::Codes { param, bits, group: (q.group_size as i64).clamp(1, problem.k) }
            }
            (Some(param), None) => Right::Packed { param },
            (None, _) => Right::Copied,
        }
    }

    /// Elements of scratch memory.
    pub(super) fn scratch_elements(&self, p: &Problem<'_>, t: &Tiling) -> i64 {
        match self {
            Right::Packed { .. } => 0,
            Right::Codes { .. } => t.block_depth * t.columns,
            Right::Copied => p.k * t.columns,
        }
    }

    /// What is done once a panel.
    pub(super) fn prepare<'a>(&self, w: &Writer<'_, 'a>, e: &mut Elemental<'a>, batch: &Affine, panel: &Affine) -> Result<Panel> {
        let (p, t) = (w.problem, w.tiling);
        match *self {
            Right::Packed { param } => {
                let number = batch.times(t.panels(p)).plus(panel).times(p.k * t.columns);
                let offset = e.atoms.emit(&mut e.code, &number);
                Ok(Panel { base: e.code.gep(w.element_type(), &w.site.pointer(param), &offset), scales: None })
            }
            Right::Codes { param, bits, group } => {
                let layout = super::super::pack::CodeLayout::new(p.k, t.columns, bits, group);
                let offset = e.atoms.emit(&mut e.code, &panel.times(layout.panel_bytes));
                let base = e.code.gep(Scalar::I8, &w.site.pointer(param), &offset);
                let scales = e.code.gep(Scalar::I8, &base, &Val::i64(layout.scales_at));
                Ok(Panel { base, scales: Some(scales) })
            }
            Right::Copied => self.copy(w, e, batch, panel),
        }
    }

    /// The panel's part for `length` of the depth from `depth` on.
    pub(super) fn block<'a>(
        &self,
        w: &Writer<'_, 'a>,
        e: &mut Elemental<'a>,
        whole: &Panel,
        _: &Affine,
        depth: i64,
        length: i64,
    ) -> Result<Val> {
        match (*self, &whole.scales) {
            (Right::Codes { bits, group, .. }, Some(scales)) => Ok(dequantize(w, e, &whole.base, scales, [bits, group, depth, length])),
            _ => Ok(e.code.gep(w.element_type(), &whole.base, &Val::i64(depth * w.tiling.columns))),
        }
    }

    fn copy<'a>(&self, w: &Writer<'_, 'a>, e: &mut Elemental<'a>, batch: &Affine, panel: &Affine) -> Result<Panel> {
        let (p, t) = (w.problem, w.tiling);
        let base = w.scratch_at(e, w.scratch.right);
        let row = e.atoms.variable(Val::i64(0), p.n, None);
        let depth = e.atoms.variable(Val::i64(0), p.k, None);
        let probe = p.right_index(e, &Affine::default(), &row, &depth).to_linear(&p.rhs_sizes);
        let contiguous_depth = depth.as_atom().and_then(|a| probe.stride_of(a, &e.atoms)) == Some(1);
        // The inner loop runs where reading is contiguous.
        let ragged = t.ragged_columns(p) > 0;
        let (first, second) = if contiguous_depth { (t.columns, p.k) } else { (p.k, t.columns) };
        let (outer, a) = e.begin_range(first, None);
        let (inner, b) = e.begin_range(second, None);
        let (k, j) = if contiguous_depth { (b, a) } else { (a, b) };
        let mut column = panel.times(t.columns).plus(&j);
        if ragged {
            // Columns behind the last one repeat it; their sums are not used.
            let number = e.atoms.emit(&mut e.code, &column);
            let last = e.code.overloaded("smin", &[&number, &Val::i64(p.n - 1)]);
            column = e.atoms.value(last, p.n);
        }
        let at = p.right_index(e, batch, &column, &k);
        let x = match &p.quantized {
            Some(q) => e.dequantized(p.anchor, q, p.rhs, &k, &column, p.sum)?,
            None => p.converted(e, p.rhs, &at)?,
        };
        e.store(p.sum, &x, &base, &k.times(t.columns).plus(&j))?;
        e.end_loop(inner);
        e.end_loop(outer);
        Ok(Panel { base, scales: None })
    }
}

/// Writes `(code − zero) · scale` of a block into scratch. Groups are walked one by one, so that scales stay in registers.
fn dequantize<'a>(w: &Writer<'_, 'a>, e: &mut Elemental<'a>, codes: &Val, scales: &Val, [bits, group, depth, length]: [i64; 4]) -> Val {
    let t = w.tiling;
    let out = w.scratch_at(e, w.scratch.right);
    let name = format!("icd.dequantize.{bits}.{}x{}", t.columns, t.lanes);
    let mut done = 0;
    while done < length {
        let row = depth + done;
        let count = (group - row % group).min(length - done);
        let bytes = t.columns * bits / 8;
        let source = e.code.gep(Scalar::I8, codes, &Val::i64(row * bytes));
        let scale = e.code.gep(Scalar::F32, scales, &Val::i64(row / group * 2 * t.columns));
        let target = e.code.gep(Scalar::F32, &out, &Val::i64(done * t.columns));
        e.code.subroutine(&name, &[&source, &scale, &target, &Val::i64(count)], |code, p| {
            let vector = Scalar::F32.by(t.lanes);
            let lanes = i64::from(t.lanes);
            let mut factors = Vec::new();
            for v in 0..t.vectors {
                let place = code.gep(Scalar::F32, &p[1], &Val::i64(v * lanes));
                let scale = code.load(vector, &place, 4);
                let place = code.gep(Scalar::F32, &p[1], &Val::i64(t.columns + v * lanes));
                factors.push((scale, code.load(vector, &place, 4)));
            }
            let l = code.begin_loop(&Val::i64(0), &p[3], &Val::i64(1));
            let offset = code.bin("mul nsw", &l.iv, &Val::i64(bytes));
            let from = code.gep(Scalar::I8, &p[0], &offset);
            let offset = code.bin("mul nsw", &l.iv, &Val::i64(t.columns));
            let to = code.gep(Scalar::F32, &p[2], &offset);
            let small = Scalar::I8.by(t.lanes);
            for v in 0..t.vectors {
                // Two vectors share bytes when codes have 4 bits: low halves first.
                let part = if bits == 4 { v / 2 } else { v };
                let place = code.gep(Scalar::I8, &from, &Val::i64(part * lanes));
                let raw = code.load(small, &place, 1);
                let raw = match (bits, v % 2) {
                    (4, 0) => code.bin("and", &raw, &Val::int(small, 15)),
                    (4, _) => code.bin("lshr", &raw, &Val::int(small, 4)),
                    _ => raw,
                };
                let wide = code.cast("zext", &raw, Scalar::I32);
                let number = code.value(vector, format_args!("sitofp {} to {vector}", wide.typed()));
                let (scale, zero) = &factors[v as usize];
                let centred = code.bin("fsub", &number, zero);
                let weight = code.bin("fmul", &centred, scale);
                let place = code.gep(Scalar::F32, &to, &Val::i64(v * lanes));
                code.store(&weight, &place, 4);
            }
            code.end_loop(l);
        });
        done += count;
    }
    out
}
