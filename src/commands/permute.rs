//! `icd permute`: an order of channels from a co-access graph or a weight matrix.

use anyhow::{Context, ensure};
use clap::{Args, ValueEnum};
use icd_permute::objective::order::linear_arrangement;
use icd_permute::objective::tiles::{in_tile, modularity};
use icd_permute::objective::two_four::kept_two_four;
use icd_permute::solver::{order::order, tiles::tiles, two_four, warm};
use icd_permute::{Graph, Matrix, Permutation, read_edge_list, read_matrix};
use icd_runtime::machine::Machine;
use icd_runtime::record;
use icd_runtime::report::{Cell, Chart, Column, HeatMap, Report, Table, write_file};
use serde::Serialize;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Most threads that may be asked for.
const MAX_THREADS: usize = 256;
/// Cells along a side of a heat map.
const HEAT_MAP_CELLS: usize = 64;
/// Longest permutation file that is read, in bytes.
const MAX_PERMUTATION_BYTES: u64 = 1 << 28;

/// What the order is for.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
enum Objective {
    /// Channels used together lie close together.
    Order,
    /// Channels used together lie in the same tile.
    Tiles,
    /// Pruning two of four neighbouring columns keeps most magnitude.
    TwoFour,
}

/// Options of `icd permute`.
#[derive(Args, Debug)]
pub struct PermuteArgs {
    /// Edge list ('vertices edges', then 'a b weight' lines; .xz is unpacked); for two-four a matrix: .npy or safetensors.
    #[arg(long, visible_alias = "matrix", value_name = "FILE")]
    graph: PathBuf,
    /// What the order is for.
    #[arg(long, value_enum)]
    objective: Objective,
    /// Channels in a tile.
    #[arg(long, default_value_t = 64)]
    tile: usize,
    /// Threads; the result does not depend on them. The order for co-access takes one.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Permutation file to begin with: what `-o` wrote before the graph or matrix changed a little.
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// Matrix of a safetensors file that holds several.
    #[arg(long, value_name = "NAME")]
    tensor: Option<String>,
    /// Assignments to solve for two-four; by default some seconds' worth at most.
    #[arg(long)]
    steps: Option<usize>,
    /// Searches; the time is that of the median one.
    #[arg(long, default_value_t = 1)]
    repeat: usize,
    /// Where to write the permutation: the channel at each position, one a line.
    #[arg(short = 'o', long = "out", value_name = "FILE")]
    out: Option<PathBuf>,
    /// Write an HTML page with the co-access before and after, and the figures; for graphs.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// What `icd permute` prints. Figures that the objective does not have are left out.
#[derive(Debug, Default, Serialize)]
struct Outcome {
    objective: String,
    file: String,
    channels: usize,
    threads: usize,
    /// Search without reading the file: the median of `repeat`.
    seconds: f64,
    seconds_least: f64,
    repeat: usize,
    #[serde(flatten)]
    graph: Option<GraphFigures>,
    #[serde(flatten)]
    matrix: Option<MatrixFigures>,
    date: String,
    command: String,
    machine: Option<Machine>,
}

#[derive(Debug, Serialize)]
struct GraphFigures {
    edges: usize,
    tile: usize,
    linear_arrangement: f64,
    in_tile: f64,
    /// Of communities for `order`, of tiles for `tiles`.
    modularity: f64,
    linear_arrangement_before: f64,
    in_tile_before: f64,
}

#[derive(Debug, Serialize)]
struct MatrixFigures {
    rows: usize,
    kept: f64,
    kept_before: f64,
    total: f64,
}

/// Searches, checks the result and prints it.
///
/// # Errors
/// A file cannot be read or written or is malformed, or an option is out of its domain.
pub fn run(args: &PermuteArgs) -> anyhow::Result<i32> {
    ensure!((1..=MAX_THREADS).contains(&args.threads), "--threads {}: choose 1 to {MAX_THREADS}", args.threads);
    ensure!(args.repeat > 0, "--repeat 0: search at least once");
    ensure!(args.objective == Objective::TwoFour || args.tensor.is_none(), "--tensor is for --objective two-four");
    ensure!(args.objective != Objective::TwoFour || args.report.is_none(), "--report is for --objective order and tiles");
    ensure!(args.objective == Objective::TwoFour || args.steps.is_none(), "--steps is for --objective two-four");
    let pool = rayon::ThreadPoolBuilder::new().num_threads(args.threads).build().context("cannot start threads")?;
    let (mut outcome, found, maps) = match args.objective {
        Objective::TwoFour => matrix_outcome(args, &pool)?,
        Objective::Order | Objective::Tiles => graph_outcome(args, &pool)?,
    };
    outcome.objective = args.objective.to_possible_value().map(|v| v.get_name().to_string()).unwrap_or_default();
    outcome.file = args.graph.file_name().unwrap_or_default().to_string_lossy().into_owned();
    outcome.channels = found.len();
    outcome.threads = args.threads;
    outcome.date = record::today();
    outcome.command = record::command_line();
    outcome.machine = Some(Machine::read(None));
    if let Some(path) = &args.out {
        let text: String = found.order().iter().map(|c| format!("{c}\n")).collect();
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    if let Some(path) = &args.report {
        write_file(path, &page(&outcome, maps).to_html()?)?;
    }
    print(args, &outcome)?;
    Ok(crate::exit::OK)
}

fn graph_outcome(args: &PermuteArgs, pool: &rayon::ThreadPool) -> anyhow::Result<(Outcome, Permutation, Vec<HeatMap>)> {
    ensure!(args.tile > 0, "--tile 0: tiles hold at least one channel");
    let graph = read_edge_list(&args.graph)?;
    let start = start(args, graph.vertices())?;
    let all: Vec<u32> = (0..graph.vertices() as u32).collect();
    let mut community = None;
    let search = || -> anyhow::Result<Permutation> {
        Ok(match (args.objective, &args.from) {
            (Objective::Order, None) => {
                let found = order(&graph);
                community = Some(found.community);
                found.permutation
            }
            (Objective::Order, Some(_)) => warm::reorder(&graph, &start, &all)?,
            (_, None) => tiles(&graph, args.tile)?,
            (_, Some(_)) => warm::retile(&graph, args.tile, &start, &all)?,
        })
    };
    let (times, found) = timed(args, pool, search)?;
    let groups = community.unwrap_or_else(|| found.positions().iter().map(|&p| (p as usize / args.tile) as u32).collect());
    let figures = GraphFigures {
        edges: graph.edges(),
        tile: args.tile,
        linear_arrangement: linear_arrangement(&graph, &found),
        in_tile: in_tile(&graph, &found, args.tile),
        modularity: modularity(&graph, &groups),
        linear_arrangement_before: linear_arrangement(&graph, &start),
        in_tile_before: in_tile(&graph, &start, args.tile),
    };
    let maps = match &args.report {
        Some(_) => vec![heat_map(&graph, &start, "Co-access before"), heat_map(&graph, &found, "Co-access after")],
        None => Vec::new(),
    };
    Ok((Outcome { graph: Some(figures), ..times }, found, maps))
}

fn matrix_outcome(args: &PermuteArgs, pool: &rayon::ThreadPool) -> anyhow::Result<(Outcome, Permutation, Vec<HeatMap>)> {
    let matrix = read_matrix(&args.graph, args.tensor.as_deref())?;
    let start = start(args, matrix.columns())?;
    let mut effort = two_four::Effort::of(&matrix);
    effort.steps = args.steps.unwrap_or(effort.steps);
    let (times, found) = timed(args, pool, || Ok(two_four::two_four(&matrix, &start, effort)?))?;
    let figures = MatrixFigures {
        rows: matrix.rows(),
        kept: kept_two_four(&matrix, &found)?,
        kept_before: kept_two_four(&matrix, &start)?,
        total: total(&matrix),
    };
    Ok((Outcome { matrix: Some(figures), ..times }, found, Vec::new()))
}

/// How often the channels of two stretches of positions are used together.
fn heat_map(graph: &Graph, order: &Permutation, title: &str) -> HeatMap {
    let at = order.positions();
    let edges = (0..graph.vertices()).flat_map(|v| graph.edges_of(v).map(move |(other, weight)| (v, other, weight)));
    let placed = edges.map(|(a, b, weight)| (at[a] as usize, at[b] as usize, f64::from(weight)));
    HeatMap::binned(title, graph.vertices(), HEAT_MAP_CELLS, placed)
}

fn page(outcome: &Outcome, maps: Vec<HeatMap>) -> Report {
    let mut report = Report::new(format!("Order of {} channels of {}", outcome.channels, outcome.file))
        .fact("command", &outcome.command)
        .fact("date", &outcome.date)
        .fact("search", format!("{:.4} s", outcome.seconds));
    if let Some(g) = &outcome.graph {
        let mut table = Table::new("Figures", vec![Column::text("what"), Column::number("before", "", 4), Column::number("after", "", 4)]);
        table.row([Cell::from("mean distance of channels used together"), g.linear_arrangement_before.into(), g.linear_arrangement.into()]);
        let tiles = format!("share of co-access inside tiles of {}", g.tile);
        table.row([Cell::from(tiles.as_str()), g.in_tile_before.into(), g.in_tile.into()]);
        report = report.table(table);
    }
    maps.into_iter().fold(report, |report, map| report.chart(Chart::HeatMap(map)))
}

fn total(matrix: &Matrix) -> f64 {
    matrix.data().iter().map(|v| f64::from(v.abs())).sum()
}

/// Searches `--repeat` times. The result is checked to be a permutation before anything is said of it.
fn timed(
    args: &PermuteArgs,
    pool: &rayon::ThreadPool,
    mut search: impl FnMut() -> anyhow::Result<Permutation> + Send,
) -> anyhow::Result<(Outcome, Permutation)> {
    let mut seconds = Vec::with_capacity(args.repeat);
    let mut found = Permutation::identity(0);
    for _ in 0..args.repeat {
        let begin = Instant::now();
        found = pool.install(&mut search)?;
        seconds.push(begin.elapsed().as_secs_f64());
    }
    seconds.sort_by(f64::total_cmp);
    let median = seconds.get(seconds.len() / 2).copied().unwrap_or_default();
    let least = seconds.first().copied().unwrap_or_default();
    let found = Permutation::new(found.order().to_vec()).context("the solver went wrong")?;
    Ok((Outcome { seconds: median, seconds_least: least, repeat: args.repeat, ..Outcome::default() }, found))
}

fn start(args: &PermuteArgs, channels: usize) -> anyhow::Result<Permutation> {
    let Some(path) = &args.from else { return Ok(Permutation::identity(channels)) };
    let found = read_permutation(path)?;
    ensure!(found.len() == channels, "{}: a permutation of {} channels; there are {channels}", path.display(), found.len());
    Ok(found)
}

fn read_permutation(path: &Path) -> anyhow::Result<Permutation> {
    let file = std::fs::File::open(path).with_context(|| path.display().to_string())?;
    let mut text = String::new();
    std::io::Read::read_to_string(&mut std::io::Read::take(file, MAX_PERMUTATION_BYTES), &mut text)
        .with_context(|| path.display().to_string())?;
    let mut order = Vec::new();
    for (line, field) in text.lines().enumerate().map(|(i, l)| (i + 1, l.trim())).filter(|(_, l)| !l.is_empty()) {
        order.push(field.parse().with_context(|| format!("{}:{line}: '{field}' is no channel", path.display()))?);
    }
    Permutation::new(order).with_context(|| path.display().to_string())
}

fn print(args: &PermuteArgs, outcome: &Outcome) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    if args.json {
        serde_json::to_writer_pretty(&mut out, outcome)?;
        writeln!(out)?;
        return Ok(());
    }
    writeln!(out, "{}: {} channels, searched in {:.4} s", outcome.file, outcome.channels, outcome.seconds)?;
    if let Some(g) = &outcome.graph {
        writeln!(out, "mean distance {:.3} (before: {:.3})", g.linear_arrangement, g.linear_arrangement_before)?;
        writeln!(out, "in tiles of {}: {:.4} of the weight (before: {:.4})", g.tile, g.in_tile, g.in_tile_before)?;
    }
    if let Some(m) = &outcome.matrix {
        writeln!(out, "2:4 keeps {:.3} of {:.3} (before: {:.3})", m.kept, m.total, m.kept_before)?;
    }
    Ok(())
}
