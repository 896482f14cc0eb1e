//! Predicted time of operations: a roofline with a fixed cost a kernel.
//!
//! ```text
//! time = launch + max(flops / peak, bytes / bandwidth)
//! ```
//!
//! Source of the model: S. Williams, A. Waterman, D. Patterson, "Roofline: an insightful visual performance model", CACM 52(4), 2009. The figures
//! only rank alternatives of one program against each other; they are no measurements.

use crate::{
    TensorType,
    graph::{DotDims, OpKind},
};

/// What a machine does in a microsecond.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Machine {
    /// Multiplications and additions of matrix products.
    pub product_flops_per_us: f64,
    /// Other arithmetic.
    pub vector_flops_per_us: f64,
    /// Bytes moved.
    pub bytes_per_us: f64,
    /// Start of a kernel.
    pub launch_us: f64,
}

impl Machine {
    /// A data-centre GPU with tensor cores: half of the peak of an H200 (989 Tflop/s f16, 4.8 TB/s), kernels queued by a graph.
    pub const GPU: Machine = Machine { product_flops_per_us: 5.0e8, vector_flops_per_us: 3.0e7, bytes_per_us: 2.4e6, launch_us: 2.0 };
    /// Two cores with 256-bit vectors.
    pub const CPU: Machine = Machine { product_flops_per_us: 1.0e5, vector_flops_per_us: 2.0e4, bytes_per_us: 2.0e4, launch_us: 1.0 };
}

/// What an operation does, independent of the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Work {
    /// Flops of matrix products and convolutions.
    pub product_flops: f64,
    /// Other flops.
    pub vector_flops: f64,
    /// Bytes read and written.
    pub bytes: f64,
    /// Whether it is a kernel of its own. Elementwise operations and index maps join the kernel that reads or makes their operands.
    pub is_kernel: bool,
}

impl Work {
    /// Predicted microseconds.
    pub fn time_us(&self, machine: &Machine) -> f64 {
        let compute = self.product_flops / machine.product_flops_per_us + self.vector_flops / machine.vector_flops_per_us;
        let launch = if self.is_kernel { machine.launch_us } else { 0.0 };
        launch + compute.max(self.bytes / machine.bytes_per_us)
    }

    /// The work of an operation from the types of its operands and its result. Dynamic sizes count as 1.
    pub fn of(kind: &OpKind, operands: &[&TensorType], result: &TensorType) -> Self {
        let out = elems(result);
        let traffic = bytes(result) + operands.iter().map(|t| bytes(t)).sum::<f64>();
        match kind {
            OpKind::Constant(_) | OpKind::Reshape => Work::default(),
            OpKind::Iota { .. } => Work { vector_flops: out * 0.01, ..Work::default() },
            // However often it is repeated, what is read is the operand.
            OpKind::BroadcastInDim { .. } => {
                Work { vector_flops: operands.iter().map(|t| elems(t)).sum::<f64>() * 0.01, ..Work::default() }
            }
            // Parts of what is computed last, which is often narrower, rather than of what that is computed from.
            OpKind::Slice { .. } => Work { vector_flops: out * 0.01, bytes: bytes(result) * 0.01, ..Work::default() },
            OpKind::DotGeneral(dot) => {
                let k = operands.first().map_or(1.0, |t| contracted(t, &dot.dims));
                Work { product_flops: 2.0 * out * k, bytes: traffic, is_kernel: true, ..Work::default() }
            }
            OpKind::QuantizedDot(q) => {
                let [x, codes] = [0, 1].map(|i| operands.get(i));
                let k = x.and_then(|t| t.dims.last()).map_or(1.0, |d| d.max(&1).to_owned() as f64);
                let saved = codes.map_or(0.0, |t| elems(t) * (1.0 - f64::from(q.bits) / 8.0));
                Work { product_flops: 2.0 * out * k, bytes: traffic - saved, is_kernel: true, ..Work::default() }
            }
            OpKind::PackedDot(_) => {
                let k = operands.first().and_then(|t| t.dims.last()).map_or(1.0, |d| *d.max(&1) as f64);
                Work { product_flops: 2.0 * out * k, bytes: traffic, is_kernel: true, ..Work::default() }
            }
            kind if kind.is_elementwise() => Work { vector_flops: out, bytes: bytes(result) * 0.25, ..Work::default() },
            OpKind::Transpose { .. } | OpKind::ChannelMap { .. } | OpKind::ChannelUnmap { .. } => {
                Work { bytes: traffic * 2.0, ..Work::default() }
            }
            _ => Work {
                vector_flops: operands.iter().map(|t| elems(t)).sum::<f64>() + out,
                bytes: traffic,
                is_kernel: true,
                ..Work::default()
            },
        }
    }
}

fn elems(t: &TensorType) -> f64 {
    t.dims.iter().map(|&d| if d < 0 { 1.0 } else { d as f64 }).product()
}

fn bytes(t: &TensorType) -> f64 {
    elems(t) * t.dtype.bytes() as f64
}

fn contracted(lhs: &TensorType, dims: &DotDims) -> f64 {
    dims.lhs_contract.iter().filter_map(|&d| lhs.dims.get(d)).map(|&d| if d < 0 { 1.0 } else { d as f64 }).product()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DType, graph::Dot};

    #[test]
    fn one_wide_product_is_cheaper_than_three() {
        let dot = OpKind::DotGeneral(Dot {
            dims: DotDims { lhs_contract: vec![1], rhs_contract: vec![0], ..Default::default() },
            ..Default::default()
        });
        let t = |a, b| TensorType::new(DType::F16, [a, b]);
        let time = |n: usize| Work::of(&dot, &[&t(64, 384), &t(384, n)], &t(64, n)).time_us(&Machine::GPU);
        assert!(time(3 * 384) < 3.0 * time(384));
    }
}
