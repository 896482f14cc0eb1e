//! Layers that share their input: its map, its statistics, and what becomes of the weights.

use super::run::{FinishedWeights, Run, Streams, parse_report};
use super::{LayerReport, Method, OutputMapping};
use crate::arch::{LinearSpec, Weights};
use crate::encode::{encode, permutation};
use crate::error::{CheckpointError, Result};
use crate::layer::{InputTransform, transpose};
use crate::layout::formats::{Formats, Layout};
use crate::layout::{self, Encoded, Written, compressed_tensors, float8, gptq, sparse, vectors};
use crate::ops::matmul::Order;
use crate::preprocess::{Preprocess, clip, output_error, relative_square, searches_clip};
use crate::run;
use crate::scheme::WeightForm;
use crate::statistics::{Capture, Hessians, Input, Observer, stride, transformed};
use icd_core::DType;
use icd_quant::{ActivationAware, Calibration, CalibrationError, Matrix, OutputMap, QuantError, Rtn, retarget};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// How far compensation may move a weight: the ridge of [`retarget`], as a fraction of the Hessian's mean diagonal.
const RIDGE: f64 = 0.01;

/// What a group's layers are made from.
struct Ground<'i> {
    transform: InputTransform,
    map: String,
    input: Option<&'i Input>,
    /// Statistics of what the transform makes of the input; paired with the original model's in compensation. Several: of neighbouring channels,
    /// which are quantized on their own; none without text.
    statistics: Vec<Cow<'i, Calibration>>,
}

fn name_of(map: &OutputMap) -> &'static str {
    if map.is_interleaved() { "scaled, interleaved" } else { "scaled" }
}

