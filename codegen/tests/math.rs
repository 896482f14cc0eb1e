//! Elementary functions against f64 references, on dense samples and special values.

#[allow(dead_code, reason = "other tests use the rest")]
mod support;

use icd_codegen::{
    cpu::object,
    ll::{Code, Scalar, Unit, Val},
    math,
};
use support::Native;

type Write1 = fn(&mut Code, &Val) -> Val;
type Write2 = fn(&mut Code, &Val, &Val) -> Val;

enum Function {
    One(Write1, fn(f64) -> f64),
    Two(Write2, fn(f64, f64) -> f64),
}

fn functions() -> Vec<(&'static str, Function)> {
    use Function::*;
    vec![
        ("exp", One(math::exp, f64::exp)),
        ("expm1", One(math::expm1, f64::exp_m1)),
        ("log", One(math::log, f64::ln)),
        ("log1p", One(math::log1p, f64::ln_1p)),
        ("tanh", One(math::tanh, f64::tanh)),
        ("logistic", One(math::logistic, |x| if x < 0.0 { x.exp() / (1.0 + x.exp()) } else { 1.0 / (1.0 + (-x).exp()) })),
        ("erf", One(math::erf, libm::erf)),
        ("erfc", One(math::erfc, libm::erfc)),
        ("sqrt", One(math::sqrt, f64::sqrt)),
        ("rsqrt", One(math::rsqrt, |x| 1.0 / x.sqrt())),
        ("cbrt", One(math::cbrt, f64::cbrt)),
        ("sin", One(math::sin, f64::sin)),
        ("cos", One(math::cos, f64::cos)),
        ("tan", One(math::tan, f64::tan)),
        ("round", One(math::round_half_away, f64::round)),
        ("pow", Two(math::pow, f64::powf)),
        ("atan2", Two(math::atan2, f64::atan2)),
        ("fmod", Two(math::remainder, |x, y| x % y)),
    ]
}

fn module(scalar: Scalar) -> String {
    let mut unit = Unit::default();
    for (name, function) in functions() {
        let mut code = Code::new();
        let ptr = |n: &str| Val::named(Scalar::Ptr(0), n);
        let l = code.begin_loop(&Val::i64(0), &Val::named(Scalar::I64, "%n"), &Val::i64(1));
        let mut at = |base: &str| code.gep(scalar, &ptr(base), &l.iv);
        let (a, b, out) = (at("%a"), at("%b"), at("%out"));
        let x = code.load(scalar, &a, 4);
        let y = code.load(scalar, &b, 4);
        let value = match function {
            Function::One(write, _) => write(&mut code, &x),
            Function::Two(write, _) => write(&mut code, &x, &y),
        };
        code.store(&value, &out, 4);
        code.end_loop(l);
        code.statement("ret void");
        let (text, needs) = code.finish(&format!("define void @test_{name}(ptr noalias %a, ptr noalias %b, ptr noalias %out, i64 %n) #1"));
        unit.merge(needs);
        unit.push(text);
    }
    unit.print(&object::header(&object::Processor::named("native").unwrap()))
}

fn load(scalar: Scalar) -> Native {
    let text = module(scalar);
    let object = object::compile(&text, &object::Processor::named("native").unwrap()).unwrap();
    Native::load(&object::link(&[object]).unwrap())
}

fn call<T: Copy + Default>(native: &Native, name: &str, a: &[T], b: &[T]) -> Vec<T> {
    let f: unsafe extern "C" fn(*const T, *const T, *mut T, u64) = native.symbol(&format!("test_{name}"));
    let mut out = vec![T::default(); a.len()];
    // SAFETY: the three arrays have a.len() elements.
    unsafe { f(a.as_ptr(), b.as_ptr(), out.as_mut_ptr(), a.len() as u64) };
    out
}

fn specials() -> Vec<f64> {
    let mut v = vec![
        0.0,
        1.0,
        0.5,
        2.0,
        3.0,
        1.5,
        2.5,
        1e-45,
        1e-40,
        1e-38,
        1e-30,
        1e-10,
        1e-5,
        0.1,
        0.49999997,
        0.9999999,
        1.0000001,
        10.0,
        87.0,
        88.0,
        88.7,
        89.0,
        100.0,
        103.0,
        104.0,
        700.0,
        709.7,
        710.0,
        745.0,
        746.0,
        1e5,
        1e10,
        1e30,
        3e38,
        1e300,
        f64::INFINITY,
        f64::NAN,
        f64::from(f32::MIN_POSITIVE),
        f64::MIN_POSITIVE,
        5e-324,
        16777215.0,
        0.4142135,
        0.4142136,
    ];
    v.extend(v.clone().iter().map(|x| -x));
    v
}

