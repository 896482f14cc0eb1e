//! Index spaces: what a dimension of a tensor counts, taken apart as far as the program takes it apart.
//!
//! ```text
//! [S, 64] -> reshape -> [S, 4, 16]      64 = 4 × 16       Product: index h·16 + w
//! [S, 24] -> slice 0..8, 8..24          24 = 8 + 16       Sum: index inside the piece, plus where the piece begins
//! ```
//!
//! Spaces that must carry the same order are one class (union-find); a class is a leaf, a product or a sum of smaller classes. Two spaces are
//! made equal by taking both apart to common pieces. Where that is impossible ([`Clash`]) they stay apart, and the caller has to pin both.

/// A space, as an index into its [`Forest`]. Several may name one class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Space(u32);

/// Two spaces cannot be taken apart into common pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Clash;

#[derive(Clone, Debug)]
enum Shape {
    Leaf,
    Product(Vec<Space>),
    Sum(Vec<Space>),
}

#[derive(Clone, Debug)]
struct Slot {
    parent: Space,
    size: usize,
    shape: Shape,
    /// It is not taken apart any further.
    clashed: bool,
}

/// Pieces that two spaces are cut into at most. A tensor beside itself moved by one index, as in a causal convolution, would be cut into single indices.
const MAX_PIECES: usize = 128;

/// A class in full, products of products and sums of sums flattened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Expr {
    /// A class that nothing takes apart, and its size.
    Leaf(Space, usize),
    /// Mixed radix, outermost first.
    Product(Vec<Expr>),
    /// One piece after another.
    Sum(Vec<Expr>),
}

impl Expr {
    /// Number of indices.
    pub(crate) fn size(&self) -> usize {
        match self {
            Expr::Leaf(_, size) => *size,
            Expr::Product(parts) => parts.iter().map(Expr::size).product(),
            Expr::Sum(parts) => parts.iter().map(Expr::size).sum(),
        }
    }

    /// Leaf classes, once for each place where they stand.
    pub(crate) fn leaves(&self, out: &mut Vec<(Space, usize)>) {
        match self {
            Expr::Leaf(class, size) => out.push((*class, *size)),
            Expr::Product(parts) | Expr::Sum(parts) => parts.iter().for_each(|p| p.leaves(out)),
        }
    }

    /// Whether `class` stands in it.
    pub(crate) fn holds(&self, class: Space) -> bool {
        match self {
            Expr::Leaf(c, _) => *c == class,
            Expr::Product(parts) | Expr::Sum(parts) => parts.iter().any(|p| p.holds(class)),
        }
    }
}

/// All spaces of one function.
#[derive(Clone, Debug, Default)]
pub(crate) struct Forest {
    slots: Vec<Slot>,
}

impl Forest {
    /// A new class of `size` indices.
    pub(crate) fn leaf(&mut self, size: usize) -> Space {
        self.add(size, Shape::Leaf)
    }

    /// The product of at least one space, outermost first.
    pub(crate) fn product(&mut self, factors: Vec<Space>) -> Space {
        match factors.as_slice() {
            [one] => *one,
            _ => {
                let size = factors.iter().map(|f| self.size(*f)).product();
                self.add(size, Shape::Product(factors))
            }
        }
    }

    /// At least one space after another.
    pub(crate) fn sum(&mut self, pieces: Vec<Space>) -> Space {
        match pieces.as_slice() {
            [one] => *one,
            _ => {
                let size = pieces.iter().map(|f| self.size(*f)).sum();
                self.add(size, Shape::Sum(pieces))
            }
        }
    }

    fn add(&mut self, size: usize, shape: Shape) -> Space {
        let id = Space(self.slots.len() as u32);
        self.slots.push(Slot { parent: id, size, shape, clashed: false });
        id
    }

    /// Number of indices.
    pub(crate) fn size(&self, s: Space) -> usize {
        self.slots[s.0 as usize].size
    }

    /// The name of the class.
    pub(crate) fn find(&self, mut s: Space) -> Space {
        while self.slots[s.0 as usize].parent != s {
            s = self.slots[s.0 as usize].parent;
        }
        s
    }

    fn shape(&self, s: Space) -> &Shape {
        &self.slots[self.find(s).0 as usize].shape
    }

