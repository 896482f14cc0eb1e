//! Co-access order by levels: communities, the Fiedler order of their quotient graph, then insertion search from the coarsest level to the
//! channels themselves.

use super::fiedler::fiedler;
use super::insertion::Arrangement;
use super::louvain::{Level, Resolution, flatten, hierarchy};
use crate::{Graph, Permutation};

/// Steps that a channel may walk in one insertion.
const CHANNEL_WINDOW: usize = 64;
/// Passes of insertion over the channels.
const CHANNEL_PASSES: usize = 2;
/// Passes of insertion over communities, at most.
const COMMUNITY_PASSES: usize = 8;
/// Exchanges in a pass over communities, about: bounds the steps that a community may walk.
const COMMUNITY_EXCHANGES: usize = 1 << 18;

/// What [`order`] finds.
#[derive(Clone, Debug)]
pub struct Ordering {
    /// Channels in a short linear arrangement (see [`crate::objective::order`]).
    pub permutation: Permutation,
    /// Community of each channel, at the coarsest level.
    pub community: Vec<u32>,
}

/// Searches a short linear arrangement, on one thread. The outcome is a function of the graph alone.
pub fn order(graph: &Graph) -> Ordering {
    let sketch = Sketch::new(graph);
    let channels = &sketch.levels[0];
    let mut arrangement = Arrangement::new(&channels.graph, &channels.size, sketch.order());
    for _ in 0..CHANNEL_PASSES {
        if arrangement.pass(&channels.graph, 0..graph.vertices(), CHANNEL_WINDOW) <= 0.0 {
            break;
        }
    }
    Ordering { permutation: Permutation::trusted(arrangement.order), community: flatten(&sketch.steps, graph.vertices()) }
}

/// Levels of communities, and an arrangement of the communities of the finest step.
pub(crate) struct Sketch {
    /// From the channels to the coarsest communities.
    pub(crate) levels: Vec<Level>,
    /// Group of each vertex of a level in the next; empty if nothing merges.
    pub(crate) steps: Vec<Vec<u32>>,
    arrangement: Arrangement,
}

impl Sketch {
    pub(crate) fn new(graph: &Graph) -> Self {
        let (levels, steps) = hierarchy(Level::finest(graph.clone()), Resolution::MODULARITY);
        let coarsest = &levels[levels.len() - 1];
        let mut arrangement = Arrangement::new(&coarsest.graph, &coarsest.size, fiedler_order(coarsest));
        arrange(&mut arrangement, coarsest);
        for depth in (1..steps.len()).rev() {
            let level = &levels[depth];
            arrangement = Arrangement::new(&level.graph, &level.size, project(level, &steps[depth], &arrangement));
            arrange(&mut arrangement, level);
        }
        Sketch { levels, steps, arrangement }
    }

    /// Channels by the arrangement of their communities.
    pub(crate) fn order(&self) -> Vec<u32> {
        match self.steps.first() {
            Some(step) => project(&self.levels[0], step, &self.arrangement),
            None => self.arrangement.order.clone(),
        }
    }
}

/// The vertices of `level` in a short arrangement found without coarser levels.
pub(crate) fn arrange_level(level: &Level) -> Vec<u32> {
    let mut arrangement = Arrangement::new(&level.graph, &level.size, fiedler_order(level));
    arrange(&mut arrangement, level);
    arrangement.order
}

fn fiedler_order(level: &Level) -> Vec<u32> {
    Permutation::by_key(&fiedler(level)).order().to_vec()
}

fn arrange(arrangement: &mut Arrangement, level: &Level) {
    let vertices = level.graph.vertices();
    let window = (COMMUNITY_EXCHANGES / vertices.max(1)).max(CHANNEL_WINDOW);
    for _ in 0..COMMUNITY_PASSES {
        if arrangement.pass(&level.graph, 0..vertices, window) <= 0.0 {
            break;
        }
    }
}

/// Vertices in the order of their groups; inside a group by the mean position of their neighbours' groups.
fn project(fine: &Level, group: &[u32], coarse: &Arrangement) -> Vec<u32> {
    let centers = coarse.centers();
    let at: Vec<f32> = group.iter().map(|&g| centers[g as usize]).collect();
    let mut keys: Vec<(f32, f32, u32)> = (0..group.len())
        .map(|v| {
            let (mut sum, mut weight) = (0.0, 0.0);
            for (u, w) in fine.graph.edges_of(v) {
                sum += w * at[u];
                weight += w;
            }
            (at[v], if weight > 0.0 { sum / weight } else { at[v] }, v as u32)
        })
        .collect();
    keys.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)).then(a.2.cmp(&b.2)));
    keys.into_iter().map(|(_, _, v)| v).collect()
}
