//! The error function: a polynomial near zero, 1 − e^(−x²)·Q outside.
#![allow(clippy::excessive_precision, clippy::approx_constant, reason = "tables as the script prints them")]

use super::{exp, helper};
use crate::ll::{Code, Val};

/// Relative error 1.3e-9.
const ERF_SMALL_F32: &[f64] = &[
    1.12837916584835095,
    -0.37612626666720331,
    0.112835947151602177,
    -0.0268542120106264124,
    0.00518908742343397399,
    -0.000801686428716586953,
    0.0000787587506268548834,
];
/// Relative error 2.4e-21.
const ERF_SMALL_F64: &[f64] = &[
    1.12837916709551257,
    -0.376126389031837524,
    0.112837916709551202,
    -0.0268661706451298408,
    0.00522397762542329831,
    -0.00085483270219348296,
    0.000120553329028887354,
    -0.0000149256475675193321,
    1.64620454414684189e-6,
    -1.63646421581676153e-7,
    1.4792401209404813e-8,
    -1.21645600572834501e-9,
    8.70904512905310669e-11,
    -4.23094582429533782e-12,
];
/// Relative error 1.6e-9.
const ERFC_TAIL_F32: &[f64] = &[
    0.25539567620567495,
    -0.427185848447725983,
    0.241658220267348376,
    -0.0789784464238083714,
    0.00373188798965865356,
    0.00699321864018237173,
    -0.000834908258169006512,
    -0.000934653969297772024,
];
/// Relative error 1.9e-20.
const ERFC_TAIL_F64: &[f64] = &[
    0.255395676310505744,
    -0.427185847413958394,
    0.241658194242466356,
    -0.0789785810157331201,
    0.00373289240434501641,
    0.00699746173929405773,
    -0.000847143252013393122,
    -0.000981977030260272195,
    0.0000435556377748797283,
    0.00017436123530124898,
    0.0000275248196092059964,
    -0.0000275804650279823183,
    -0.000013960863250756435,
    1.39343966799371496e-6,
    3.74437353326530798e-6,
    1.1995052231035316e-6,
    -3.90357320449244416e-7,
    -5.49414410412455868e-7,
    -1.6320658346679419e-7,
    1.89276350624902705e-7,
];

/// Error function.
pub fn erf(code: &mut Code, x: &Val) -> Val {
    helper(code, "erf", &[x], |f, p| {
        let magnitude = f.abs(&p[0]);
        let square = f.mul(&p[0], &p[0]);
        let (one, two) = (f.k(1.0), f.k(2.0));
        let inner = f.clamp(&square, 0.0, 1.0);
        let near = f.poly(&inner, f.by(ERF_SMALL_F32, ERF_SMALL_F64));
        let near = f.mul(&p[0], &near);

        let x = f.clamp(&magnitude, 1.0, f.by(4.25, 6.0));
        let (above, below) = (f.sub(&x, &two), f.add(&x, &two));
        let t = f.div(&above, &below);
        let q = f.poly(&t, f.by(ERFC_TAIL_F32, ERFC_TAIL_F64));
        let square = f.mul(&x, &x);
        let negated = f.neg(&square);
        let e = exp(f.code, &negated);
        let product = f.mul(&e, &q);
        let far = f.sub(&one, &product);
        let far = f.copysign(&far, &p[0]);
        let is_near = f.cmp("olt", &magnitude, &one);
        f.select(&is_near, &near, &far)
    })
}
