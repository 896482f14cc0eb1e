//! Activation functions, written so that they vectorize.

use crate::rows::Rows;
use rayon::prelude::*;

/// Elements that one task handles.
const TASK: usize = 1 << 14;

/// An activation function by the name that `config.json` gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// x·Φ(x) by the error function: `gelu`.
    Gelu,
    /// x·Φ(x) by a hyperbolic tangent: `gelu_new`, `gelu_pytorch_tanh`.
    GeluTanh,
    /// x·σ(x): `silu`, `swish`.
    Silu,
    /// max(x, 0): `relu`.
    Relu,
}

impl Activation {
    /// The function of that name.
    pub fn by_name(name: &str) -> Option<Self> {
        Some(match name {
            "gelu" => Activation::Gelu,
            "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast" => Activation::GeluTanh,
            "silu" | "swish" => Activation::Silu,
            "relu" => Activation::Relu,
            _ => return None,
        })
    }

    /// Applies the function in place.
    pub fn apply(self, x: &mut Rows) {
        let arch = pulp::Arch::new();
        x.data.par_chunks_mut(TASK).for_each(|chunk| {
            arch.dispatch(|| match self {
                Activation::Gelu => map(chunk, |v| 0.5 * v * (1.0 + libm::erff(v * std::f32::consts::FRAC_1_SQRT_2))),
                Activation::GeluTanh => map(chunk, gelu_tanh),
                Activation::Silu => map(chunk, silu),
                Activation::Relu => map(chunk, |v| v.max(0.0)),
            });
        });
    }
}

impl Activation {
    /// The slope of the function.
    #[inline(always)]
    pub fn slope(self, x: f32) -> f32 {
        match self {
            Activation::Gelu => {
                let density = exp(-0.5 * x * x) * (std::f32::consts::FRAC_1_SQRT_2 * std::f32::consts::FRAC_2_SQRT_PI / 2.0);
                0.5 * (1.0 + libm::erff(x * std::f32::consts::FRAC_1_SQRT_2)) + x * density
            }
            Activation::GeluTanh => {
                let s = sigmoid(2.0 * 0.797_884_6 * (x + 0.044_715 * x * x * x));
                s + x * s * (1.0 - s) * 2.0 * 0.797_884_6 * (1.0 + 3.0 * 0.044_715 * x * x)
            }
            Activation::Silu => {
                let s = sigmoid(x);
                s * (1.0 + x * (1.0 - s))
            }
            Activation::Relu => f32::from(u8::from(x > 0.0)),
        }
    }
}

impl Rows {
    /// Applies a function to every element.
    pub fn map_in_place(&mut self, f: impl Fn(f32) -> f32 + Sync) {
        let arch = pulp::Arch::new();
        self.data.par_chunks_mut(TASK).for_each(|chunk| arch.dispatch(|| map(chunk, &f)));
    }
}

#[inline(always)]
fn map(chunk: &mut [f32], f: impl Fn(f32) -> f32) {
    chunk.iter_mut().for_each(|v| *v = f(*v));
}

/// 1 / (1 + e⁻ˣ).
#[inline(always)]
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// x·σ(x).
#[inline(always)]
pub fn silu(x: f32) -> f32 {
    x / (1.0 + exp(-x))
}

#[inline(always)]
fn gelu_tanh(x: f32) -> f32 {
    let inner = 0.797_884_6 * (x + 0.044_715 * x * x * x);
    x - x / (1.0 + exp(2.0 * inner))
}

/// ln(1 + eˣ).
#[inline(always)]
pub fn softplus(x: f32) -> f32 {
    let e = exp(-x.abs());
    let s = e / (2.0 + e);
    let s2 = s * s;
    let series = 1.0 + s2 * (1.0 / 3.0 + s2 * (0.2 + s2 * (1.0 / 7.0 + s2 * (1.0 / 9.0 + s2 * (1.0 / 11.0 + s2 / 13.0)))));
    x.max(0.0) + 2.0 * s * series
}

/// eˣ to 2 units in the last place; 0 below −87, e⁸⁸ above 88, NaN stays NaN.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    const SHIFT: f32 = 12_582_912.0;
    let clamped = if x > 88.0 { 88.0 } else { x };
    let n = (clamped * std::f32::consts::LOG2_E + SHIFT) - SHIFT;
    let r = (clamped - n * 0.693_359_4) + n * 2.121_944_4e-4;
    let p = 1.0 / 5040.0;
    let p = p * r + 1.0 / 720.0;
    let p = p * r + 1.0 / 120.0;
    let p = p * r + 1.0 / 24.0;
    let p = p * r + 1.0 / 6.0;
    let p = p * r + 0.5;
    let p = p * r * r + r + 1.0;
    let bits = ((n + SHIFT).to_bits() as i32).wrapping_sub(SHIFT.to_bits() as i32).wrapping_add(127).wrapping_shl(23);
    let scaled = p * f32::from_bits(bits as u32);
    if x < -87.0 { 0.0 } else { scaled }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_agree_with_float64() {
        let mut worst = [0f64; 4];
        for i in -90_000..90_000 {
            let x = i as f32 / 1000.0;
            let d = f64::from(x);
            let relative = |a: f32, b: f64| if b.abs() < 1e-37 { 0.0 } else { (f64::from(a) - b).abs() / b.abs() };
            if (-87.0..=88.0).contains(&x) {
                worst[0] = worst[0].max(relative(exp(x), d.exp()));
                worst[1] = worst[1].max(relative(softplus(x), d.exp().ln_1p()));
            }
            worst[2] = worst[2].max((f64::from(silu(x)) - d / (1.0 + (-d).exp())).abs() / d.abs().max(1.0));
            let tanh = (0.797_884_560_802_865_4 * (d + 0.044_715 * d * d * d)).tanh();
            worst[3] = worst[3].max((f64::from(gelu_tanh(x)) - 0.5 * d * (1.0 + tanh)).abs() / d.abs().max(1.0));
        }
        assert!(worst[0] < 3e-7 && worst[1] < 1e-6 && worst[2] < 3e-7 && worst[3] < 3e-7, "{worst:?}");
        assert!(exp(f32::NAN).is_nan() && silu(f32::NAN).is_nan() && softplus(f32::NAN).is_nan());
        assert_eq!((exp(f32::NEG_INFINITY), exp(-1000.0)), (0.0, 0.0));
    }
}
