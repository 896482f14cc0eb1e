//! Matrices from files: `.npy` (versions 1 to 3) and safetensors.

use crate::{Matrix, PermuteError};
use icd_core::weights::WeightFile;
use std::{fs::File, io::Read, path::Path};

/// Largest `.npy` file that is read, in bytes.
const MAX_NPY_BYTES: u64 = 1 << 34;

/// Reads a matrix of floats. `tensor` names the one to take from a safetensors file; it may be left out where the file holds a single matrix.
///
/// # Errors
/// The file cannot be read or is malformed, holds no such matrix, or a value is not finite.
pub fn read_matrix(path: &Path, tensor: Option<&str>) -> Result<Matrix, PermuteError> {
    let bad = |what: String| PermuteError::Matrix { path: path.into(), what };
    let (shape, data) = if path.extension().is_some_and(|e| e == "npy") {
        if tensor.is_some() {
            return Err(bad("an .npy file holds one array; leave out the name of a tensor".into()));
        }
        let io = |cause| PermuteError::Io { path: path.into(), cause };
        let mut bytes = Vec::new();
        File::open(path).map_err(io)?.take(MAX_NPY_BYTES + 1).read_to_end(&mut bytes).map_err(io)?;
        if bytes.len() as u64 > MAX_NPY_BYTES {
            return Err(bad(format!("larger than {MAX_NPY_BYTES} bytes")));
        }
        parse_npy(&bytes).map_err(bad)?
    } else {
        from_safetensors(path, tensor).map_err(bad)?
    };
    let [rows, columns] = shape[..] else {
        return Err(bad(format!("an array of {} dimensions; a matrix has 2", shape.len())));
    };
    Matrix::new(rows, columns, data).map_err(|e| bad(e.to_string()))
}

fn from_safetensors(path: &Path, tensor: Option<&str>) -> Result<(Vec<usize>, Vec<f32>), String> {
    let file = WeightFile::open(path).map_err(|e| e.to_string())?;
    let literal = match tensor {
        Some(name) => file.tensor(name).map_err(|e| e.to_string())?,
        None => {
            let mut matrices = file.tensors().iter().filter(|(_, t)| t.ty().shape().is_some_and(|s| s.len() == 2));
            match (matrices.next(), matrices.next()) {
                (Some((_, literal)), None) => literal,
                (None, _) => return Err("holds no matrix".into()),
                (Some((first, _)), Some((second, _))) => {
                    return Err(format!("holds several matrices ('{first}', '{second}', …); name one with --tensor"));
                }
            }
        }
    };
    let data = literal.to_f32().ok_or_else(|| format!("elements of type {} are no real numbers", literal.ty().dtype))?;
    let shape = literal.ty().shape().ok_or("the tensor has no fixed shape")?;
    Ok((shape, data))
}

