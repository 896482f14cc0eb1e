//! Special functions in double precision (formulas: Abramowitz & Stegun, "Handbook of Mathematical Functions").

use std::f64::consts::PI;

/// log|Γ(x)|.
pub(crate) fn lgamma(x: f64) -> f64 {
    libm::lgamma(x)
}

/// ψ(x) by reflection, recurrence up to 12 and the asymptotic series (A&S 6.3.7, 6.3.5, 6.3.18); NaN at the poles.
pub(crate) fn digamma(x: f64) -> f64 {
    if x <= 0.0 {
        if x == x.floor() {
            return f64::NAN;
        }
        return digamma(1.0 - x) - PI / libm::tan(PI * (x - x.floor()));
    }
    if x.is_infinite() {
        return x;
    }
    // The positive zero of ψ: near it the recurrence cancels, the Taylor series about the root does not.
    const ROOT: f64 = 1.461_632_144_968_362_3;
    const ROOT_LOW: f64 = 9.549_995_429_965_697e-17;
    let from_root = (x - ROOT) - ROOT_LOW;
    if from_root.abs() < 0.3 {
        return digamma_near_root(from_root, ROOT);
    }
    let (mut y, mut shift) = (x, 0.0);
    while y < 12.0 {
        shift += 1.0 / y;
        y += 1.0;
    }
    let r = 1.0 / (y * y);
    const B: [f64; 8] = [1.0 / 12.0, -1.0 / 120.0, 1.0 / 252.0, -1.0 / 240.0, 1.0 / 132.0, -691.0 / 32760.0, 1.0 / 12.0, -3617.0 / 8160.0];
    let series = B.iter().rev().fold(0.0, |s, b| (s + b) * r);
    libm::log(y) - 0.5 / y - series - shift
}

/// Σ ψ⁽ⁿ⁾(root)/n! dⁿ with ψ⁽ⁿ⁾(root)/n! = (−1)ⁿ⁺¹ ζ(n+1, root).
fn digamma_near_root(d: f64, root: f64) -> f64 {
    let (mut sum, mut power, mut sign) = (0.0, d, 1.0);
    for n in 1..80 {
        let term = sign * zeta((n + 1) as f64, root) * power;
        sum += term;
        if term.abs() <= sum.abs() * 1e-18 {
            break;
        }
        power *= d;
        sign = -sign;
    }
    sum
}

/// Hurwitz ζ(s, q) for s > 1, q > 0 by Euler–Maclaurin summation (A&S 23.1.30). Other arguments: 1 gives +∞, q ≤ 0 integers +∞, else NaN.
pub(crate) fn zeta(s: f64, q: f64) -> f64 {
    if s == 1.0 {
        return f64::INFINITY;
    }
    if s < 1.0 || s.is_nan() || q.is_nan() {
        return f64::NAN;
    }
    if q <= 0.0 {
        if q == q.floor() {
            return f64::INFINITY;
        }
        if s != s.floor() {
            return f64::NAN;
        }
    }
    let (mut sum, mut a) = (libm::pow(q, -s), q);
    let mut n = 0;
    while n < 9 || a <= 9.0 {
        n += 1;
        a += 1.0;
        let term = libm::pow(a, -s);
        sum += term;
        if term.abs() < sum.abs() * 1e-17 {
            return sum;
        }
    }
    let last = libm::pow(a, -s);
    sum += last * a / (s - 1.0) - 0.5 * last;
    const BERNOULLI: [f64; 12] = [
        1.0 / 6.0,
        -1.0 / 30.0,
        1.0 / 42.0,
        -1.0 / 30.0,
        5.0 / 66.0,
        -691.0 / 2730.0,
        7.0 / 6.0,
        -3617.0 / 510.0,
        43867.0 / 798.0,
        -174611.0 / 330.0,
        854513.0 / 138.0,
        -236364091.0 / 2730.0,
    ];
    let (mut factor, mut power, mut factorial) = (s, last / a, 2.0);
    for (i, b) in BERNOULLI.iter().enumerate() {
        let term = b * factor * power / factorial;
        sum += term;
        if term.abs() < sum.abs() * 1e-17 {
            break;
        }
        let k = 2.0 * i as f64 + 1.0;
        factor *= (s + k) * (s + k + 1.0);
        power /= a * a;
        factorial *= (k + 2.0) * (k + 3.0);
    }
    sum
}

