//! The register tile of a product: `rows` × (`vectors`·`lanes`) sums that stay in registers over the depth of a block.
//!
//! ```text
//!              b[k][0..lanes] … b[k][(vectors−1)·lanes..]      one load each, from a packed panel
//! a[0][k]  ──  c00            …  c0v                           broadcast · b + c
//! a[1][k]  ──  c10            …  c1v
//! ```
//!
//! The panel is depth-major, so that it is read in order; `a` is read in place with constant strides.

use crate::ll::{Code, Scalar, Val};

/// Shape and element type of a register tile, and the strides of its left operand in elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MicroKernel {
    /// Rows of the tile.
    pub(super) rows: i64,
    /// Vectors a row.
    pub(super) vectors: i64,
    /// Elements a vector.
    pub(super) lanes: u32,
    /// Element type.
    pub(super) scalar: Scalar,
    /// Distance of two rows of the left operand.
    pub(super) row_stride: i64,
    /// Distance of two elements along the depth.
    pub(super) depth_stride: i64,
}

impl MicroKernel {
    /// Columns of the tile.
    pub(super) fn columns(&self) -> i64 {
        self.vectors * i64::from(self.lanes)
    }

    fn name(&self, add: bool) -> String {
        let scalar = Scalar::by(self.scalar, 1).suffix();
        format!(
            "icd.tile.{scalar}.{}x{}.a{}.{}{}",
            self.rows,
            self.columns(),
            self.row_stride,
            self.depth_stride,
            if add { ".add" } else { "" }
        )
    }

    /// Calls the kernel: `c[rows][columns] (+)= a · b` over `depth`, `add` tells whether to add to `c`.
    pub(super) fn call(&self, code: &mut Code, a: &Val, b: &Val, c: &Val, depth: &Val, add: bool) {
        code.subroutine(&self.name(add), &[a, b, c, depth], |code, p| self.write(code, [&p[0], &p[1], &p[2]], &p[3], add));
    }

    fn write(&self, code: &mut Code, [a, b, c]: [&Val; 3], depth: &Val, add: bool) {
        let vector = self.scalar.by(self.lanes);
        let bytes = self.scalar.bits() as usize / 8;
        let at = |code: &mut Code, base: &Val, offset: i64| code.gep(self.scalar, base, &Val::i64(offset));
        let tiles: Vec<(i64, i64)> = (0..self.rows).flat_map(|r| (0..self.vectors).map(move |v| (r, v))).collect();
        let sums: Vec<Val> = tiles.iter().map(|_| code.alloca(vector)).collect();
        for (&(r, v), sum) in tiles.iter().zip(&sums) {
            let start = if add {
                let place = at(code, c, r * self.columns() + v * i64::from(self.lanes));
                code.load(vector, &place, bytes)
            } else {
                Val::number(vector, 0.0)
            };
            code.set(sum, &start);
        }
        let l = code.begin_loop(&Val::i64(0), depth, &Val::i64(1));
        let row = code.bin("mul nsw", &l.iv, &Val::i64(self.columns()));
        let panel = code.gep(self.scalar, b, &row);
        let step = code.bin("mul nsw", &l.iv, &Val::i64(self.depth_stride));
        let column = code.gep(self.scalar, a, &step);
        let right: Vec<Val> = (0..self.vectors)
            .map(|v| {
                let place = at(code, &panel, v * i64::from(self.lanes));
                code.load(vector, &place, bytes)
            })
            .collect();
        for r in 0..self.rows {
            let place = at(code, &column, r * self.row_stride);
            let one = code.load(self.scalar, &place, bytes);
            let left = code.splat(&one, self.lanes);
            for v in 0..self.vectors {
                let sum = &sums[(r * self.vectors + v) as usize];
                let before = code.get(vector, sum);
                let after = if self.scalar.is_float() {
                    code.fma(&left, &right[v as usize], &before)
                } else {
                    let product = code.bin("mul", &left, &right[v as usize]);
                    code.bin("add", &before, &product)
                };
                code.set(sum, &after);
            }
        }
        code.end_loop(l);
        for (&(r, v), sum) in tiles.iter().zip(&sums) {
            let value = code.get(vector, sum);
            let place = at(code, c, r * self.columns() + v * i64::from(self.lanes));
            code.store(&value, &place, bytes);
        }
    }
}
