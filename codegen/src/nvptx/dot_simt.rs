//! `dot_general` of any dimension numbers and element type on the CUDA cores, accumulated in f32 (f64, or the result's integer type).
//!
//! A block owns a tile of `rows × 64` results of one batch index; 16 contracted elements of both operands at a time go through shared memory,
//! the next 16 on their way in registers meanwhile. Each thread owns 4 × 4 results. Operands are strided views; what follows
//! the product in a fused region is computed on the accumulators.
//!
//! ```text
//! A tile [16 k][rows + 4]   B tile [16 k][64 + 4]   thread (y, x): rows 4y..4y+4, columns 4x..4x+4
//! ```

use super::{
    kernel::{Body, Kernel, Launch, MAX_GRID_YZ, int},
    loops::unflatten,
    view::View,
};
use crate::{
    elemental::{Affine, Binding, Index, load_element, register_type},
    error::{CodegenError, Result},
    ll::{Scalar, Val},
};
use icd_core::{
    DType,
    arch::Arch,
    graph::{Dot, ValueId},
};

/// Columns of a tile.
const COLS: i64 = 64;
/// Rows of a tile when there are many, and when there are few.
const ROWS: [i64; 2] = [64, 16];
/// Contracted elements of a step.
const DEPTH: i64 = 16;
/// Results of a thread along each side.
const MICRO: i64 = 4;
/// Unused elements at the end of a line of a tile, against bank conflicts; keeps 16-byte alignment.
const PAD: i64 = 4;

/// A product of two views.
pub(crate) struct Product {
    /// Left operand, and the parameter that it lies in.
    pub lhs: (View, usize),
    /// Right operand.
    pub rhs: (View, usize),
    /// Dimension numbers.
    pub dot: Dot,
    /// The product's value in the region, of row-major type `[batch…, rows…, columns…]`.
    pub anchor: ValueId,
    /// Value to store for each element of the product, of the same shape.
    pub value: ValueId,
    /// Where the result lies, as a view whose dimensions are the product's.
    pub out: View,
}

/// Sizes and strides of dimensions that are walked together.
#[derive(Clone, Default, Debug)]
struct Group {
    sizes: Vec<i64>,
    strides: Vec<[i64; 2]>,
}

impl Group {
    /// Adds an inner dimension; merges it with the one before where both strides allow.
    fn push(&mut self, size: i64, strides: [i64; 2]) {
        if size == 1 {
            return;
        }
        match (self.sizes.last_mut(), self.strides.last_mut()) {
            (Some(s), Some(t)) if (0..2).all(|i| t[i] == strides[i] * size) => {
                *s *= size;
                *t = strides;
            }
            _ => {
                self.sizes.push(size);
                self.strides.push(strides);
            }
        }
    }
    fn len(&self) -> i64 {
        self.sizes.iter().product()
    }
    /// Offset of a flat index along stride set `which`.
    fn offset(&self, k: &mut Kernel, flat: &Val, which: usize) -> Val {
        let parts = unflatten(k, flat, &self.sizes);
        let mut sum = Val::i64(0);
        for (part, strides) in parts.iter().zip(&self.strides).filter(|(_, s)| s[which] != 0) {
            let wide = k.code.cast("zext", part, Scalar::I64);
            let term = k.code.bin("mul nsw", &wide, &Val::i64(strides[which]));
            sum = k.code.bin("add nsw", &sum, &term);
        }
        sum
    }
}

struct Groups {
    batch: Group,
    batch_out: Group,
    rows: Group,
    cols: Group,
    depth: Group,
}

fn mismatch(why: &str) -> CodegenError {
    CodegenError::Mismatch { why: why.into() }
}

impl Product {
    fn groups(&self) -> Result<Groups> {
        let (l, r, o) = (&self.lhs.0, &self.rhs.0, &self.out);
        let d = &self.dot.dims;
        let at = |v: &View, i: usize| Some((*v.dims.get(i)?, *v.strides.get(i)?));
        let bad = || mismatch("dimension numbers beyond the operands' rank");
        let mut g = Groups {
            batch: Group::default(),
            batch_out: Group::default(),
            rows: Group::default(),
            cols: Group::default(),
            depth: Group::default(),
        };
        let mut out = o.strides.iter().copied();
        for (&i, &j) in d.lhs_batch.iter().zip(&d.rhs_batch) {
            let ((size, a), (_, b)) = at(l, i).zip(at(r, j)).ok_or_else(bad)?;
            g.batch.push(size, [a, b]);
            g.batch_out.push(size, [out.next().ok_or_else(bad)?, 0]);
        }
        for i in (0..l.dims.len()).filter(|i| !d.lhs_batch.contains(i) && !d.lhs_contract.contains(i)) {
            let (size, a) = at(l, i).ok_or_else(bad)?;
            g.rows.push(size, [a, out.next().ok_or_else(bad)?]);
        }
        for i in (0..r.dims.len()).filter(|i| !d.rhs_batch.contains(i) && !d.rhs_contract.contains(i)) {
            let (size, b) = at(r, i).ok_or_else(bad)?;
            g.cols.push(size, [b, out.next().ok_or_else(bad)?]);
        }
        for (&i, &j) in d.lhs_contract.iter().zip(&d.rhs_contract) {
            let ((size, a), (_, b)) = at(l, i).zip(at(r, j)).ok_or_else(bad)?;
            g.depth.push(size, [a, b]);
        }
        Ok(g)
    }
}