/// ψ⁽ⁿ⁾(x) = (−1)ⁿ⁺¹ n! ζ(n+1, x); ψ for n = 0; NaN for other than natural n.
pub(crate) fn polygamma(n: f64, x: f64) -> f64 {
    if n == 0.0 {
        return digamma(x);
    }
    if n < 0.0 || n != n.floor() {
        return f64::NAN;
    }
    let sign = if n % 2.0 == 0.0 { -1.0 } else { 1.0 };
    sign * libm::exp(libm::lgamma(n + 1.0)) * zeta(n + 1.0, x)
}

/// e^−|x| I₁(x): the power series below 20, the asymptotic one above (A&S 9.6.10, 9.7.1).
pub(crate) fn bessel_i1e(x: f64) -> f64 {
    let a = x.abs();
    let value = if a < 20.0 {
        let q = a * a / 4.0;
        let (mut term, mut sum, mut k) = (a / 2.0, a / 2.0, 1.0);
        while term > sum * 1e-18 {
            term *= q / (k * (k + 1.0));
            sum += term;
            k += 1.0;
        }
        sum * libm::exp(-a)
    } else {
        let (mut term, mut sum, mut k) = (1.0f64, 1.0f64, 1.0);
        while k < 40.0 && term.abs() > sum.abs() * 1e-18 {
            let odd = 2.0 * k - 1.0;
            term *= -(4.0 - odd * odd) / (8.0 * a * k);
            sum += term;
            k += 1.0;
        }
        sum / (2.0 * PI * a).sqrt()
    };
    if x < 0.0 { -value } else { value }
}

/// Inverse of erf: a logarithmic first guess (S. Winitzki, 2008) and Newton–Halley steps; ±∞ at ±1, NaN outside.
pub(crate) fn erf_inv(y: f64) -> f64 {
    if y.is_nan() || y.abs() > 1.0 {
        return f64::NAN;
    }
    if y.abs() == 1.0 {
        return f64::INFINITY.copysign(y);
    }
    if y == 0.0 {
        return y;
    }
    let a = 0.147;
    let l = libm::log1p(-y * y);
    let t = 2.0 / (PI * a) + l / 2.0;
    let mut x = ((t * t - l / a).sqrt() - t).max(0.0).sqrt();
    if x == 0.0 {
        x = y.abs() * PI.sqrt() / 2.0;
    }
    for _ in 0..4 {
        let error = if x < 1.0 { libm::erf(x) - y.abs() } else { (1.0 - y.abs()) - libm::erfc(x) };
        let step = error / (2.0 / PI.sqrt() * libm::exp(-x * x));
        x -= step / (1.0 + x * step);
    }
    x.copysign(y)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64) {
        assert!((a - b).abs() <= 4e-15 * b.abs().max(1e-300), "{a} is not {b}");
    }

    // Values from scipy 1.17.1.
    #[test]
    fn special_functions_match_scipy() {
        close(digamma(1.0), -0.577_215_664_901_532_9);
        close(digamma(0.1), -10.423_754_940_411_076);
        close(digamma(-1.5), 0.703_156_640_645_243_4);
        close(digamma(100.0), 4.600_161_852_738_088);
        close(digamma(1.4), -0.061_384_544_585_116_24);
        close(zeta(2.0, 1.0), 1.644_934_066_848_226_6);
        close(zeta(3.0, 0.5), 8.414_398_322_117_158);
        close(zeta(1.5, 20.25), 0.449_999_129_189_162_74);
        close(polygamma(1.0, 2.0), 0.644_934_066_848_226_4);
        close(polygamma(2.0, 1.0), -2.404_113_806_319_188);
        close(bessel_i1e(1.0), 0.207_910_415_349_708_5);
        close(bessel_i1e(19.5), 0.088_576_086_094_314_85);
        close(bessel_i1e(-30.0), -0.071_916_330_598_647_56);
        close(erf_inv(0.5), 0.476_936_276_204_469_9);
        close(erf_inv(-0.999), -2.326_753_765_513_524);
        close(erf_inv(1e-10), 8.862_269_254_527_581e-11);
    }
}
