//! Times the solvers on an edge list: `solve FILE order|tiles [TILE] [THREADS]`.
use icd_permute::{Permutation, objective, read_edge_list, solver};

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let graph = read_edge_list(arguments[1].as_ref()).unwrap();
    let tile = arguments.get(3).map_or(64, |t| t.parse().unwrap());
    let threads = arguments.get(4).map_or(2, |t| t.parse().unwrap());
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    let mut best = f64::MAX;
    let mut found = Permutation::identity(0);
    for _ in 0..5 {
        let start = std::time::Instant::now();
        found = if arguments[2] == "order" {
            solver::order::order(&graph).permutation
        } else {
            pool.install(|| solver::tiles::tiles(&graph, tile)).unwrap()
        };
        best = best.min(start.elapsed().as_secs_f64());
    }
    Permutation::new(found.order().to_vec()).unwrap();
    let la = objective::order::linear_arrangement(&graph, &found);
    println!("{:.2} ms  la {la:.2}  in_tile {:.4}", best * 1e3, objective::tiles::in_tile(&graph, &found, tile));
}
