//! Element types: name in MLIR, width, and how one element lies in a [`crate::Literal`].

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// Broad class of an element type, for dispatch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    Bool,
    Signed,
    Unsigned,
    Float,
    Complex,
}

macro_rules! dtypes {
    ($($variant:ident $name:literal $class:ident $bits:literal $storage:literal;)*) => {
        /// Element type of a tensor. Integers that MLIR calls signless (`i8`) are signed here; `ui8` is unsigned.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(into = "String", try_from = "String")]
        #[allow(missing_docs, reason = "each variant is its MLIR name")]
        pub enum DType { $($variant),* }

        impl DType {
    /// The byte that holds an integer under a byte whose bits are the lowest of `byte`: sign- or zero-extended. Other types keep the byte.
    pub fn extend(self, byte: u8) -> u8 {
        let unused = 8u32.saturating_sub(self.bits() as u32);
        match self.class() {
            Class::Signed => ((byte << unused) as i8 >> unused) as u8,
            Class::Unsigned => byte << unused >> unused,
            _ => byte,
        }
    }
            /// Every element type, in declaration order.
            pub const ALL: &'static [DType] = &[$(DType::$variant),*];

            /// The name in MLIR text: `f32`, `ui8`, `complex<f32>`.
            pub const fn name(self) -> &'static str { match self { $(DType::$variant => $name),* } }
            /// Broad class.
            pub const fn class(self) -> Class { match self { $(DType::$variant => Class::$class),* } }
            /// Width in bits of the value itself.
            pub const fn bits(self) -> usize { match self { $(DType::$variant => $bits),* } }
            /// Bytes that one element takes in memory; types under a byte take a whole one (sign- or zero-extended).
            pub const fn bytes(self) -> usize { match self { $(DType::$variant => $storage),* } }
        }
    };
}

dtypes! {
    I1 "i1" Bool 1 1;
    I2 "i2" Signed 2 1;
    I4 "i4" Signed 4 1;
    I8 "i8" Signed 8 1;
    I16 "i16" Signed 16 2;
    I32 "i32" Signed 32 4;
    I64 "i64" Signed 64 8;
    U2 "ui2" Unsigned 2 1;
    U4 "ui4" Unsigned 4 1;
    U8 "ui8" Unsigned 8 1;
    U16 "ui16" Unsigned 16 2;
    U32 "ui32" Unsigned 32 4;
    U64 "ui64" Unsigned 64 8;
    F4E2M1FN "f4E2M1FN" Float 4 1;
    F6E2M3FN "f6E2M3FN" Float 6 1;
    F6E3M2FN "f6E3M2FN" Float 6 1;
    F8E3M4 "f8E3M4" Float 8 1;
    F8E4M3 "f8E4M3" Float 8 1;
    F8E4M3FN "f8E4M3FN" Float 8 1;
    F8E4M3FNUZ "f8E4M3FNUZ" Float 8 1;
    F8E4M3B11FNUZ "f8E4M3B11FNUZ" Float 8 1;
    F8E5M2 "f8E5M2" Float 8 1;
    F8E5M2FNUZ "f8E5M2FNUZ" Float 8 1;
    F8E8M0FNU "f8E8M0FNU" Float 8 1;
    BF16 "bf16" Float 16 2;
    F16 "f16" Float 16 2;
    F32 "f32" Float 32 4;
    F64 "f64" Float 64 8;
    C64 "complex<f32>" Complex 64 8;
    C128 "complex<f64>" Complex 128 16;
}

impl DType {
    /// Integer of either signedness, not `i1`.
    pub const fn is_int(self) -> bool {
        matches!(self.class(), Class::Signed | Class::Unsigned)
    }
    /// Real floating point.
    pub const fn is_float(self) -> bool {
        matches!(self.class(), Class::Float)
    }
    /// Complex.
    pub const fn is_complex(self) -> bool {
        matches!(self.class(), Class::Complex)
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The text is not the name of an element type.
#[derive(Debug, thiserror::Error)]
#[error("unknown element type '{0}'")]
pub struct UnknownDType(String);

impl FromStr for DType {
    type Err = UnknownDType;
    fn from_str(text: &str) -> Result<Self, UnknownDType> {
        DType::ALL.iter().copied().find(|t| t.name() == text).ok_or_else(|| UnknownDType(text.into()))
    }
}

impl From<DType> for String {
    fn from(t: DType) -> String {
        t.name().into()
    }
}

impl TryFrom<String> for DType {
    type Error = UnknownDType;
    fn try_from(s: String) -> Result<Self, UnknownDType> {
        s.parse()
    }
}