/// Register type of the accumulator.
fn accumulator(anchor: DType) -> Option<Scalar> {
    match register_type(anchor)? {
        Scalar::I1 => None,
        Scalar::I8 | Scalar::I16 => Some(Scalar::I32),
        other => Some(other),
    }
}

/// Writes the kernel. `body.result` is not used: [`Product::value`] is stored through [`Product::out`].
///
/// # Errors
/// [`CodegenError::Mismatch`] when the epilogue reads the product elsewhere than at the element itself, or the types are not multiplied here.
pub(crate) fn emit(arch: Arch, body: &Body, p: &Product) -> Result<Launch> {
    let g = p.groups()?;
    let anchor_type = body.func.tensor(p.anchor).ok_or_else(|| mismatch("the product is no tensor"))?;
    let acc = accumulator(anchor_type.dtype).ok_or_else(|| mismatch("products of this type"))?;
    let (m, n, depth, batch) = (g.rows.len(), g.cols.len(), g.depth.len(), g.batch.len());
    let rows = if m > ROWS[1] { ROWS[0] } else { ROWS[1] };
    let threads = (rows * COLS / (MICRO * MICRO)) as u32;
    let grid =
        [n.div_euclid(COLS) + i64::from(n % COLS != 0), m.div_euclid(rows) + i64::from(m % rows != 0), batch].map(|x| x.max(1) as u64);
    if grid[1] > MAX_GRID_YZ || grid[2] > MAX_GRID_YZ {
        return Err(mismatch("more blocks than a grid holds"));
    }

    let mut k = Kernel::new(arch, threads);
    let buffers: Vec<Val> = body.args.iter().map(|_| k.buffer(false)).collect();
    let out = k.buffer(false);
    let mut e = body.elemental(&buffers);
    let lines = [rows + PAD, COLS + PAD];
    let tiles = lines.map(|l| k.shared_array(acc, (DEPTH * l) as u32));
    let thread = k.thread();
    let (col_block, row_block, batch_index) = (k.block(grid[0]), k.block_y(grid[1]), k.block_z(grid[2]));
    k.wait();
    let first_row = k.code.bin("mul nuw nsw", &row_block, &int(rows));
    let first_col = k.code.bin("mul nuw nsw", &col_block, &int(COLS));
    let sides = [
        Side::new(&mut k, &g, p, 0, &batch_index, &first_row, rows, m, threads, &thread, &buffers)?,
        Side::new(&mut k, &g, p, 1, &batch_index, &first_col, COLS, n, threads, &thread, &buffers)?,
    ];
    let y = k.code.bin("udiv", &thread, &int(COLS / MICRO));
    let x = k.code.bin("urem", &thread, &int(COLS / MICRO));
    let corner = [&y, &x].map(|v| k.code.bin("mul nuw nsw", v, &int(MICRO)));
    let sums: Vec<Val> = (0..MICRO * MICRO)
        .map(|_| {
            let slot = k.code.alloca(acc);
            k.code.set(&slot, &Val::number(acc, 0.0));
            slot
        })
        .collect();

    let ahead: Vec<Vec<Val>> = sides.iter().map(|s| (0..s.each).map(|_| k.code.alloca(acc)).collect()).collect();
    for (side, slots) in sides.iter().zip(&ahead) {
        side.fetch(&mut k, &g.depth, &int(0), depth, acc, slots)?;
    }
    let l = k.code.begin_loop(&int(0), &int(depth), &int(DEPTH));
    for ((side, slots), (tile, line)) in sides.iter().zip(&ahead).zip(tiles.iter().zip(lines)) {
        side.put(&mut k, acc, slots, tile, line);
    }
    k.barrier();
    let next = k.code.bin("add nuw nsw", &l.iv, &int(DEPTH));
    for (side, slots) in sides.iter().zip(&ahead) {
        side.fetch(&mut k, &g.depth, &next, depth, acc, slots)?;
    }
    for step in 0..DEPTH {
        let read = |k: &mut Kernel, side: usize| -> Vec<Val> {
            let at = k.code.bin("add nuw nsw", &corner[side], &int(step * lines[side]));
            let from = k.code.gep(acc, &tiles[side], &at);
            let vector = k.code.load(acc.by(MICRO as u32), &from, 16.min(MICRO as usize * acc.bits() as usize / 8));
            (0..MICRO).map(|i| k.code.value(acc, format_args!("extractelement {}, i32 {i}", vector.typed()))).collect()
        };
        let (a, b) = (read(&mut k, 0), read(&mut k, 1));
        for (i, slot) in sums.iter().enumerate() {
            let (a, b) = (&a[i / MICRO as usize], &b[i % MICRO as usize]);
            let old = k.code.get(acc, slot);
            let new = if acc.is_float() {
                k.code.fma(a, b, &old)
            } else {
                let product = k.code.bin("mul", a, b);
                k.code.bin("add", &old, &product)
            };
            k.code.set(slot, &new);
        }
    }
    k.barrier();
    k.code.end_loop(l);
    store(&mut k, &mut e, p, &g, [m, n], [&first_row, &first_col], &corner, &batch_index, &sums, acc, &out)?;
    let source = k.finish(&format!("dot_{}_{}x{}x{}x{}", anchor_type.dtype, batch, m, n, depth));
    Ok(Launch { source, grid: grid.map(|g| g as u32), threads })
}

