//! Our layout of vector-quantized layers; no other reader knows it.
//!
//! ```text
//! vq_shape i64 [2] = [n, k]      vq_scale f16 [k]      vq_index i32: a bit stream, channel after channel, of ⌈n/v⌉ × (index, residual index)
//! vq_centroids_0 f16 [entries, v]      vq_residual_0 f16 [entries, v] where there is a residual codebook
//! vq_centroids_1, vq_residual_1   of the channels whose bit is set      vq_outliers i32 [⌈k/32⌉]: a bit each channel, where there are two books
//! vq_centroids_2 …, vq_residual_2 …   with more books      vq_books i32 [⌈k/4⌉]: the number of its book, 8 bits each channel
//! vq_levels i32 [⌈n/8⌉]: the level of each output, 4 bits each, where outputs are scaled; vq_interleave instead where they are dealt out besides
//! ```

use super::{Tensors, Written, bits, floats, integers, put_halves, put_words};
use crate::arch::LinearSpec;
use crate::error::Result;
use half::f16;
use icd_core::DType;
use icd_quant::{Notes, OutputMap, VectorBook, VectorQuantized};

/// Whether a layer lies in this layout.
pub fn is_here(source: &dyn Tensors, layer: &str) -> bool {
    source.has(&format!("{layer}.vq_shape"))
}

/// Tensors of the levels of outputs that stay in order, and of those that are dealt out.
const LEVELS: [&str; 2] = ["vq_levels", "vq_interleave"];

/// Bits of an index into a book of `elements / v` entries.
fn index_bits(elements: usize, v: usize) -> u32 {
    elements.checked_div(v).unwrap_or(0).max(1).next_power_of_two().trailing_zeros()
}

/// The tensor with each channel's book, and its bits a channel; none for a single book.
fn numbering(books: usize) -> Option<(&'static str, u8)> {
    match books {
        0 | 1 => None,
        2 => Some(("vq_outliers", 1)),
        _ => Some(("vq_books", 8)),
    }
}

/// Tensors of a layer.
///
/// # Errors
/// Never for a well-formed `q`.
pub fn write(name: &str, q: &VectorQuantized) -> Result<Written> {
    let mut out = Written::new();
    let shape = [q.n, q.k].iter().flat_map(|v| (*v as i64).to_le_bytes()).collect();
    super::put(&mut out, format!("{name}.vq_shape"), DType::I64, &[2], shape)?;
    put_halves(&mut out, format!("{name}.vq_scale"), &[q.k], q.scales.iter().map(|s| s.to_f32()))?;
    for (at, book) in q.books.iter().enumerate() {
        for (kind, entries) in [("centroids", &book.centroids), ("residual", &book.residual)] {
            if !entries.is_empty() {
                let shape = [entries.len() / book.vector, book.vector];
                put_halves(&mut out, format!("{name}.vq_{kind}_{at}"), &shape, entries.iter().map(|v| v.to_f32()))?;
            }
        }
    }
    if let Some((tensor, bits)) = numbering(q.books.len()) {
        let words = bits::pack(q.book_of.iter().copied(), bits);
        put_words(&mut out, format!("{name}.{tensor}"), &[words.len()], &words)?;
    }
    if let Some(map) = &q.outputs {
        let words = bits::pack(map.levels().iter().copied(), OutputMap::BITS);
        let [scaled, interleaved] = LEVELS;
        put_words(&mut out, format!("{name}.{}", if map.is_interleaved() { interleaved } else { scaled }), &[words.len()], &words)?;
    }
    let mut stream = bits::Writer::default();
    for (c, (indices, book)) in q.indices.iter().zip(&q.book_of).enumerate() {
        let Some(book) = q.books.get(usize::from(*book)) else { continue };
        let residual = q.residual_indices.get(c);
        for (i, index) in indices.iter().enumerate() {
            stream.push(u32::from(*index), index_bits(book.centroids.len(), book.vector));
            if let Some(index) = residual.and_then(|r| r.get(i)) {
                stream.push(u32::from(*index), index_bits(book.residual.len(), book.vector));
            }
        }
    }
    let words = stream.finish();
    put_words(&mut out, format!("{name}.vq_index"), &[words.len()], &words)?;
    Ok(out)
}