    /// The class in full.
    pub(crate) fn expand(&self, s: Space) -> Expr {
        let root = self.find(s);
        match &self.slots[root.0 as usize].shape {
            Shape::Leaf => Expr::Leaf(root, self.size(root)),
            Shape::Product(parts) => Expr::Product(
                parts
                    .iter()
                    .flat_map(|p| match self.expand(*p) {
                        Expr::Product(inner) => inner,
                        other => vec![other],
                    })
                    .collect(),
            ),
            Shape::Sum(parts) => Expr::Sum(
                parts
                    .iter()
                    .flat_map(|p| match self.expand(*p) {
                        Expr::Sum(inner) => inner,
                        other => vec![other],
                    })
                    .collect(),
            ),
        }
    }

    /// Makes two spaces one class.
    ///
    /// # Errors
    /// [`Clash`]: sizes differ, or they are taken apart in ways that have no common pieces. Some of their pieces may have become equal.
    pub(crate) fn unify(&mut self, a: Space, b: Space) -> Result<(), Clash> {
        let (a, b) = (self.find(a), self.find(b));
        if a == b {
            return Ok(());
        }
        let clashed = |s: Space| self.slots[s.0 as usize].clashed;
        if self.size(a) != self.size(b) || clashed(a) || clashed(b) {
            return Err(Clash);
        }
        match (self.shape(a).clone(), self.shape(b).clone()) {
            (Shape::Leaf, _) => self.link(a, b),
            (_, Shape::Leaf) => self.link(b, a),
            (Shape::Product(x), Shape::Product(y)) => {
                self.align(x, y, true)?;
                self.link(a, b);
            }
            (Shape::Sum(x), Shape::Sum(y)) => {
                self.align(x, y, false)?;
                self.link(a, b);
            }
            (Shape::Sum(pieces), Shape::Product(factors)) => {
                self.distribute(&pieces, &factors)?;
                self.link(a, b);
            }
            (Shape::Product(factors), Shape::Sum(pieces)) => {
                self.distribute(&pieces, &factors)?;
                self.link(b, a);
            }
        }
        Ok(())
    }

    fn link(&mut self, from: Space, to: Space) {
        let (from, to) = (self.find(from), self.find(to));
        self.slots[from.0 as usize].parent = to;
        self.slots[to.0 as usize].clashed |= self.slots[from.0 as usize].clashed;
    }

    /// Pairs the parts of two products, or of two sums, cutting the larger where they differ.
    fn align(&mut self, a: Vec<Space>, b: Vec<Space>, product: bool) -> Result<(), Clash> {
        let (mut a, mut b): (Vec<_>, Vec<_>) = (a.into_iter().rev().collect(), b.into_iter().rev().collect());
        let mut pieces = 0;
        while let (Some(&x), Some(&y)) = (a.last(), b.last()) {
            pieces += 1;
            if pieces > MAX_PIECES {
                for space in [x, y] {
                    let root = self.find(space);
                    self.slots[root.0 as usize].clashed = true;
                }
                return Err(Clash);
            }
            for (stack, head) in [(&mut a, x), (&mut b, y)] {
                self.open(stack, head, product);
            }
            let (Some(x), Some(y)) = (a.pop(), b.pop()) else { return Err(Clash) };
            let (sx, sy) = (self.size(x), self.size(y));
            if sx == sy {
                self.unify(x, y)?;
                continue;
            }
            let (large, small, rest) = if sx > sy { (x, sy, &mut a) } else { (y, sx, &mut b) };
            let total = self.size(large);
            let remaining = match product {
                true if total.is_multiple_of(small) => total / small,
                true => return Err(Clash),
                false => total - small,
            };
            let (first, second) = (self.leaf(small), self.leaf(remaining));
            let parts = vec![first, second];
            let cut = if product { self.product(parts) } else { self.sum(parts) };
            self.unify(large, cut)?;
            rest.push(second);
            // The small one is still to be paired.
            if sx > sy {
                a.push(first);
                b.push(y);
            } else {
                a.push(x);
                b.push(first);
            }
        }
        if a.is_empty() && b.is_empty() { Ok(()) } else { Err(Clash) }
    }

    /// Replaces the top of a stack by its own parts while it is a product (or sum) itself.
    fn open(&self, stack: &mut Vec<Space>, mut head: Space, product: bool) {
        loop {
            let parts = match self.shape(head) {
                Shape::Product(parts) if product => parts,
                Shape::Sum(parts) if !product => parts,
                _ => return,
            };
            stack.pop();
            stack.extend(parts.iter().rev());
            let Some(&next) = stack.last() else { return };
            head = next;
        }
    }