/// One operand's part in filling the tiles.
struct Side {
    which: usize,
    dtype: DType,
    /// First element of the batch index.
    base: Val,
    /// Number of elements that a thread loads a step.
    each: i64,
    /// For each of them: line (contracted index) and column in the tile.
    places: Vec<[Val; 2]>,
    /// For each of them: offset of its row or column, and whether it exists.
    free: Vec<(Val, Val)>,
}

impl Side {
    #[allow(clippy::too_many_arguments, reason = "two call sites side by side, and each is a different thing")]
    fn new(
        k: &mut Kernel,
        g: &Groups,
        p: &Product,
        which: usize,
        batch: &Val,
        first: &Val,
        width: i64,
        extent: i64,
        threads: u32,
        thread: &Val,
        buffers: &[Val],
    ) -> Result<Side> {
        let (view, param) = if which == 0 { &p.lhs } else { &p.rhs };
        let free_group = if which == 0 { &g.rows } else { &g.cols };
        let buffer = buffers.get(*param).ok_or_else(|| mismatch("an operand is not in a buffer"))?;
        let memory = crate::elemental::memory_type(view.dtype).ok_or_else(|| mismatch("operands of this type"))?;
        let offset = g.batch.offset(k, batch, which);
        let offset = k.code.bin("add nsw", &offset, &Val::i64(view.offset));
        let base = k.code.gep(memory, buffer, &offset);
        let along_depth = g.depth.strides.last().is_some_and(|s| s[which] == 1);
        let each = width * DEPTH / i64::from(threads);
        let (mut places, mut free) = (Vec::new(), Vec::new());
        for i in 0..each {
            let flat = k.code.bin("add nuw nsw", thread, &int(i * i64::from(threads)));
            let fast = if along_depth { DEPTH } else { width };
            let (q, r) = (k.code.bin("udiv", &flat, &int(fast)), k.code.bin("urem", &flat, &int(fast)));
            let (line, column) = if along_depth { (r, q) } else { (q, r) };
            let index = k.code.bin("add nuw nsw", first, &column);
            let real = k.code.icmp("ult", &index, &int(extent));
            let safe = k.code.overloaded("umin", &[&index, &int((extent - 1).max(0))]);
            free.push((free_group.offset(k, &safe, 0), real));
            places.push([line, column]);
        }
        Ok(Side { which, dtype: view.dtype, base, each, places, free })
    }

