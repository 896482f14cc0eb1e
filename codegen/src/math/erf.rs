//! The error function: a polynomial near zero, 1 − e^(−x²)·Q outside.
#![allow(clippy::excessive_precision, clippy::approx_constant, reason = "tables as the script prints them")]

use super::{Formula, exp, helper};
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

/// Relative error 1.8e-11.
const ERFC_WHOLE_TAIL_F32: &[f64] = &[
    1.27697838153829962,
    -0.092763826249155104,
    -0.166030394583586638,
    0.164051256537281541,
    -0.0542201045593103052,
    -0.00803353783268712703,
    0.00872394796598212246,
    0.00126710582104246614,
    -0.00146424066934053965,
    -0.000435700950953830672,
    0.000227091929194221859,
    0.000110470075911882667,
    -0.0000280549122928166358,
];
/// Relative error 1.6e-22.
const ERFC_WHOLE_TAIL_F64: &[f64] = &[
    1.27697838155252872,
    -0.0927638265857460178,
    -0.166030397615289408,
    0.164051280033444266,
    -0.0542200009920322211,
    -0.00803401508254996662,
    0.00872265387545159271,
    0.0012713389692225998,
    -0.00145681394085085756,
    -0.000454340877625412205,
    0.000206367132535343989,
    0.000151039571419928412,
    -1.50924779372583948e-6,
    -0.0000364254614825657581,
    -0.0000134957247855471363,
    3.71821672124923937e-6,
    5.23271988380827936e-6,
    1.48597607955442798e-6,
    -7.14536836438339869e-7,
    -8.05247644175306604e-7,
    -2.32176723611565137e-7,
    1.04369868378777174e-7,
    1.22879951812649728e-7,
    5.43465785740727933e-8,
    8.31292043058985414e-9,
    -3.28482942079679122e-8,
    -2.9180490124224262e-8,
    1.17635730252282851e-8,
    1.12208023597678583e-8,
    -3.96028161875277143e-9,
    -3.67054924201142958e-10,
];

/// erf(x) for |x| ≤ 1.
fn near_zero(f: &mut Formula<'_>, x: &Val) -> Val {
    let square = f.mul(x, x);
    let inner = f.clamp(&square, 0.0, 1.0);
    let series = f.poly(&inner, f.by(ERF_SMALL_F32, ERF_SMALL_F64));
    f.mul(x, &series)
}

/// (x − 2)/(x + 2), the argument of the tables for the tail.
fn tail_argument(f: &mut Formula<'_>, x: &Val) -> Val {
    let two = f.k(2.0);
    let (above, below) = (f.sub(x, &two), f.add(x, &two));
    f.div(&above, &below)
}

/// Error function.
pub fn erf(code: &mut Code, x: &Val) -> Val {
    helper(code, "erf", &[x], |f, p| {
        let near = near_zero(f, &p[0]);
        let (one, magnitude) = (f.k(1.0), f.abs(&p[0]));
        let x = f.clamp(&magnitude, 1.0, f.by(4.25, 6.0));
        let t = tail_argument(f, &x);
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

/// Complementary error function, 1 − erf(x), to full relative accuracy in its tail.
pub fn erfc(code: &mut Code, x: &Val) -> Val {
    helper(code, "erfc", &[x], |f, p| {
        let near = near_zero(f, &p[0]);
        let (one, two, magnitude) = (f.k(1.0), f.k(2.0), f.abs(&p[0]));
        let near = f.sub(&one, &near);
        let x = f.clamp(&magnitude, 0.5, f.by(10.1, 27.3));
        let t = tail_argument(f, &x);
        let q = f.poly(&t, f.by(ERFC_WHOLE_TAIL_F32, ERFC_WHOLE_TAIL_F64));
        // e^(−x²) = e^(−s)·(1 − (x² − s)) for the rounded square s: its rounding error matters where x² is large.
        let square = f.mul(&x, &x);
        let negated = f.neg(&square);
        let e = exp(f.code, &negated);
        let lost = f.fma(&x, &x, &negated);
        let lost = f.neg(&lost);
        let e = f.fma(&e, &lost, &e);
        let doubled = f.add(&x, &x);
        let denominator = f.add(&one, &doubled);
        let q = f.div(&q, &denominator);
        let tail = f.mul(&e, &q);
        let reflected = f.sub(&two, &tail);
        let zero = f.k(0.0);
        let is_negative = f.cmp("olt", &p[0], &zero);
        let far = f.select(&is_negative, &reflected, &tail);
        let half = f.k(0.5);
        let is_far = f.cmp("ogt", &magnitude, &half);
        f.select(&is_far, &far, &near)
    })
}