    /// A sum of products with a common inner part: `p₁ + p₂ + … = (o₁ + o₂ + …) × inner`.
    fn distribute(&mut self, pieces: &[Space], factors: &[Space]) -> Result<(), Clash> {
        let Some((&outer, inner)) = factors.split_first() else { return Err(Clash) };
        let width: usize = inner.iter().map(|f| self.size(*f)).product();
        let mut counts = Vec::with_capacity(pieces.len());
        for &p in pieces {
            let size = self.size(p);
            if !size.is_multiple_of(width) {
                return Err(Clash);
            }
            let count = self.leaf(size / width);
            counts.push(count);
            let factors: Vec<Space> = (size != width).then_some(count).into_iter().chain(inner.iter().copied()).collect();
            let whole = self.product(factors);
            self.unify(p, whole)?;
        }
        let counted = self.sum(counts);
        self.unify(outer, counted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(e: &Expr) -> String {
        let list = |parts: &[Expr], by: &str| format!("({})", parts.iter().map(sizes).collect::<Vec<_>>().join(by));
        match e {
            Expr::Leaf(_, n) => n.to_string(),
            Expr::Product(p) => list(p, "*"),
            Expr::Sum(p) => list(p, "+"),
        }
    }

    fn leaves(f: &mut Forest, sizes: &[usize]) -> Vec<Space> {
        sizes.iter().map(|&n| f.leaf(n)).collect()
    }

    #[test]
    fn products_are_cut_to_common_factors() {
        let mut f = Forest::default();
        let (a, b) = (leaves(&mut f, &[8, 8]), leaves(&mut f, &[4, 16]));
        let (x, y) = (f.product(a), f.product(b));
        f.unify(x, y).unwrap();
        assert_eq!(sizes(&f.expand(x)), "(4*2*8)");
        assert_eq!(f.expand(x), f.expand(y));
        let (a, b) = (leaves(&mut f, &[6, 4]), leaves(&mut f, &[4, 6]));
        let (x, y) = (f.product(a), f.product(b));
        assert_eq!(f.unify(x, y), Err(Clash));
    }

    #[test]
    fn sums_are_cut_at_every_border() {
        let mut f = Forest::default();
        let (a, b) = (leaves(&mut f, &[3, 5]), leaves(&mut f, &[4, 2, 2]));
        let (x, y) = (f.sum(a), f.sum(b));
        f.unify(x, y).unwrap();
        assert_eq!(sizes(&f.expand(x)), "(3+1+2+2)");
        assert_eq!(f.expand(x), f.expand(y));
    }

    #[test]
    fn halves_that_change_places_share_one_order() {
        let mut f = Forest::default();
        let parts = leaves(&mut f, &[4, 4]);
        let whole = f.sum(parts.clone());
        let turned = f.sum(vec![parts[1], parts[0]]);
        f.unify(whole, turned).unwrap();
        assert_eq!(f.find(parts[0]), f.find(parts[1]));
    }

    #[test]
    fn a_space_beside_itself_moved_by_one_index_clashes() {
        let mut f = Forest::default();
        let (t, pad) = (f.leaf(1 << 20), f.leaf(1));
        let (early, late) = (f.sum(vec![pad, t]), f.sum(vec![t, pad]));
        assert_eq!(f.unify(early, late), Err(Clash));
        let mut leaves = Vec::new();
        f.expand(t).leaves(&mut leaves);
        assert!(leaves.len() <= MAX_PIECES + 1, "{}", leaves.len());
        let again = f.sum(vec![t, pad]);
        assert_eq!(f.unify(early, again), Err(Clash));
    }

    #[test]
    fn heads_in_pieces_of_a_merged_projection() {
        // 24 = (q 8 + k 8 + v 8) = (heads 6) x (width 4)
        let mut f = Forest::default();
        let pieces = leaves(&mut f, &[8, 8, 8]);
        let q = f.product_of(&[2, 4]);
        f.unify(pieces[0], q).unwrap();
        let whole = f.sum(pieces.clone());
        let heads = f.product_of(&[6, 4]);
        f.unify(whole, heads).unwrap();
        assert_eq!(sizes(&f.expand(whole)), "((2+2+2)*4)");
        assert_eq!(sizes(&f.expand(pieces[1])), "(2*4)");
        let odd = leaves(&mut f, &[7, 17]);
        let odd = f.sum(odd);
        let heads = f.product_of(&[6, 4]);
        assert_eq!(f.unify(odd, heads), Err(Clash));
    }

    impl Forest {
        fn product_of(&mut self, sizes: &[usize]) -> Space {
            let parts = leaves(self, sizes);
            self.product(parts)
        }
    }
}