    /// Loads the elements of the step at `from` into `slots`; zeros beyond the end.
    fn fetch(&self, k: &mut Kernel, depth: &Group, from: &Val, extent: i64, acc: Scalar, slots: &[Val]) -> Result<()> {
        for (([line, _], (offset, real)), slot) in self.places.iter().zip(&self.free).zip(slots) {
            let at = k.code.bin("add nuw nsw", from, line);
            let inside = k.code.icmp("ult", &at, &int(extent));
            let inside = k.code.bin("and", &inside, real);
            k.code.set(slot, &Val::number(acc, 0.0));
            let branch = k.code.begin_if(&inside);
            let along = depth.offset(k, &at, self.which);
            let position = k.code.bin("add nsw", &along, offset);
            let raw = load_element(&mut k.code, self.dtype, &self.base, &position, self.dtype.bytes())?;
            let value = widen(k, self.dtype, &raw, acc);
            k.code.set(slot, &value);
            k.code.end_if(branch);
        }
        Ok(())
    }

    fn put(&self, k: &mut Kernel, acc: Scalar, slots: &[Val], tile: &Val, line: i64) {
        for ([l, column], slot) in self.places.iter().zip(slots) {
            let at = k.code.bin("mul nuw nsw", l, &int(line));
            let at = k.code.bin("add nuw nsw", &at, column);
            let to = k.code.gep(acc, tile, &at);
            let value = k.code.get(acc, slot);
            k.code.store(&value, &to, (acc.bits() / 8) as usize);
        }
    }
}

/// An operand's element as the accumulator's type.
fn widen(k: &mut Kernel, dtype: DType, raw: &Val, acc: Scalar) -> Val {
    use icd_core::dtype::Class;
    if raw.ty.scalar == acc {
        return raw.clone();
    }
    let opcode = match (raw.ty.scalar.is_float(), acc.is_float(), dtype.class() == Class::Signed) {
        (true, true, _) if raw.ty.scalar.bits() > acc.bits() => "fptrunc",
        (true, true, _) => "fpext",
        (false, true, true) => "sitofp",
        (false, true, false) => "uitofp",
        (true, false, _) => "fptosi",
        (false, false, _) if raw.ty.scalar.bits() > acc.bits() => "trunc",
        (false, false, true) => "sext",
        (false, false, false) => "zext",
    };
    k.code.cast(opcode, raw, acc)
}

#[allow(clippy::too_many_arguments, reason = "one call site, and each is a different thing")]
fn store<'a>(
    k: &mut Kernel,
    e: &mut crate::elemental::Elemental<'a>,
    p: &Product,
    g: &Groups,
    sizes: [i64; 2],
    first: [&Val; 2],
    corner: &[Val; 2],
    batch: &Val,
    sums: &[Val],
    acc: Scalar,
    out: &Val,
) -> Result<()> {
    let register = e.register(p.anchor)?;
    let batch_offset = g.batch_out.offset(k, batch, 0);
    let base = k.code.bin("add nsw", &batch_offset, &Val::i64(p.out.offset));
    let index: [Vec<Val>; 2] = std::array::from_fn(|side| {
        let start = k.code.bin("add nuw nsw", first[side], &corner[side]);
        (0..MICRO).map(|i| k.code.bin("add nuw nsw", &start, &int(i))).collect()
    });
    let flat_batch = e.atoms.variable(batch.clone(), g.batch.len(), None);
    for i in 0..MICRO as usize {
        for j in 0..MICRO as usize {
            let (row, col) = (&index[0][i], &index[1][j]);
            let row_inside = k.code.icmp("ult", row, &int(sizes[0]));
            let col_inside = k.code.icmp("ult", col, &int(sizes[1]));
            let inside = k.code.bin("and", &row_inside, &col_inside);
            let branch = k.code.begin_if(&inside);
            let row_offset = g.rows.offset(k, row, 1);
            let col_offset = g.cols.offset(k, col, 1);
            let raw = k.code.get(acc, &sums[i * MICRO as usize + j]);
            let value = if raw.ty.scalar == register { raw } else { k.code.cast("trunc", &raw, register) };
            e.open_scope();
            let at = place(e, &flat_batch, row, col, sizes);
            e.bind(p.anchor, Binding::Element { at: at.clone(), value });
            k.with(e, |e| {
                let result = e.element(p.value, &Index::linear(at))?;
                let position = e.code.bin("add nsw", &base, &row_offset);
                let position = e.code.bin("add nsw", &position, &col_offset);
                crate::elemental::store_element(&mut e.code, p.out.dtype, &result, out, &position)
            })?;
            e.close_scope();
            k.code.end_if(branch);
        }
    }
    Ok(())
}

/// Row-major position of an element of the product.
fn place(e: &mut crate::elemental::Elemental, batch: &Affine, row: &Val, col: &Val, [m, n]: [i64; 2]) -> Affine {
    let row = e.atoms.variable(row.clone(), m, None);
    let col = e.atoms.variable(col.clone(), n, None);
    batch.times(m * n).plus(&row.times(n)).plus(&col)
}
