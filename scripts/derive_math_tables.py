#!/usr/bin/env python3
"""Prints polynomial tables of codegen/src/math: Chebyshev interpolants, as coefficients of powers. Needs mpmath.

usage: derive_math_tables.py NAME   where NAME is one of the tables below
"""

import sys

import mpmath as mp

mp.mp.dps = 60


def scaled_erfc(t):
    """erfc(x)·e^(x²)·(1 + 2x), which hardly changes, as a function of t = (x − 2)/(x + 2)."""
    x = 2 * (1 + t) / (1 - t)
    return mp.erfc(x) * mp.exp(x * x) * (1 + 2 * x)


def tail(last):
    """The interval of t for x from 1/2 to `last`."""
    return tuple((mp.mpf(x) - 2) / (mp.mpf(x) + 2) for x in ("0.5", last))


# name: (function, interval, degree)
TABLES = {
    "ERFC_WHOLE_TAIL_F32": (scaled_erfc, tail("10.1"), 12),
    "ERFC_WHOLE_TAIL_F64": (scaled_erfc, tail("27.3"), 30),
}


def interpolant(function, interval, degree):
    """Coefficients of powers, lowest first, of the interpolant at Chebyshev points; and its largest relative error."""
    low, high = interval
    middle, half = (low + high) / 2, (high - low) / 2
    count = degree + 1
    points = [middle + half * mp.cos(mp.pi * (2 * i + 1) / (2 * count)) for i in range(count)]
    matrix = mp.matrix([[p**j for j in range(count)] for p in points])
    solution = mp.lu_solve(matrix, mp.matrix([function(p) for p in points]))
    coefficients = [solution[j] for j in range(count)]
    samples = [low + (high - low) * i / 400 for i in range(401)]
    error = max(abs(mp.polyval(coefficients[::-1], s) / function(s) - 1) for s in samples)
    return coefficients, error


def main():
    if len(sys.argv) != 2 or sys.argv[1] not in TABLES:
        sys.exit(__doc__ + "    " + ", ".join(TABLES))
    coefficients, error = interpolant(*TABLES[sys.argv[1]])
    print(f"/// Relative error {mp.nstr(error, 2)}.")
    print(f"const {sys.argv[1]}: &[f64] = &[")
    for c in coefficients:
        print(f"    {mp.nstr(c, 18)},")
    print("];")


main()
