//! Energy counters: NVML for a CUDA device, RAPL for the CPU. Where there is none, the reason is kept instead.

use crate::cuda::DeviceInfo;
use nvml_wrapper::Nvml;
use std::{fs, path::PathBuf, time::Instant};

/// How long energy is measured for.
pub const SECONDS: f64 = 1.0;

/// A counter of joules.
pub enum EnergyMeter {
    /// NVML's counter of a device.
    Nvml(Box<Nvml>, String),
    /// RAPL packages: counter file, and the value at which it wraps, in microjoules.
    Rapl(Vec<(PathBuf, u64)>),
    /// Nothing can be read; why.
    None(String),
}

#[derive(Clone, Debug, PartialEq)]
struct Reading(Vec<u64>);

impl EnergyMeter {
    /// The counter of the CUDA device, or of the CPU if there is none.
    pub fn open(device: Option<&DeviceInfo>) -> Self {
        match device {
            Some(device) => Self::open_nvml(device).unwrap_or_else(|e| EnergyMeter::None(format!("not measured: NVML: {e}"))),
            None => Self::open_rapl(),
        }
    }

    fn open_nvml(device: &DeviceInfo) -> Result<Self, nvml_wrapper::error::NvmlError> {
        let nvml = Nvml::init()?;
        nvml.device_by_pci_bus_id(device.pci_bus_id.as_str())?.total_energy_consumption()?;
        Ok(EnergyMeter::Nvml(Box::new(nvml), device.pci_bus_id.clone()))
    }

    fn open_rapl() -> Self {
        let none = |why: &str| EnergyMeter::None(format!("not measured: {why}"));
        let Ok(entries) = fs::read_dir("/sys/class/powercap") else { return none("no RAPL counters on this machine") };
        let is_package = |name: &str| name.strip_prefix("intel-rapl:").is_some_and(|rest| !rest.contains(':'));
        let mut paths: Vec<PathBuf> =
            entries.flatten().filter(|e| e.file_name().to_str().is_some_and(is_package)).map(|e| e.path()).collect();
        paths.sort();
        if paths.is_empty() {
            return none("no RAPL counters on this machine");
        }
        let number = |path: &PathBuf| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
        let counters: Option<Vec<_>> = paths
            .iter()
            .map(|path| {
                let counter = path.join("energy_uj");
                number(&counter)?;
                Some((counter, number(&path.join("max_energy_range_uj"))?))
            })
            .collect();
        counters.map_or_else(|| none("RAPL counters are readable by root only"), EnergyMeter::Rapl)
    }

    fn read(&self) -> Option<Reading> {
        match self {
            EnergyMeter::Nvml(nvml, bus) => {
                nvml.device_by_pci_bus_id(bus.as_str()).ok()?.total_energy_consumption().ok().map(|millijoules| Reading(vec![millijoules]))
            }
            EnergyMeter::Rapl(counters) => {
                counters.iter().map(|(path, _)| fs::read_to_string(path).ok()?.trim().parse().ok()).collect::<Option<_>>().map(Reading)
            }
            EnergyMeter::None(_) => None,
        }
    }

    /// Joules a call, or why they are not known. Repeats `calls`, which returns how many calls it made, for [`SECONDS`], since counters move
    /// only every few hundredths of a second; not at all without a counter.
    pub fn joules_a_call<E>(&self, mut calls: impl FnMut() -> Result<usize, E>) -> Result<Result<f64, String>, E> {
        if let EnergyMeter::None(why) = self {
            return Ok(Err(why.clone()));
        }
        let (start, before) = (Instant::now(), self.read());
        let mut done = 0usize;
        while start.elapsed().as_secs_f64() < SECONDS {
            done += calls()?.max(1);
        }
        Ok(self.joules(&before, &self.read()).map(|joules| joules / done.max(1) as f64))
    }

    fn joules(&self, from: &Option<Reading>, to: &Option<Reading>) -> Result<f64, String> {
        match (self, from, to) {
            (EnergyMeter::None(why), ..) => Err(why.clone()),
            (EnergyMeter::Nvml(..), Some(from), Some(to)) => {
                Ok(to.0.iter().zip(&from.0).map(|(to, from)| to.saturating_sub(*from) as f64 * 1e-3).sum())
            }
            (EnergyMeter::Rapl(counters), Some(from), Some(to)) => {
                let used = |(to, from): (&u64, &u64), wraps: u64| if to >= from { to - from } else { to + wraps.saturating_sub(*from) };
                Ok(to.0.iter().zip(&from.0).zip(counters).map(|(pair, (_, wraps))| used(pair, *wraps) as f64 * 1e-6).sum())
            }
            _ => Err("not measured: the energy counter stopped answering".into()),
        }
    }
}
