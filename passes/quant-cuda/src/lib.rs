//! The heavy steps of the weight quantizers on an NVIDIA GPU: sums of products, the factor of a Hessian, and the sweeps over channels.
//!
//! [`Cuda`] is an [`icd_quant::Accelerator`]. Nothing of CUDA is needed to build or to start: the driver (`libcuda`) and the library of matrix
//! products (`libcublas`, 11 to 13) are looked for when a device is opened, on the usual library path. The kernels travel as PTX for sm_80, which
//! the driver compiles for the device at hand; `icd-codegen` generates them and its tests compare.
//!
//! Arithmetic is f32 without reduced-precision products. On one device with the same libraries a result is the same each time: kernels add up in a
//! fixed order, or in integers. It differs from the processor's by the rounding of sums.

mod blas;
mod descent;
mod device;
mod error;
mod factor;
mod gptq;
mod kernels;
mod refine;
mod vectors;

pub use device::Cuda;
pub use error::CudaError;
