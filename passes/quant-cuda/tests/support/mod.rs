//! The device of the tests, and test data.

#[path = "../../../quant/tests/noise/mod.rs"]
mod data;

pub(crate) use data::noise;
use icd_quant_cuda::Cuda;

/// The first device, if there is one: where the driver has one, it must open.
pub(crate) fn device() -> Option<Cuda> {
    match Cuda::open(0) {
        Ok(cuda) => Some(cuda),
        Err(error) => {
            eprintln!("SKIPPED: {error}");
            assert!(!std::path::Path::new("/dev/nvidia0").exists(), "{error}");
            None
        }
    }
}