impl Run<'_> {
    pub(super) fn observe(&self, block: usize, streams: Streams<'_>, specs: &[LinearSpec]) -> Result<BTreeMap<&'static str, Input>> {
        let observer = Observer::new(&self.original, specs, streams.batch.tokens.len()).with(self.options.hessians()).on(self.on);
        run::over(self.arch, block, streams.batch, &observer, streams.quantized, |_, _| Ok(()))?;
        Ok(observer.finish())
    }

    fn weight(&self, spec: &LinearSpec) -> Result<Vec<f32>> {
        let (order, weight, _) = layout::read(self.folder, &Formats::default(), spec)?;
        if let Some(at) = weight.iter().position(|v| !v.is_finite()) {
            let what = format!("element {at} of its weight is {}; the checkpoint is damaged", weight.get(at).copied().unwrap_or(f32::NAN));
            return Err(CheckpointError::Layer { layer: spec.name.clone(), what });
        }
        Ok(match order {
            Order::InputMajor => weight,
            Order::OutputMajor => transpose(&weight, spec.n),
        })
    }

    /// Whether the layers that read `input` look for a map of it, rather than none or one in the weights.
    fn searches(&self, input: &str) -> bool {
        match (self.options.preprocess, self.options.method) {
            (Preprocess::None, method) => method == Method::Awq && !self.folded.contains_key(input),
            // The rotation is on top of what went into the weights.
            (Preprocess::Axes, _) => true,
            _ => !self.folded.contains_key(input),
        }
    }

    /// Whether something is done to `input` before the layers that read it, beyond rounding.
    pub(super) fn maps(&self, input: &str) -> bool {
        self.searches(input) || self.options.sparsity.is_some_and(|s| s.permute) || searches_clip(self.options.scheme)
    }

    /// The map of an input and its name.
    fn map(&self, members: &[&LinearSpec], input: Option<&Input>) -> Result<(InputTransform, String)> {
        let none = || (self.options.rounding(), "none".to_string());
        let Some(first) = members.first() else { return Ok(none()) };
        let Some(input) = input else {
            let name = self.folded.get(first.input).cloned().unwrap_or_else(|| "none".into());
            return Ok((none().0, name));
        };
        let layer_error = |e: QuantError| CheckpointError::Layer { layer: first.name.clone(), what: e.to_string() };
        let permutes = self.options.sparsity.filter(|s| s.permute);
        let searches = self.searches(first.input);
        let folded = self.folded.get(first.input);
        let (mut transform, mut name) = none();
        if let Some(folded) = folded {
            name.clone_from(folded);
        }
        let clips = searches_clip(self.options.scheme);
        if !self.maps(first.input) {
            return Ok((transform, name));
        }
        let weights = members.iter().map(|s| self.weight(s)).collect::<Result<Vec<_>>>()?;
        let matrices: Vec<Matrix<'_>> = members.iter().zip(&weights).map(|(s, w)| Matrix { k: s.k, n: s.n, data: w }).collect();
        let grid = self.options.probe_grid(first)?;
        if searches && self.options.method == Method::Awq {
            let found = ActivationAware::search(&input.calibration, &matrices, &Rtn, grid).map_err(layer_error)?;
            transform.scale = Some(found.scales.iter().map(|s| 1.0 / s).collect());
            name = format!("awq exponent {}", found.exponent);
        } else if searches {
            (transform, name) = self.options.preprocess.choose(input, &matrices, &transform, grid).map_err(layer_error)?;
            if let Some(folded) = folded {
                name = format!("{folded}, {name}");
            }
        }
        if let Some(sparsity) = permutes {
            let statistics = transformed(&input.calibration, &transform, &first.name)?;
            let mapped: Vec<Vec<f32>> = matrices.iter().map(|m| transform.map_weight(m.data, m.n)).collect();
            let mapped: Vec<Matrix<'_>> = matrices.iter().zip(&mapped).map(|(m, data)| Matrix { data, ..*m }).collect();
            if transform.is_exact_identity()
                && let Some(order) = permutation(sparsity, &mapped, &statistics, &first.name)?
            {
                transform.order = Some(order);
                name = "order".into();
            }
        }
        if clips {
            transform.clip = clip(input, &matrices, &transform);
            if let Some(part) = transform.clip {
                name = format!("{name}, range {part}");
            }
        }
        Ok((transform, name))
    }

    /// Quantizes layers that share their input, calibrated on it, and keeps them in the store.
    pub(super) fn group(&self, members: &[&LinearSpec], keys: &[blake3::Hash], input: Option<&Input>) -> Result<Vec<LayerReport>> {
        let Some(first) = members.first() else { return Ok(Vec::new()) };
        let (transform, map) = self.map(members, input)?;
        let statistics = match input {
            Some(input) if !input.parts.is_empty() => input.parts.iter().map(Cow::Borrowed).collect(),
            Some(input) => vec![transformed(&input.calibration, &transform, &first.name)?],
            None => Vec::new(),
        };
        self.layers(members, keys, &Ground { transform, map, input, statistics })
    }

    /// As [`Run::group`] where Hessians are in blocks and the input has a map: they are those of what the map makes of it.
    pub(super) fn mapped_group(
        &self,
        block: usize,
        members: &[&LinearSpec],
        keys: &[blake3::Hash],
        streams: Streams<'_>,
    ) -> Result<Vec<LayerReport>> {
        let Some(&first) = members.first() else { return Ok(Vec::new()) };
        let mut input = self.looked_at(block, first, streams, &self.original)?;
        let (transform, map) = self.map(members, Some(&input))?;
        input.parts = self.options.hessians().parts(first.k).into_iter().map(Calibration::new).collect();
        if input.parts.is_empty() {
            input.parts.push(Calibration::new(first.k));
        }
        let layer = |e: CalibrationError| CheckpointError::Layer { layer: first.name.clone(), what: e.to_string() };
        for (done, step) in run::steps(self.arch, streams.batch) {
            let capture = Capture::new(&self.original, first);
            self.arch.block(block, &step, &capture, streams.quantized.read(done..done + step.tokens.len())?)?;
            let x = transform.map(&capture.finish(first)?);
            let mut from = 0;
            for part in &mut input.parts {
                let rows = x.columns(from, part.k()).data;
                match self.on {
                    Some(on) => part.observe_on(on, &rows).map_err(layer)?,
                    None => part.observe(&rows).map_err(layer)?,
                }
                from += part.k();
            }
        }
        self.original.forget();
        let statistics = input.parts.iter().map(Cow::Borrowed).collect();
        self.layers(members, keys, &Ground { transform, map, input: Some(&input), statistics })
    }

    /// What the layer `first` reads in a block that runs as `weights` do, without a Hessian.
    fn looked_at(&self, block: usize, first: &LinearSpec, streams: Streams<'_>, weights: &dyn Weights) -> Result<Input> {
        let tokens = streams.batch.tokens.len();
        let observer = Observer::new(weights, std::slice::from_ref(first), tokens).with(Hessians::None);
        run::over(self.arch, block, streams.batch, &observer, streams.quantized, |_, _| Ok(()))?;
        let missing = || CheckpointError::Layer { layer: first.name.clone(), what: "did not run in its block".into() };
        observer.finish().remove(first.input).ok_or_else(missing)
    }

    /// As [`Run::group`], each layer aimed at the output that the original model has.
    pub(super) fn aimed_group(
        &self,
        block: usize,
        members: &[&LinearSpec],
        keys: &[blake3::Hash],
        streams: Streams<'_>,
        weights: &FinishedWeights<'_>,
    ) -> Result<Vec<LayerReport>> {
        let Some(&first) = members.first() else { return Ok(Vec::new()) };
        let (transform, map) = match self.maps(first.input) {
            true => self.map(members, Some(&self.looked_at(block, first, streams, weights)?))?,
            false => self.map(members, None)?,
        };
        let wrong = |e: CalibrationError| CheckpointError::Layer { layer: first.name.clone(), what: e.to_string() };
        let mut input = Input::paired(first.k, self.options.hessians());
        let stride = stride(streams.batch.tokens.len());
        for (done, step) in run::steps(self.arch, streams.batch) {
            let (mut quantized, mut exact) = (Capture::new(weights, first), Capture::new(&self.original, first));
            for (stream, capture) in [(streams.quantized, &mut quantized), (streams.exact, &mut exact)] {
                self.arch.block(block, &step, capture, stream.read(done..done + step.tokens.len())?)?;
            }
            let (x, reference) = (quantized.finish(first)?, exact.finish(first)?);
            let (mapped, mapped_reference) = (transform.apply(&x), transform.map(&reference));
            let mut from = 0;
            for part in &mut input.parts {
                let k = part.k();
                let (rows, reference) = (mapped.columns(from, k).data, mapped_reference.columns(from, k).data);
                match self.on {
                    Some(on) => part.observe_pair_on(on, &rows, &reference).map_err(wrong)?,
                    None => part.observe_pair(&rows, &reference).map_err(wrong)?,
                }
                from += k;
            }
            input.keep_sample(&x, &reference, done, stride);
        }
        self.original.forget();
        weights.forget();
        let statistics = input.parts.iter().map(Cow::Borrowed).collect();
        self.layers(members, keys, &Ground { transform, map, input: Some(&input), statistics })
    }

    /// The map of a layer's outputs; none where it is not asked for or all are alike.
    fn output_map(&self, spec: &LinearSpec) -> Result<Option<OutputMap>> {
        let Some(importance) = self.importance.get(&spec.name) else { return Ok(None) };
        let interleaved = self.options.output_map == OutputMapping::Interleave;
        OutputMap::new(importance, interleaved).map_err(|e| CheckpointError::Layer { layer: spec.name.clone(), what: e.to_string() })
    }

    fn layers(&self, members: &[&LinearSpec], keys: &[blake3::Hash], ground: &Ground<'_>) -> Result<Vec<LayerReport>> {
        let mut reports = Vec::new();
        for (spec, key) in members.iter().zip(keys) {
            let (report, tensors) = self.layer(spec, ground)?;
            let text = serde_json::to_string(&report).map_err(|e| CheckpointError::Text(e.to_string()))?;
            // Read back, as going on after a stop does: the same digits either way.
            reports.push(parse_report(&text)?);
            self.store.put(key, &tensors, text)?;
        }
        Ok(reports)
    }

    /// What a layer whose weight is `target` needs added to its bias: the mean of the original output less that of the new one.
    fn shift(statistics: &[Cow<'_, Calibration>], mapped: &[f32], found: &[f32], n: usize) -> Option<Vec<f32>> {
        let mean: Vec<f32> = statistics.iter().flat_map(|s| s.mean()).collect();
        let reference: Vec<f32> = statistics.iter().map(|s| s.reference_mean()).collect::<Option<Vec<_>>>()?.concat();
        let product = |mean: &[f32], weight: &[f32]| {
            let mut out = vec![0f64; n];
            for (row, m) in weight.chunks(n.max(1)).zip(mean) {
                out.iter_mut().zip(row).for_each(|(o, w)| *o += f64::from(*m) * f64::from(*w));
            }
            out
        };
        let (exact, now) = (product(&reference, mapped), product(&mean, found));
        Some(exact.iter().zip(now).map(|(a, b)| (a - b) as f32).collect())
    }

    fn layer(&self, spec: &LinearSpec, ground: &Ground<'_>) -> Result<(LayerReport, Written)> {
        let weight = self.weight(spec)?;
        let (k, n, transform) = (spec.k, spec.n, &ground.transform);
        let matrix = Matrix { k, n, data: &weight };
        let mapped = match transform.is_exact_identity() {
            true => Cow::Borrowed(&weight),
            false => Cow::Owned(transform.map_weight(&weight, n)),
        };
        let bias_name = format!("{}.bias", spec.name);
        let has_bias = self.folder.tensor_type(&bias_name).is_some();
        let paired = Some(ground.statistics.as_slice()).filter(|s| self.options.compensate && !s.is_empty());
        let (mut aim, mut statistics) = (None, Cow::Borrowed(ground.statistics.as_slice()));
        if let Some(paired) = paired {
            let used: Vec<_> = paired.iter().map(|s| if has_bias { Cow::Owned(s.centered()) } else { Cow::Borrowed(s.as_ref()) }).collect();
            let (mut moved, mut rest) = (Vec::with_capacity(mapped.len()), mapped.as_slice());
            for part in &used {
                let (own, later) = rest.split_at_checked(part.k() * n).unwrap_or((rest, &[]));
                let found = retarget(Matrix { k: part.k(), n, data: own }, part, RIDGE)
                    .map_err(|e| CheckpointError::Layer { layer: spec.name.clone(), what: e.to_string() })?;
                moved.extend(found);
                rest = later;
            }
            (aim, statistics) = (Some(moved), Cow::Owned(used));
        }
        let target = Matrix { k, n, data: aim.as_deref().unwrap_or(&mapped) };
        let wanted = self.wanted(spec)?;
        let outputs = self.output_map(spec)?;
        let mut attempts = vec![(wanted, self.options.sparsity), (WeightForm::Integers(8), None)];
        attempts.dedup();
        let mut note = None::<String>;
        // What came before was for all layers of the block.
        self.on.map(|on| on.take_seconds());
        for (form, sparsity) in attempts {
            let (encoded, notes) = match encode(self.options, self.on, form, sparsity, target, &statistics, outputs.as_ref()) {
                Ok(encoded) => encoded,
                Err(e @ QuantError::Device(_)) => return Err(CheckpointError::Layer { layer: spec.name.clone(), what: e.to_string() }),
                Err(e) => {
                    note = Some(format!("{form:?} failed: {e}"));
                    continue;
                }
            };
            let found = encoded.dequantize();
            let shift = match (paired, has_bias) {
                (Some(paired), true) => Self::shift(paired, &mapped, &found, n),
                _ => None,
            };
            let error = ground.input.map(|i| output_error(i, matrix, transform, &found, shift.as_deref()));
            if let (Some(limit), Some(cost)) = (self.options.tolerance, error)
                && (cost > limit || !cost.is_finite())
            {
                note = Some(format!("{form:?} costs {cost:.3e} of the output, more than {limit:.3e}"));
                continue;
            }
            let weight_error = relative_square(&found, &mapped).sqrt();
            drop(found);
            let mut tensors = self.tensors(spec, &encoded, transform)?;
            let output_map = encoded.output_map().map(|map| name_of(map).to_string());
            drop(encoded);
            let bits: usize = tensors.values().map(|t| 8 * t.ty().bytes().unwrap_or(0)).sum();
            if let Some(shift) = shift {
                let stored = self.folder.tensor(&bias_name)?;
                let bias = self.folder.floats(&bias_name, &[n])?;
                let moved: Vec<f32> = bias.iter().zip(&shift).map(|(b, s)| b + s).collect();
                layout::put_as(&mut tensors, bias_name.clone(), stored.ty().dtype, &[n], &moved)?;
            }
            let report = LayerReport {
                name: spec.name.clone(),
                form: Some(form),
                sparse: sparsity.is_some(),
                bits_per_weight: bits as f64 / (k * n).max(1) as f64,
                input_map: ground.map.clone(),
                output_map,
                weight_error,
                output_error: error,
                note: note.or(notes.fallback),
                device_seconds: self.on.map(|on| on.take_seconds()),
            };
            return Ok((report, tensors));
        }
        let name = format!("{}.weight", spec.name);
        let tensor = self.folder.tensor(&name)?;
        let report = LayerReport {
            name: spec.name.clone(),
            form: None,
            sparse: false,
            bits_per_weight: 8.0 * tensor.ty().bytes().unwrap_or(0) as f64 / (k * n).max(1) as f64,
            input_map: "none".into(),
            output_map: None,
            weight_error: 0.0,
            output_error: None,
            note: note.map(|n| format!("keeps its weights: {n}")),
            device_seconds: None,
        };
        Ok((report, Written::from([(name, tensor)])))
    }

    fn tensors(&self, spec: &LinearSpec, encoded: &Encoded, transform: &InputTransform) -> Result<Written> {
        let mut out = match encoded {
            Encoded::Codes(coded) => match self.options.layout {
                Layout::Gptq | Layout::GptqV1 => gptq::write(&spec.name, coded, self.options.layout)?,
                _ if coded.bits == 8 && self.options.scheme.activation.is_some() && coded.groups() == 1 && coded.symmetric => {
                    compressed_tensors::write_integers(&spec.name, coded)?
                }
                _ => compressed_tensors::write(&spec.name, coded)?,
            },
            Encoded::Vectors(found) => vectors::write(&spec.name, found)?,
            Encoded::Float8(found) => float8::write(&spec.name, found)?,
            Encoded::Sparse(found) => sparse::write(&spec.name, found)?,
        };
        let name = |part: &str| format!("{}.{part}", spec.name);
        if let Some(order) = &transform.order {
            layout::put_words(&mut out, name(layout::INPUT_ORDER), &[spec.k], order)?;
        }
        if let Some(clip) = transform.clip {
            layout::put_as(&mut out, name(layout::INPUT_CLIP), DType::F32, &[1], &[clip])?;
        }
        if let Some(scale) = &transform.scale {
            layout::put_as(&mut out, name(layout::INPUT_SCALE), DType::F32, &[spec.k], scale)?;
        }
        if transform.rotation.is_some() {
            let seed = crate::preprocess::SEED.to_le_bytes().to_vec();
            layout::put(&mut out, name(layout::INPUT_ROTATION), DType::I64, &[1], seed)?;
        }
        Ok(out)
    }
}
