//! Decoder layers as exports have them: a Llama block (rotary positions, grouped gate) and a Mamba block (depthwise convolution, selective scan).

use super::{Program, f32s};
use icd_core::graph::{Binary, Module, Unary, ValueId};

impl Program {
    fn rms_norm(&mut self, x: ValueId) -> ValueId {
        let dims = self.dims(x);
        let (r, n) = (dims.len(), *dims.last().unwrap());
        let all: Vec<usize> = (0..r).collect();
        let mut ones = dims.clone();
        ones[r - 1] = 1;
        let square = self.binary(Binary::Multiply, x, x);
        let sum = self.reduce(Binary::Add, 0.0, square, &[r - 1]);
        let sum = self.reshape(sum, &ones);
        let count = self.splat(n as f32, &ones);
        let mean = self.binary(Binary::Divide, sum, count);
        let epsilon = self.splat(1e-5, &ones);
        let mean = self.binary(Binary::Add, mean, epsilon);
        let inverse = self.unary(Unary::Rsqrt, mean);
        let inverse = self.broadcast(inverse, &all, &dims);
        let y = self.binary(Binary::Multiply, x, inverse);
        let gamma = self.weight(&[n], 1.0);
        let gamma = self.broadcast(gamma, &[r - 1], &dims);
        self.binary(Binary::Multiply, y, gamma)
    }

    fn project(&mut self, x: ValueId, n: usize) -> ValueId {
        let k = *self.dims(x).last().unwrap();
        let w = self.weight(&[k, n], 1.0 / (k as f32).sqrt());
        let rank = self.dims(x).len();
        self.dot(x, w, (&[], &[]), (&[rank - 1], &[0]))
    }

    fn silu(&mut self, x: ValueId) -> ValueId {
        let s = self.unary(Unary::Logistic, x);
        self.binary(Binary::Multiply, x, s)
    }

    /// Rotary positions on [S, heads, width] with tables [S, width].
    fn rotate(&mut self, x: ValueId, cos: ValueId, sin: ValueId) -> ValueId {
        let d = self.dims(x);
        let half = (d[2] / 2) as i64;
        let (s, h, w) = (d[0] as i64, d[1] as i64, d[2] as i64);
        let low = self.slice(x, &[0, 0, 0], &[s, h, half]);
        let high = self.slice(x, &[0, 0, half], &[s, h, w]);
        let high = self.unary(Unary::Negate, high);
        let turned = self.concatenate(&[high, low], 2);
        let (cos, sin) = (self.broadcast(cos, &[0, 2], &d), self.broadcast(sin, &[0, 2], &d));
        let a = self.binary(Binary::Multiply, x, cos);
        let b = self.binary(Binary::Multiply, turned, sin);
        self.binary(Binary::Add, a, b)
    }

    fn llama_block(&mut self, x: ValueId, heads: usize, cos: ValueId, sin: ValueId) -> ValueId {
        let d = self.dims(x);
        let (s, c) = (d[0], d[1]);
        let w = c / heads;
        let n = self.rms_norm(x);
        let (q, k, v) = (self.project(n, c), self.project(n, c), self.project(n, c));
        let [q, k, v] = [q, k, v].map(|y| self.reshape(y, &[s, heads, w]));
        let (q, k) = (self.rotate(q, cos, sin), self.rotate(k, cos, sin));
        let [q, k, v] = [q, k, v].map(|y| self.transpose(y, &[1, 0, 2]));
        let scores = self.dot(q, k, (&[0], &[0]), (&[2], &[2]));
        let scale = self.splat(1.0 / (w as f32).sqrt(), &[heads, s, s]);
        let scores = self.binary(Binary::Multiply, scores, scale);
        let p = self.softmax(scores);
        let o = self.dot(p, v, (&[0], &[0]), (&[2], &[1]));
        let o = self.transpose(o, &[1, 0, 2]);
        let o = self.reshape(o, &[s, c]);
        let o = self.project(o, c);
        let x = self.binary(Binary::Add, x, o);
        let n = self.rms_norm(x);
        let gate = self.project(n, 2 * c);
        let gate = self.silu(gate);
        let up = self.project(n, 2 * c);
        let h = self.binary(Binary::Multiply, gate, up);
        let h = self.project(h, c);
        self.binary(Binary::Add, x, h)
    }

    /// One step of a state-space layer over [S, C]: the scan is unrolled over `S`, which is small here.
    fn mamba_block(&mut self, x: ValueId, state: usize) -> ValueId {
        let d = self.dims(x);
        let (s, c) = (d[0], d[1]);
        let n = self.rms_norm(x);
        let inner = self.project(n, c);
        let gate = self.project(n, c);
        let inner = self.silu(inner);
        let delta = self.project(inner, c);
        let delta = self.unary(Unary::Exponential, delta);
        let (b, out) = (self.project(inner, state), self.project(inner, state));
        let a = self.weight(&[c, state], 0.1);
        let mut h = self.splat(0.0, &[c, state]);
        let mut rows = Vec::new();
        for t in 0..s as i64 {
            let row = |p: &mut Self, v: ValueId, n: usize| p.slice(v, &[t, 0], &[t + 1, n as i64]);
            let (dt, xt) = (row(self, delta, c), row(self, inner, c));
            let (bt, ct) = (row(self, b, state), row(self, out, state));
            let (dt, xt) = (self.reshape(dt, &[c]), self.reshape(xt, &[c]));
            let (dt, xt) = (self.broadcast(dt, &[0], &[c, state]), self.broadcast(xt, &[0], &[c, state]));
            let (bt, ct) = (self.reshape(bt, &[state]), self.reshape(ct, &[state]));
            let (bt, ct) = (self.broadcast(bt, &[1], &[c, state]), self.broadcast(ct, &[1], &[c, state]));
            let decay = self.binary(Binary::Multiply, dt, a);
            let decay = self.unary(Unary::Tanh, decay);
            let kept = self.binary(Binary::Multiply, decay, h);
            let added = self.binary(Binary::Multiply, xt, bt);
            h = self.binary(Binary::Add, kept, added);
            let y = self.binary(Binary::Multiply, h, ct);
            let y = self.reduce(Binary::Add, 0.0, y, &[1]);
            rows.push(self.reshape(y, &[1, c]));
        }
        let y = self.concatenate(&rows, 0);
        let gate = self.silu(gate);
        let y = self.binary(Binary::Multiply, y, gate);
        let y = self.project(y, c);
        self.binary(Binary::Add, x, y)
    }
}

/// A stack of Llama blocks on [seq, heads·width].
pub fn llama(seed: u64, seq: usize, heads: usize, width: usize, layers: usize) -> Module {
    let mut p = Program::new(seed);
    let x = p.param(f32s(&[seq, heads * width]));
    let (cos, sin) = (p.weight(&[seq, width], 1.0), p.weight(&[seq, width], 1.0));
    let mut h = x;
    for _ in 0..layers {
        h = p.llama_block(h, heads, cos, sin);
    }
    let out = p.rms_norm(h);
    p.finish(&[out])
}

/// A stack of Mamba blocks on [seq, channels].
pub fn mamba(seed: u64, seq: usize, channels: usize, state: usize, layers: usize) -> Module {
    let mut p = Program::new(seed);
    let mut h = p.param(f32s(&[seq, channels]));
    for _ in 0..layers {
        h = p.mamba_block(h, state);
    }
    let out = p.rms_norm(h);
    p.finish(&[out])
}
