//! Reading the attributes of one operation, and remembering which were read.

use super::{ImportError, name_of, place};
use crate::attr_text;
use crate::ffi::handle;
use icd_core::{DType, Literal};
use melior::ir::ShapedTypeLike;
use melior::ir::ValueLike;
use melior::ir::attribute::{
    Attribute, BoolAttribute, DenseElementsAttribute, FlatSymbolRefAttribute, FloatAttribute, IntegerAttribute, StringAttribute,
};
use melior::ir::operation::{OperationLike, OperationRef};
use melior::ir::r#type::RankedTensorType;

/// Attributes of an operation. Those that nobody asks for are kept by [`Attributes::rest`].
pub(super) struct Attributes<'c, 'a, 'o> {
    op: &'o OperationRef<'c, 'a>,
    read: Vec<&'static str>,
}

impl<'c, 'a, 'o> Attributes<'c, 'a, 'o> {
    pub(super) fn new(op: &'o OperationRef<'c, 'a>) -> Self {
        Attributes { op, read: Vec::new() }
    }

    pub(super) fn bad(&self, name: &str) -> ImportError {
        let found = self.op.attribute(name).map_or_else(|_| "nothing".into(), |a| a.to_string());
        ImportError::Attribute { location: place(self.op.location()), op: name_of(self.op), attribute: name.into(), found }
    }

    pub(super) fn get(&mut self, name: &'static str) -> Option<Attribute<'c>> {
        self.read.push(name);
        self.op.attribute(name).ok()
    }

    pub(super) fn text(&mut self, name: &'static str) -> Option<String> {
        self.get(name).map(|a| a.to_string())
    }

    pub(super) fn int(&mut self, name: &'static str) -> Result<i64, ImportError> {
        self.get(name).and_then(|a| IntegerAttribute::try_from(a).ok()).map(|a| a.value()).ok_or_else(|| self.bad(name))
    }

    pub(super) fn dim(&mut self, name: &'static str) -> Result<usize, ImportError> {
        self.int(name).and_then(|v| usize::try_from(v).map_err(|_| self.bad(name)))
    }

    pub(super) fn bool(&mut self, name: &'static str) -> bool {
        self.get(name).and_then(|a| BoolAttribute::try_from(a).ok()).is_some_and(|a| a.value())
    }

    pub(super) fn float(&mut self, name: &'static str) -> Result<f64, ImportError> {
        self.get(name).and_then(|a| FloatAttribute::try_from(a).ok()).map(|a| a.value()).ok_or_else(|| self.bad(name))
    }

    /// A string; empty when absent.
    pub(super) fn string(&mut self, name: &'static str) -> String {
        self.get(name).and_then(|a| StringAttribute::try_from(a).ok()).map_or_else(String::new, |a| a.value().to_string())
    }

    pub(super) fn symbol(&mut self, name: &'static str) -> Result<String, ImportError> {
        self.get(name).and_then(|a| FlatSymbolRefAttribute::try_from(a).ok()).map(|a| a.value().to_string()).ok_or_else(|| self.bad(name))
    }

    /// A list of integers: `array<i64: …>` or `dense<…>`; empty when absent.
    pub(super) fn ints(&mut self, name: &'static str) -> Vec<i64> {
        let Some(attr) = self.get(name) else { return Vec::new() };
        if let Some(literal) = dense(attr) {
            return handle::literal_ints(&literal);
        }
        let text = attr.to_string();
        text.split_once(':').map_or_else(Vec::new, |(_, t)| attr_text::ints(t))
    }

    pub(super) fn dims(&mut self, name: &'static str) -> Result<Vec<usize>, ImportError> {
        let ints = self.ints(name);
        ints.into_iter().map(|v| usize::try_from(v).map_err(|_| self.bad(name))).collect()
    }

    /// `[[low, high], …]`; empty when absent.
    pub(super) fn pairs(&mut self, name: &'static str) -> Vec<(i64, i64)> {
        self.ints(name).chunks_exact(2).map(|c| (c[0], c[1])).collect()
    }

    /// `array<i1: true, false>`; empty when absent.
    pub(super) fn bools(&mut self, name: &'static str) -> Vec<bool> {
        let text = self.text(name).unwrap_or_default();
        text.split_once(':').map_or_else(Vec::new, |(_, t)| t.trim_end_matches('>').split(',').map(|b| b.trim() == "true").collect())
    }

    /// An enum attribute that names one of the values that `from_name` knows.
    pub(super) fn one_of<T>(&mut self, name: &'static str, from_name: impl Fn(&str) -> Option<T>) -> Result<T, ImportError> {
        self.text(name).and_then(|t| from_name(attr_text::enum_value(&t))).ok_or_else(|| self.bad(name))
    }

    /// Rank of the first operand's tensor type; 0 without one.
    pub(super) fn first_operand_rank(&self) -> usize {
        let ty = self.op.operand(0).ok().map(|v| v.r#type());
        ty.and_then(|t| RankedTensorType::try_from(t).ok()).map_or(0, |t| t.rank())
    }

    /// Attributes that nobody asked for, as a dictionary handle; 0 when there are none.
    pub(super) fn rest(&self) -> u64 {
        handle::dictionary_without(self.op, &self.read)
    }
}

/// The tensor of a `dense` or `dense_resource` attribute; `None` for other attributes and for element types that have no [`DType`].
pub(super) fn dense(attr: Attribute<'_>) -> Option<Literal> {
    let ty = crate::mlir_type::TypeReader::default().read(melior::ir::attribute::AttributeLike::r#type(&attr));
    let ty = ty.as_tensor()?.clone();
    if let Some(bytes) = handle::resource_bytes(attr) {
        return Literal::from_bytes(ty, bytes).ok();
    }
    let elements = DenseElementsAttribute::try_from(attr).ok()?;
    if ty.dtype == DType::I1 {
        let bits: Vec<u8> = if elements.is_splat() {
            return Literal::splat(ty, &[u8::from(elements.bool_splat_value())]).ok();
        } else {
            (0..elements.len()).map(|i| elements.bool_element(i).map(u8::from)).collect::<Result<_, _>>().ok()?
        };
        return Literal::from_bytes(ty, bits).ok();
    }
    let stored = if elements.is_splat() { 1 } else { elements.len() };
    let bytes = handle::dense_bytes(&elements, stored.checked_mul(ty.dtype.bytes())?);
    if ty.dtype.is_int() && ty.dtype.bits() < 8 {
        // MLIR leaves the bits above the integer's width zero; literals extend its sign.
        let extended: Vec<u8> = bytes.iter().map(|&b| ty.dtype.extend(b)).collect();
        return if elements.is_splat() { Literal::splat(ty, &extended).ok() } else { Literal::from_bytes(ty, extended).ok() };
    }
    if elements.is_splat() { Literal::splat(ty, bytes).ok() } else { Literal::from_bytes(ty, bytes).ok() }
}
