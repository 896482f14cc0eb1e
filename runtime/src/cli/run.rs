//! `icd-run MODEL run`

use super::{DeviceArgs, Failure, InputArgs, as_slices, as_slices_mut, print};
use crate::tensors;
use clap::Args;
use icd_core::{Literal, TensorType, artifact::Artifact, manifest::TensorSpec};
use std::path::PathBuf;

#[derive(Args)]
pub(super) struct RunArgs {
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    inputs: InputArgs,
    /// Write the outputs by name
    #[arg(short, long, value_name = "FILE.safetensors")]
    output: Option<PathBuf>,
    /// Calls; the last one's outputs are shown or written
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    repeat: u32,
}

/// Elements of an output that are shown when it is not written to a file.
const SHOWN: usize = 8;

pub(super) fn run(artifact: &Artifact, args: &RunArgs) -> Result<(), Failure> {
    let mut session = args.device.load(artifact)?;
    let inputs = args.inputs.read(&session, true)?;
    let mut outputs = session.allocate_outputs()?;
    for _ in 0..args.repeat {
        session.run_into(&as_slices(&inputs), &mut as_slices_mut(&mut outputs))?;
    }
    match &args.output {
        Some(path) => {
            let slices: Vec<&[u8]> = as_slices(&outputs);
            tensors::write_outputs(path, session.outputs(), &slices)?;
            eprintln!("icd-run: wrote {} ({})", path.display(), session.backend());
        }
        None => session.outputs().iter().zip(&outputs).for_each(|(spec, bytes)| print(&shown(spec, bytes))),
    }
    Ok(())
}

fn shown(spec: &TensorSpec, bytes: &[u8]) -> String {
    let head = format!("{}: {} {:?}", spec.name, spec.dtype, spec.shape);
    let ty = TensorType::new(spec.dtype, spec.shape.iter().copied());
    let values = Literal::from_bytes(ty, bytes).ok().and_then(|literal| literal.to_f32());
    match values {
        Some(values) => {
            let first: Vec<String> = values.iter().take(SHOWN).map(f32::to_string).collect();
            let rest = if values.len() > SHOWN { ", …" } else { "" };
            format!("{head} = {}{rest}\n", first.join(", "))
        }
        None => format!("{head} ({} bytes)\n", bytes.len()),
    }
}
