//! Constant weights of a program on their way into a kernel's order: unpacked, looked at, packed again.

use icd_core::{
    Literal,
    pack_format::{KOrder, PackFormat, WeightFormat},
};
use icd_quant::pack::{self, CodeWidth, Codes, ElementOrder, Floats, PackError, Packer, UnpackedCodes, Weights};

/// A constant weight matrix in plain order.
pub(super) enum PlainWeights {
    /// Codes, scales and zero points.
    Codes(UnpackedCodes),
    /// Elements of 16 bits, little-endian, or of 8.
    Elements(Vec<u8>, ElementOrder),
}

impl PlainWeights {
    /// What a program's packed weight holds.
    pub(super) fn unpack(have: &PackFormat, weight: &Literal) -> Result<Self, PackError> {
        let bytes = weight.to_bytes();
        Ok(match have.weight {
            WeightFormat::W3 { .. } | WeightFormat::W4 { .. } => Self::Codes(pack::unpack_codes(have, &bytes)?),
            WeightFormat::Dense => {
                let bits = pack::unpack_dense(have, &bytes)?;
                Self::Elements(bits.into_iter().flat_map(u16::to_le_bytes).collect(), ElementOrder::Rows)
            }
            WeightFormat::W8 { .. } => Self::Elements(pack::unpack_w8(have, &bytes)?, ElementOrder::Rows),
        })
    }

    /// A weight of 16-bit elements that is not packed, `[k][n]` or, transposed, `[n][k]`.
    pub(super) fn dense(weight: &Literal, transposed: bool) -> Self {
        Self::Elements(weight.to_bytes(), if transposed { ElementOrder::Columns } else { ElementOrder::Rows })
    }

    /// Whether the weights can be packed as 2:4 sparse.
    pub(super) fn is_two_four(&self, format: &PackFormat) -> Result<bool, PackError> {
        let natural = PackFormat { k_order: KOrder::Natural, ..*format };
        if natural.with_two_four(true).is_err() {
            return Ok(false);
        }
        pack::is_two_four(&natural, self.weights()?)
    }

    /// The weights in a kernel's order.
    pub(super) fn pack(&self, want: &PackFormat) -> Result<Vec<u8>, PackError> {
        Packer::new(*want, self.weights()?)?.pack_all()
    }

    fn weights(&self) -> Result<Weights<'_>, PackError> {
        Ok(match self {
            Self::Codes(UnpackedCodes { codes, scales, zeros }) => Weights::Codes {
                codes: Codes { bytes: codes, width: CodeWidth::Byte, signed: false },
                scales: Floats::new(bytemuck::cast_slice(scales), icd_core::DType::F32)?,
                zeros: zeros.as_deref(),
            },
            Self::Elements(bytes, order) => Weights::Elements { bytes, order: *order },
        })
    }
}

/// Suffix of the names of weights packed in an order.
pub(super) fn order_name(format: &PackFormat) -> &'static str {
    match format.k_order {
        KOrder::Natural if format.two_four => "two_four",
        KOrder::Natural => "natural",
        KOrder::Lane16 => "lane16",
        KOrder::Bytes => "bytes",
    }
}
