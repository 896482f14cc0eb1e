//! What machine a measurement was made on.

use crate::cuda::DeviceInfo;
use serde::Serialize;
use std::fs;

/// Names and values that tell machines apart.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Machine {
    /// Processor model.
    pub cpu: String,
    /// Cores that this process may use.
    pub cores: usize,
    /// Memory, in bytes; 0 if unknown.
    pub memory_bytes: u64,
    /// Operating system kernel.
    pub system: String,
    /// CUDA device, with driver, if one is used.
    pub gpu: Option<String>,
}

impl Machine {
    /// Reads it from the system.
    pub fn read(device: Option<&DeviceInfo>) -> Self {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let field =
            |name: &str| cpuinfo.lines().find_map(|line| line.strip_prefix(name)?.split_once(": ").map(|(_, value)| value.to_string()));
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse::<u64>().ok());
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Machine {
            cpu: field("model name").unwrap_or_else(|| std::env::consts::ARCH.into()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_bytes: total.unwrap_or(0) << 10,
            system: format!("{} {}", std::env::consts::OS, release.trim()).trim().to_string(),
            gpu: device.map(|d| format!("{} ({}, driver for CUDA {})", d.name, d.arch, d.driver)),
        }
    }

    /// Names and values, for a report.
    pub fn facts(&self) -> Vec<(String, String)> {
        let mut facts = vec![
            ("cpu".to_string(), format!("{}, {} cores", self.cpu, self.cores)),
            ("memory".to_string(), format!("{:.1} GiB", self.memory_bytes as f64 / (1u64 << 30) as f64)),
            ("system".to_string(), self.system.clone()),
        ];
        facts.extend(self.gpu.clone().map(|gpu| ("gpu".to_string(), gpu)));
        facts
    }
}
