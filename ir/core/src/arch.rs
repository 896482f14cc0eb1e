//! GPU architectures that kernels are generated for, with the limits that decide which tiles fit.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

macro_rules! arches {
    ($($variant:ident $name:literal $sm:literal $regs:literal $smem_block:literal $smem_sm:literal $sms:literal;)*) => {
        /// A target of code generation, by the name that `--arch` and LLVM's `-mcpu` take.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(into = "String", try_from = "String")]
        #[allow(missing_docs, reason = "each variant is its name")]
        pub enum Arch { $($variant),* }

        impl Arch {
            /// Every architecture, oldest first.
            pub const ALL: &'static [Arch] = &[$(Arch::$variant),*];
            /// `sm_80`, `sm_90a`.
            pub const fn name(self) -> &'static str { match self { $(Arch::$variant => $name),* } }
            /// Compute capability times ten.
            pub const fn sm(self) -> u32 { match self { $(Arch::$variant => $sm),* } }
            /// Registers of one multiprocessor.
            pub const fn registers(self) -> u32 { match self { $(Arch::$variant => $regs),* } }
            /// Largest dynamic shared memory of one block, in bytes.
            pub const fn shared_bytes_per_block(self) -> u32 { match self { $(Arch::$variant => $smem_block * 1024),* } }
            /// Shared memory of one multiprocessor, in bytes; each resident block takes 1 KiB beside its own.
            pub const fn shared_bytes_per_sm(self) -> u32 { match self { $(Arch::$variant => $smem_sm * 1024),* } }
            /// Multiprocessors of the usual part; a runtime that knows its device says better.
            pub const fn multiprocessors(self) -> u32 { match self { $(Arch::$variant => $sms),* } }
        }
    };
}

arches! {
    Sm80 "sm_80" 80 65536 163 164 108;
    Sm86 "sm_86" 86 65536 99 100 84;
    Sm89 "sm_89" 89 65536 99 100 128;
    Sm90a "sm_90a" 90 65536 227 228 132;
    Sm100a "sm_100a" 100 65536 227 228 148;
    Sm120a "sm_120a" 120 65536 99 100 170;
}

impl Arch {
    /// Bulk copies (`cp.async.bulk`), `mbarrier` transaction counts and programmatic dependent launch.
    pub const fn has_bulk_copy(self) -> bool {
        self.sm() >= 90
    }
    /// `wgmma`: Hopper alone.
    pub const fn has_wgmma(self) -> bool {
        self.sm() == 90
    }
}

/// The name is no known architecture.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown GPU architecture '{0}': use one of sm_80, sm_86, sm_89, sm_90a, sm_100a, sm_120a")]
pub struct UnknownArch(pub String);

impl FromStr for Arch {
    type Err = UnknownArch;
    fn from_str(s: &str) -> Result<Self, UnknownArch> {
        Arch::ALL.iter().copied().find(|a| a.name() == s).ok_or_else(|| UnknownArch(s.into()))
    }
}

impl TryFrom<String> for Arch {
    type Error = UnknownArch;
    fn try_from(s: String) -> Result<Self, UnknownArch> {
        s.parse()
    }
}

impl From<Arch> for String {
    fn from(a: Arch) -> String {
        a.name().into()
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
