//! Instructions that the kernels of the quantizers need beside those of [`crate::nvptx::intrinsics`]: exactly rounded arithmetic, so that codes are
//! those of the processor's arithmetic, and addressing of arrays by element.

use crate::nvptx::ptx_builder::{Float, Int, KernelBuilder, Ty, Var};
use inkwell::values::BasicValueEnum;

/// Bytes of a word.
pub(super) const WORD: u32 = 4;

impl<'c> KernelBuilder<'c> {
    fn pure_float(&self, text: &str, inputs: &[BasicValueEnum<'c>]) -> Float<'c> {
        self.asm_pure(&[Ty::F32], text, inputs)[0].into_float_value()
    }

    /// `a / b`, rounded to nearest.
    pub(super) fn divide(&self, a: Float<'c>, b: Float<'c>) -> Float<'c> {
        self.pure_float("div.rn.f32 $0, $1, $2;", &[a.into(), b.into()])
    }
    /// The square root, rounded to nearest.
    pub(super) fn square_root(&self, a: Float<'c>) -> Float<'c> {
        self.pure_float("sqrt.rn.f32 $0, $1;", &[a.into()])
    }
    /// The nearest integer, halves to even.
    pub(super) fn nearest_integer(&self, a: Float<'c>) -> Float<'c> {
        self.pure_float("cvt.rni.f32.f32 $0, $1;", &[a.into()])
    }
    /// A number rounded to f16 and back.
    pub(super) fn through_half(&self, a: Float<'c>) -> Float<'c> {
        self.pure_float("{.reg .b16 h; cvt.rn.f16.f32 h, $1; cvt.f32.f16 $0, h;}", &[a.into()])
    }
    /// `a * b`, rounded, never joined with an addition.
    pub(super) fn times(&self, a: Float<'c>, b: Float<'c>) -> Float<'c> {
        self.pure_float("mul.rn.f32 $0, $1, $2;", &[a.into(), b.into()])
    }
    /// `a + b`, rounded, never joined with a product.
    pub(super) fn plus(&self, a: Float<'c>, b: Float<'c>) -> Float<'c> {
        self.pure_float("add.rn.f32 $0, $1, $2;", &[a.into(), b.into()])
    }
    /// `a - b`, rounded, never joined with a product.
    pub(super) fn minus(&self, a: Float<'c>, b: Float<'c>) -> Float<'c> {
        self.pure_float("sub.rn.f32 $0, $1, $2;", &[a.into(), b.into()])
    }
    /// The smaller, `a` where they are equal.
    pub(super) fn least(&self, a: Float<'c>, b: Float<'c>) -> Float<'c> {
        self.select_float(self.fless(b, a), b, a)
    }
    /// The larger, `a` where they are equal.
    pub(super) fn most(&self, a: Float<'c>, b: Float<'c>) -> Float<'c> {
        self.select_float(self.fless(a, b), b, a)
    }
    /// `a * b * scale` as a 64-bit integer, exact before rounding.
    pub(super) fn fixed_point(&self, a: Float<'c>, b: Float<'c>, scale: Float<'c>) -> Int<'c> {
        let text = "{.reg .f64 x, y; cvt.f64.f32 x, $1; cvt.f64.f32 y, $2; mul.rn.f64 x, x, y; cvt.f64.f32 y, $3; mul.rn.f64 x, x, y; \
                    cvt.rni.s64.f64 $0, x;}";
        self.asm_pure(&[Ty::I64], text, &[a.into(), b.into(), scale.into()])[0].into_int_value()
    }

    /// Address of element `index` of words at `base`.
    pub(super) fn word_at(&self, base: Int<'c>, index: Int<'c>) -> Int<'c> {
        self.add(base, self.shl_c(self.to_long(index), WORD.trailing_zeros()))
    }
    /// Word `index` of global memory.
    pub(super) fn word(&self, base: Int<'c>, index: Int<'c>) -> Int<'c> {
        self.load_global(self.word_at(base, index), WORD)[0]
    }
    /// Float `index` of global memory.
    pub(super) fn number(&self, base: Int<'c>, index: Int<'c>) -> Float<'c> {
        self.as_float(self.word(base, index))
    }
    /// Writes float `index` of global memory.
    pub(super) fn put_number(&self, base: Int<'c>, index: Int<'c>, value: Float<'c>) {
        self.store_global(self.word_at(base, index), &[self.as_int(value)], WORD);
    }
    /// Writes the low byte of a float that is an integer as byte `index` of global memory.
    pub(super) fn put_byte(&self, base: Int<'c>, index: Int<'c>, value: Float<'c>) {
        let text = "{.reg .s32 i; .reg .b16 h; cvt.rni.s32.f32 i, $1; cvt.u16.u32 h, i; st.global.u8 [$0], h;}";
        self.asm(&[], text, &[self.add(base, self.to_long(index)).into(), value.into()]);
    }
    /// Byte `index` of global memory as a number, signed where `signed` holds.
    pub(super) fn byte_number(&self, base: Int<'c>, index: Int<'c>, signed: Int<'c>) -> Float<'c> {
        let address = self.add(base, self.to_long(index));
        let byte = self.asm(&[Ty::I32], "ld.global.u8 $0, [$1];", &[address.into()])[0].into_int_value();
        let is_negative = self.and(signed, self.less(self.int(i8::MAX as u32), byte));
        let value = self.to_float(byte);
        self.select_float(is_negative, self.minus(value, self.float(256.0)), value)
    }
    /// `sum + a * b` of a sum in f64, held as its bits.
    pub(super) fn add_product(&self, sum: Int<'c>, a: Float<'c>, b: Float<'c>) -> Int<'c> {
        let text = "{.reg .f64 s, x, y; mov.b64 s, $1; cvt.f64.f32 x, $2; cvt.f64.f32 y, $3; fma.rn.f64 s, x, y, s; mov.b64 $0, s;}";
        self.asm_pure(&[Ty::I64], text, &[sum.into(), a.into(), b.into()])[0].into_int_value()
    }
    /// Writes 64-bit word `index` of global memory.
    pub(super) fn put_long(&self, base: Int<'c>, index: Int<'c>, value: Int<'c>) {
        let address = self.add(base, self.shl_c(self.to_long(index), 3));
        self.asm(&[], "st.global.b64 [$0], $1;", &[address.into(), value.into()]);
    }
    /// Float at a shared address.
    pub(super) fn shared_number(&self, address: Int<'c>, offset: u32) -> Float<'c> {
        self.as_float(self.load_shared_4(address, offset))
    }
    /// Makes word `index` of global memory the smaller of itself and `value`, unsigned.
    pub(super) fn lower_word(&self, base: Int<'c>, index: Int<'c>, value: Int<'c>) {
        self.asm(&[], "red.global.min.u32 [$0], $1;", &[self.word_at(base, index).into(), value.into()]);
    }
    /// Adds a 64-bit integer to 64-bit integer `index` of global memory.
    pub(super) fn add_to_long(&self, base: Int<'c>, index: Int<'c>, value: Int<'c>) {
        let address = self.add(base, self.shl_c(self.to_long(index), 3));
        self.asm(&[], "red.global.add.u64 [$0], $1;", &[address.into(), value.into()]);
    }
    /// The least unsigned value of the lanes of a warp.
    pub(super) fn warp_least(&self, value: Int<'c>) -> Int<'c> {
        self.asm(&[Ty::I32], "redux.sync.min.u32 $0, $1, -1;", &[value.into()])[0].into_int_value()
    }
    /// A float as an unsigned integer of the same order.
    pub(super) fn ordered(&self, value: Float<'c>) -> Int<'c> {
        let bits = self.as_int(value);
        let flipped = self.select(self.less_c(bits, 1 << 31), self.int(1 << 31), self.int(u32::MAX));
        self.xor(bits, flipped)
    }

    /// Adds to an f32 variable.
    pub(super) fn accumulate(&self, var: Var<'c>, value: Float<'c>) {
        self.set(var, self.plus(self.get_float(var), value));
    }
}
