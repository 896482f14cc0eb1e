//! The arms that the gate compares, and the outputs of the original program.

use super::{Compiled, Compiler, Config, Events};
use anyhow::Context;
use icd_core::artifact::Artifact;
use icd_core::weights;
use icd_core::{Literal, TensorType};
use icd_runtime::gate::{Arm, Plan, Role};
use icd_runtime::{Backend, Session};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A plan without arms for the configuration's gate. Where it has held-out inputs they are copied to `folder`, and the original program's outputs on
/// them, computed on the CPU after `prepare` alone, are written beside.
///
/// # Errors
/// The model does not compile or run, inputs do not fit it, a file cannot be written.
pub fn gate_plan(config: &Config, compiler: &Compiler, folder: &Path) -> anyhow::Result<Plan> {
    let model = config.model.file.file_stem().map_or_else(|| "model".into(), |s| s.to_string_lossy().into_owned());
    let mut plan = Plan { model, arms: Vec::new(), inputs: None, reference: None, score: config.gate.score, targets: config.gate.targets };
    if let Some(inputs) = &config.model.inputs {
        let original = compiler.compile(&[&config.pipeline.prepare, "icd-fuse"], &["cpu".into()])?;
        let (name, reference) = (PathBuf::from("inputs.safetensors"), PathBuf::from("reference.safetensors"));
        std::fs::copy(inputs, folder.join(&name)).with_context(|| inputs.display().to_string())?;
        weights::write(folder.join(&reference), &outputs(&original, inputs, config.machine.threads)?, &BTreeMap::new())?;
        (plan.inputs, plan.reference) = (Some(name), Some(reference));
    }
    Ok(plan)
}

/// Outputs of an artifact on all samples of `inputs`, stacked along a leading dimension.
fn outputs(original: &Compiled, inputs: &Path, threads: usize) -> anyhow::Result<BTreeMap<String, Literal>> {
    let artifact = Artifact::open(&original.artifact)?;
    let mut session = Session::load(&artifact, Backend::Cpu, threads)?;
    let samples = icd_runtime::gate::Samples::read(inputs, session.inputs())?;
    let specs = session.outputs().to_vec();
    let mut stacked: Vec<Vec<u8>> = vec![Vec::new(); specs.len()];
    for index in 0..samples.count() {
        for (all, one) in stacked.iter_mut().zip(session.run(&samples.sample(index))?) {
            all.extend(one);
        }
    }
    let literal = |(spec, bytes): (&icd_core::manifest::TensorSpec, Vec<u8>)| {
        let shape: Vec<usize> = [samples.count()].into_iter().chain(spec.shape.iter().copied()).collect();
        Ok((spec.name.clone(), Literal::from_bytes(TensorType::new(spec.dtype, shape), bytes)?))
    };
    specs.iter().zip(stacked).map(literal).collect()
}

/// Compiles the arms into `folder/arms` and adds them to `plan`; `last` is the state that the search ended in. An arm that does not compile is left
/// out and logged.
///
/// # Errors
/// The dense arm does not compile; a file cannot be written.
pub fn compile_arms(
    config: &Config,
    compiler: &Compiler,
    last: &Compiled,
    plan: &mut Plan,
    folder: &Path,
    events: &mut Events,
) -> anyhow::Result<()> {
    let p = &config.pipeline;
    let variants: [(Role, Vec<&str>); 5] = [
        (Role::Dense, vec![]),
        (Role::Transformed, vec![&p.transform]),
        (Role::Permuted, vec![&p.permute, &p.transform]),
        (Role::NullDense, vec![&p.null]),
        (Role::NullTransformed, vec![&p.null, &p.transform]),
    ];
    std::fs::create_dir_all(folder.join("arms"))?;
    let mut compiled = vec![(Role::Repermuted, last.clone())];
    for (role, stages) in variants {
        let all: Vec<&str> = [p.prepare.as_str()].into_iter().chain(stages).chain([p.lower.as_str()]).collect();
        match compiler.compile(&all, &config.machine.targets) {
            Ok(variant) => compiled.push((role, variant)),
            Err(error) if role == Role::Dense => return Err(error),
            Err(error) => events.log("arm left out", json!({ "arm": role, "reason": format!("{error:#}") }))?,
        }
    }
    compiled.sort_by_key(|(role, _)| *role);
    for (role, variant) in compiled {
        let artifact = PathBuf::from("arms").join(format!("{}.icd", role.name()));
        let path = folder.join(&artifact);
        std::fs::copy(&variant.artifact, &path).with_context(|| path.display().to_string())?;
        events.log("arm", json!({ "arm": role, "pipeline": variant.pipeline, "cached": variant.cached }))?;
        plan.arms.push(Arm { role, artifact, pipeline: variant.pipeline, digest: variant.digest.to_hex().to_string() });
    }
    Ok(())
}
