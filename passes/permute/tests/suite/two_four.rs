use crate::support::with_threads;
use icd_permute::objective::two_four::kept_two_four;
use icd_permute::solver::two_four::{Effort, two_four};
use icd_permute::{Matrix, Permutation, Random};

/// MT19937 (Matsumoto and Nishimura 1998) with numpy's legacy seeding: `numpy.random.seed(s); numpy.random.rand()`.
struct Mt19937 {
    state: [u32; 624],
    next: usize,
}

impl Mt19937 {
    fn new(seed: u32) -> Self {
        let mut state = [seed; 624];
        for i in 1..624 {
            state[i] = 1_812_433_253u32.wrapping_mul(state[i - 1] ^ (state[i - 1] >> 30)).wrapping_add(i as u32);
        }
        Mt19937 { state, next: 624 }
    }

    fn bits(&mut self) -> u32 {
        if self.next == 624 {
            for k in 0..624 {
                let y = (self.state[k] & 0x8000_0000) | (self.state[(k + 1) % 624] & 0x7fff_ffff);
                self.state[k] = self.state[(k + 397) % 624] ^ (y >> 1) ^ if y & 1 == 1 { 0x9908_b0df } else { 0 };
            }
            self.next = 0;
        }
        let mut y = self.state[self.next];
        self.next += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }

    fn unit(&mut self) -> f64 {
        let high = f64::from(self.bits() >> 5);
        (high * 67_108_864.0 + f64::from(self.bits() >> 6)) / 9_007_199_254_740_992.0
    }
}

/// The random matrix on which the published search of channel permutations reports 2852.377 unpermuted and 2921.947 at best.
fn published_case() -> Matrix {
    let mut random = Mt19937::new(1);
    Matrix::new(128, 64, (0..128 * 64).map(|_| random.unit() as f32).collect()).unwrap()
}

fn noise(rows: usize, columns: usize, seed: u64) -> Matrix {
    let mut random = Random::new(seed);
    Matrix::new(rows, columns, (0..rows * columns).map(|_| random.unit() as f32 - 0.5).collect()).unwrap()
}

fn search(matrix: &Matrix, steps: usize) -> (Permutation, f64) {
    let start = Permutation::identity(matrix.columns());
    let found = two_four(matrix, &start, Effort { steps, patience: 20 }).unwrap();
    Permutation::new(found.order().to_vec()).unwrap();
    let kept = kept_two_four(matrix, &found).unwrap();
    (found, kept)
}

#[test]
fn beats_the_published_search() {
    let matrix = published_case();
    assert!((kept_two_four(&matrix, &Permutation::identity(64)).unwrap() - 2852.377).abs() < 5e-4);
    let found = two_four(&matrix, &Permutation::identity(64), Effort::of(&matrix)).unwrap();
    assert!(kept_two_four(&matrix, &found).unwrap() > 2921.947);
}

/// All ways to split eight columns into two groups.
#[test]
fn two_groups_are_split_in_the_best_way() {
    for seed in 0..20 {
        let matrix = noise(1 + seed as usize * 3, 8, seed);
        let mut best = 0.0f64;
        for mask in 0u32..256 {
            if mask.count_ones() == 4 {
                let mut order: Vec<u32> = (0..8).filter(|c| mask >> c & 1 == 1).collect();
                order.extend((0..8).filter(|c| mask >> c & 1 == 0));
                best = best.max(kept_two_four(&matrix, &Permutation::new(order).unwrap()).unwrap());
            }
        }
        let (_, kept) = search(&matrix, 400);
        assert!(kept >= best * (1.0 - 1e-4), "seed {seed}: {kept} of {best}");
    }
}

#[test]
fn planted_permutation_is_undone() {
    let (rows, columns) = (37, 48);
    let mut random = Random::new(2);
    let mut data = vec![0.0; rows * columns];
    for r in 0..rows {
        for group in 0..columns / 4 {
            let first = random.below(4);
            for c in [first, (first + 1 + random.below(3)) % 4] {
                data[r * columns + group * 4 + c] = 1.0 + random.unit() as f32;
            }
        }
    }
    let mut order: Vec<u32> = (0..columns as u32).collect();
    random.shuffle(&mut order);
    let hidden = Permutation::new(order).unwrap().apply_to_columns(&data).unwrap();
    let matrix = Matrix::new(rows, columns, hidden).unwrap();
    let all: f64 = matrix.data().iter().map(|&v| f64::from(v)).sum();
    assert!(kept_two_four(&matrix, &Permutation::identity(columns)).unwrap() < 0.9 * all);
    assert!((search(&matrix, 3000).1 - all).abs() < 1e-6 * all);
}

#[test]
fn never_worse_and_the_same_for_every_number_of_threads() {
    for (rows, columns) in [(0, 8), (1, 4), (5, 0), (3, 12), (700, 260)] {
        let matrix = noise(rows, columns, 7);
        let one = with_threads(1, || search(&matrix, 12));
        assert!(one.1 >= kept_two_four(&matrix, &Permutation::identity(columns)).unwrap());
        assert_eq!(one, with_threads(3, || search(&matrix, 12)));
    }
    let zeros = Matrix::new(4, 16, vec![-0.0; 64]).unwrap();
    assert_eq!(search(&zeros, 50).1, 0.0);
    let huge = Matrix::new(1, 8, vec![f32::MAX, -f32::MAX, f32::MAX, 1.0, 1e-40, 0.0, 0.0, 0.0]).unwrap();
    assert_eq!(search(&huge, 50).1, 3.0 * f64::from(f32::MAX) + 1.0);
}

#[test]
fn wrong_shapes_are_refused() {
    let effort = Effort { steps: 1, patience: 1 };
    assert!(two_four(&noise(2, 6, 1), &Permutation::identity(6), effort).unwrap_err().to_string().contains("no multiple of 4"));
    assert!(two_four(&noise(2, 8, 1), &Permutation::identity(4), effort).is_err());
}
