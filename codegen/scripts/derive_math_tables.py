"""Derives the polynomial tables of codegen/src/math/erf.rs (needs mpmath): python derive_math_tables.py

erf(x) = x·P(x²) on |x| ≤ 1, and erfc(x) = exp(-x²)·Q(t) with t = (x - 2)/(x + 2) on 1 ≤ x ≤ limit, both by interpolation at Chebyshev
nodes with 60 digits, re-expanded in monomials.
"""
from mpmath import mp, mpf, erf, erfc, exp, sqrt, cos, pi, matrix, lu_solve

mp.dps = 60


def interpolate(f, low, high, degree):
    nodes = [(low + high) / 2 + (high - low) / 2 * cos(pi * (2 * i + 1) / (2 * degree + 2)) for i in range(degree + 1)]
    a = matrix(degree + 1, degree + 1)
    b = matrix(degree + 1, 1)
    for i, x in enumerate(nodes):
        for j in range(degree + 1):
            a[i, j] = x**j
        b[i] = f(x)
    c = lu_solve(a, b)
    worst = mpf(0)
    for i in range(1001):
        x = low + (high - low) * i / 1000
        p = sum(c[j] * x**j for j in range(degree + 1))
        worst = max(worst, abs(p / f(x) - 1))
    return [c[j] for j in range(degree + 1)], worst


def show(name, f, low, high, degree):
    c, worst = interpolate(f, mpf(low), mpf(high), degree)
    print(f"/// Relative error {mp.nstr(worst, 2)}.")
    print(f"const {name}: &[f64] = &[" + ", ".join(mp.nstr(x, 18) for x in c) + "];")


def small(u):
    x = sqrt(u) if u > 0 else mpf(10) ** -25
    return erf(x) / x


def tail(limit):
    def q(t):
        x = 2 * (1 + t) / (1 - t)
        return erfc(x) * exp(x * x)

    at = lambda x: (mpf(x) - 2) / (mpf(x) + 2)
    return q, at(1), at(limit)


show("ERF_SMALL_F32", small, 0, 1, 6)
show("ERF_SMALL_F64", small, 0, 1, 13)
q, low, high = tail(4.25)
show("ERFC_TAIL_F32", q, low, high, 7)
q, low, high = tail(6)
show("ERFC_TAIL_F64", q, low, high, 19)