/// A fixed sequence of numbers over many magnitudes and of dense ones near zero.
fn samples() -> (Vec<f64>, Vec<f64>) {
    let mut state = 0x9E37_79B9_7F4A_7C15u64;
    let mut next = move || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 11) as f64 / (1u64 << 53) as f64
    };
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for &x in &specials() {
        for &y in &specials() {
            a.push(x);
            b.push(y);
        }
    }
    for _ in 0..60_000 {
        a.push((next() - 0.5) * 2.0 * 10f64.powf(next() * 4.0 - 2.0));
        b.push((next() - 0.5) * 2.0 * 10f64.powf(next() * 3.0 - 2.0));
        a.push((next() - 0.5) * 2.0 * 10f64.powf(next() * 60.0 - 30.0));
        b.push((next() - 0.5) * 20.0);
        a.push(next() * 2.0 - 1.0);
        b.push(next() * 2.0 - 1.0);
    }
    (a, b)
}

fn same_special(got: f64, want: f64) -> bool {
    (got.is_nan() && want.is_nan()) || (got == want && (got != 0.0 || got.is_sign_negative() == want.is_sign_negative()))
}

fn in_range(name: &str, x: f64, limit: f64) -> bool {
    !matches!(name, "sin" | "cos" | "tan") || x.abs() <= limit || !x.is_finite()
}

#[test]
fn f32_functions_are_within_three_ulp() {
    let native = load(Scalar::F32);
    let (a, b) = samples();
    let (a, b): (Vec<f32>, Vec<f32>) = (a.iter().map(|&x| x as f32).collect(), b.iter().map(|&x| x as f32).collect());
    let mut failed = Vec::new();
    for (name, function) in functions() {
        let got = call(&native, name, &a, &b);
        let mut worst = (0.0, String::new());
        for ((&x, &y), &g) in a.iter().zip(&b).zip(&got) {
            if !in_range(name, f64::from(x), 2f64.powi(40)) {
                continue;
            }
            let exact = match function {
                Function::One(_, f) => f(f64::from(x)),
                Function::Two(_, f) => f(f64::from(x), f64::from(y)),
            };
            let want = exact as f32;
            let ulp = if same_special(f64::from(g), f64::from(want)) {
                0.0
            } else if !want.is_finite() && want.is_nan() != g.is_nan() || (want == 0.0 && g == 0.0) {
                f64::INFINITY
            } else {
                let unit = f64::from(want.abs().min(f32::MAX).next_up().min(f32::MAX)) - f64::from(want.abs().min(f32::MAX));
                (f64::from(g.clamp(-f32::MAX, f32::MAX)) - exact).abs() / unit.max(1e-45)
            };
            if ulp > worst.0 || ulp.is_nan() {
                worst = (if ulp.is_nan() { f64::INFINITY } else { ulp }, format!("{name}({x:e}, {y:e}) = {g:e}, want {want:e}"));
            }
        }
        println!("f32 {name}: {:.2} ulp  {}", worst.0, worst.1);
        if worst.0 > 3.0 {
            failed.push(worst.1);
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn f64_functions_have_small_relative_error() {
    let native = load(Scalar::F64);
    let (a, b) = samples();
    let mut failed = Vec::new();
    for (name, function) in functions() {
        let got = call(&native, name, &a, &b);
        let limit = match name {
            "pow" => 1e-13,
            "exp" | "log" | "sqrt" | "cbrt" | "round" | "fmod" => 4.5e-16,
            _ => 1e-15,
        };
        let mut worst = (0.0, String::new());
        for ((&x, &y), &g) in a.iter().zip(&b).zip(&got) {
            if !in_range(name, x, 2f64.powi(25)) {
                continue;
            }
            let want = match function {
                Function::One(_, f) => f(x),
                Function::Two(_, f) => f(x, y),
            };
            let error = if same_special(g, want) {
                0.0
            } else if want.is_finite() && g.is_finite() && !(want == 0.0 && g == 0.0) {
                // Denormal results have fewer digits.
                ((g - want).abs() - 5e-324).max(0.0) / want.abs().max(1e-323)
            } else {
                f64::INFINITY
            };
            if error > worst.0 {
                worst = (error, format!("{name}({x:e}, {y:e}) = {g:e}, want {want:e}"));
            }
        }
        println!("f64 {name}: {:.2e}  {}", worst.0, worst.1);
        if worst.0 > limit {
            failed.push(worst.1);
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}