fn parse_npy(bytes: &[u8]) -> Result<(Vec<usize>, Vec<f32>), String> {
    let rest = bytes.strip_prefix(b"\x93NUMPY").ok_or("not an .npy file: its first bytes are not \\x93NUMPY")?;
    let cut_off = "the header is cut off";
    let (length, rest) = match rest.split_first_chunk::<4>() {
        Some(([1, _, low, high], rest)) => (usize::from(u16::from_le_bytes([*low, *high])), rest),
        Some(([2 | 3, _, a, b], rest)) => {
            let ([c, d], rest) = rest.split_first_chunk::<2>().ok_or(cut_off)?;
            (u32::from_le_bytes([*a, *b, *c, *d]) as usize, rest)
        }
        Some(([version, ..], _)) => return Err(format!("version {version} of .npy is not known; write version 1, 2 or 3")),
        None => return Err(cut_off.into()),
    };
    let (header, data) = rest.split_at_checked(length).ok_or(cut_off)?;
    let header = std::str::from_utf8(header).map_err(|_| "the header is no text")?;
    let after = |key: &str| {
        let at = header.split_once(key).ok_or_else(|| format!("the header lacks {key}"))?.1;
        at.trim_start().strip_prefix(':').map(str::trim_start).ok_or_else(|| format!("no value follows {key} in the header"))
    };
    let columns_first = after("'fortran_order'")?.starts_with("True");
    let shape = after("'shape'")?.strip_prefix('(').and_then(|s| s.split_once(')')).ok_or("the shape is no tuple")?.0;
    let shape: Vec<usize> = shape
        .split(',')
        .map(str::trim)
        .filter(|s| !s.is_empty())
        .map(|s| s.parse().map_err(|_| format!("'{s}' is no size")))
        .collect::<Result<_, _>>()?;
    let elems = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).ok_or("the shape is too large")?;
    let kind = after("'descr'")?.get(..5).unwrap_or_default();
    let values: Vec<f32> = match kind {
        "'<f4'" => data.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
        "'<f8'" => data.as_chunks::<8>().0.iter().map(|b| f64::from_le_bytes(*b) as f32).collect(),
        other => return Err(format!("elements of type {other}; write '<f4' or '<f8'")),
    };
    let size = if kind == "'<f4'" { 4 } else { 8 };
    if elems.checked_mul(size) != Some(data.len()) {
        return Err(format!("{} bytes for {elems} elements of {size}", data.len()));
    }
    match (columns_first, &shape[..]) {
        (false, _) => Ok((shape, values)),
        (true, &[rows, columns]) => {
            let moved = (0..elems).map(|i| values[i % columns.max(1) * rows + i / columns.max(1)]).collect();
            Ok((shape, moved))
        }
        (true, _) => Err("an array in Fortran order that is no matrix".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn npy(header: &str, data: &[u8]) -> Vec<u8> {
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes.extend(data);
        bytes
    }

    fn floats(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|v| v.to_le_bytes()).collect()
    }

    #[test]
    fn both_orders_and_both_widths() {
        let row_major = npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }\n", &floats(&[1., 2., 3., 4., 5., 6.]));
        assert_eq!(parse_npy(&row_major).unwrap(), (vec![2, 3], vec![1., 2., 3., 4., 5., 6.]));
        let column_major = npy("{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3), }", &floats(&[1., 4., 2., 5., 3., 6.]));
        assert_eq!(parse_npy(&column_major).unwrap(), (vec![2, 3], vec![1., 2., 3., 4., 5., 6.]));
        let doubles: Vec<u8> = [0.5f64, -2.0].iter().flat_map(|v| v.to_le_bytes()).collect();
        assert_eq!(
            parse_npy(&npy("{'shape':(1,2),'fortran_order':False,'descr':'<f8'}", &doubles)).unwrap(),
            (vec![1, 2], vec![0.5, -2.0])
        );
        let mut second = b"\x93NUMPY\x02\x00".to_vec();
        let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 0)}";
        second.extend((header.len() as u32).to_le_bytes());
        second.extend(header.as_bytes());
        assert_eq!(parse_npy(&second).unwrap(), (vec![1, 0], vec![]));
    }

    #[test]
    fn malformed_arrays_are_refused() {
        let good = npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2)}", &floats(&[1., 2.]));
        for cut in 0..good.len() {
            assert!(parse_npy(&good[..cut]).is_err(), "cut to {cut} bytes");
        }
        for (header, expected) in [
            ("{'descr': '<i4', 'fortran_order': False, 'shape': (1, 2)}", "elements of type '<i4'"),
            ("{'descr': '>f4', 'fortran_order': False, 'shape': (1, 2)}", "elements of type '>f4'"),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2)}", "8 bytes for 4 elements"),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 2)}", "'-1' is no size"),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': 2}", "no tuple"),
            ("{'descr': '<f4', 'fortran_order': False}", "lacks 'shape'"),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999, 99999999999)}", "too large"),
            ("{'descr', 'fortran_order': False, 'shape': (1, 2)}", "no value follows 'descr'"),
        ] {
            let error = parse_npy(&npy(header, &floats(&[1., 2.]))).unwrap_err();
            assert!(error.contains(expected), "{header}: {error}");
        }
        assert!(parse_npy(b"\x93NUMPY\x09\x00\x00\x00").unwrap_err().contains("version 9"));
    }
}