/// Reads a layer.
///
/// # Errors
/// A tensor is missing or of another shape, or an index is beyond its codebook.
pub fn read(source: &dyn Tensors, spec: &LinearSpec) -> Result<VectorQuantized> {
    let (k, n) = (spec.k, spec.n);
    let name = |part: &str| format!("{}.{part}", spec.name);
    if integers(source, &name("vq_shape"), &[2])? != [n as i64, k as i64] {
        return Err(source.error(&name("vq_shape"), format!("is not [{n}, {k}], as config.json asks")));
    }
    let halves = |values: Vec<f32>| values.into_iter().map(f16::from_f32).collect::<Vec<_>>();
    let scales = halves(floats(source, &name("vq_scale"), &[k])?);
    let mut books = Vec::new();
    for at in 0..=usize::from(u8::MAX) {
        let own = name(&format!("vq_centroids_{at}"));
        if !source.has(&own) {
            break;
        }
        let vector = vector_of(source, &own)?;
        let read = |tensor: &str| -> Result<Vec<f16>> {
            let shape = source.literal(tensor)?.ty().shape().unwrap_or_default();
            match shape.as_slice() {
                &[entries, v] if v == vector && (1..=65536).contains(&entries) => Ok(halves(floats(source, tensor, &shape)?)),
                _ => Err(source.error(tensor, format!("has shape {shape:?}, not that of a codebook of vectors of {vector}"))),
            }
        };
        let residual = name(&format!("vq_residual_{at}"));
        books.push(VectorBook {
            vector,
            centroids: read(&own)?,
            residual: if source.has(&residual) { read(&residual)? } else { Vec::new() },
        });
    }
    let book_of = match numbering(books.len()) {
        Some((tensor, bits)) => bits::unpack(words(source, &name(tensor), bits::words(k, bits))?, bits, k),
        None if books.is_empty() => return Err(source.error(&name("vq_centroids_0"), "is missing".into())),
        None => vec![0; k],
    };
    if let Some(beyond) = book_of.iter().find(|b| usize::from(**b) >= books.len()) {
        return Err(source.error(&name("vq_books"), format!("names codebook {beyond} of {}", books.len())));
    }
    let vectors = |book: u8| books.get(usize::from(book)).map_or(0, |b| n.div_ceil(b.vector));
    let total: usize = book_of.iter().map(|b| vectors(*b) * books.get(usize::from(*b)).map_or(0, |b| b.bits() as usize)).sum();
    let mut stream = bits::Reader::new(words(source, &name("vq_index"), total.div_ceil(32))?);
    let (mut indices, mut residual_indices) = (Vec::with_capacity(k), Vec::new());
    for of in &book_of {
        let Some(book) = books.get(usize::from(*of)) else { continue };
        let (mut main, mut residual) = (Vec::with_capacity(vectors(*of)), Vec::new());
        for _ in 0..vectors(*of) {
            main.push(stream.take(index_bits(book.centroids.len(), book.vector)) as u16);
            if !book.residual.is_empty() {
                residual.push(stream.take(index_bits(book.residual.len(), book.vector)) as u16);
            }
        }
        let beyond = |indices: &[u16], entries: &[f16]| indices.iter().any(|i| (usize::from(*i) + 1) * book.vector > entries.len());
        if beyond(&main, &book.centroids) || beyond(&residual, &book.residual) {
            return Err(source.error(&name("vq_index"), "names an entry beyond its codebook".into()));
        }
        indices.push(main);
        if books.iter().any(|b| !b.residual.is_empty()) {
            residual_indices.push(residual);
        }
    }
    let mut outputs = None;
    for (tensor, interleaved) in LEVELS.into_iter().zip([false, true]).filter(|(tensor, _)| source.has(&name(tensor))) {
        let levels = bits::unpack(words(source, &name(tensor), bits::words(n, OutputMap::BITS))?, OutputMap::BITS, n);
        outputs = OutputMap::from_levels(levels, interleaved);
    }
    Ok(VectorQuantized { k, n, books, book_of, scales, indices, residual_indices, outputs, notes: Notes::default() })
}

fn vector_of(source: &dyn Tensors, tensor: &str) -> Result<usize> {
    match source.literal(tensor)?.ty().shape().as_deref() {
        Some(&[_, v]) if (1..=16).contains(&v) => Ok(v),
        other => Err(source.error(tensor, format!("has shape {other:?}, not [entries, 1 to 16]"))),
    }
}

fn words(source: &dyn Tensors, tensor: &str, count: usize) -> Result<Vec<u32>> {
    Ok(integers(source, tensor, &[count])?.into_iter().map(|w| w as u32).collect())
}
