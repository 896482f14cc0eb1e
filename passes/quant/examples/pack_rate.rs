//! Rate of packing 4-bit codes, beside `memcpy` of the same bytes by as many threads: `pack_rate [N K [REPEATS]]`, one JSON object.
//!
//! Codes come two a byte with f16 scales of 128 rows and go to packed tiles of the same size, or back. A repeat times memcpy, packing and
//! unpacking in turn, between buffers that every repeat uses again; the figures are medians.

use icd_core::{
    DType,
    pack_format::{KOrder, PackFormat, WeightFormat},
};
use icd_quant::pack::{CodeWidth, Codes, Floats, Packer, Unpacker, Weights};
use rayon::prelude::*;
use std::{error::Error, time::Instant};

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn seconds(body: impl FnOnce()) -> f64 {
    let start = Instant::now();
    body();
    start.elapsed().as_secs_f64()
}

fn copy(from: &[u8], to: &mut [u8]) {
    let part = from.len().div_ceil(rayon::current_num_threads()).max(1);
    to.par_chunks_mut(part).zip(from.par_chunks(part)).for_each(|(to, from)| to.copy_from_slice(from));
}

fn main() -> Result<(), Box<dyn Error>> {
    let sizes: Vec<usize> = std::env::args().skip(1).map(|a| a.parse()).collect::<Result<_, _>>()?;
    let (n, k) = (*sizes.first().unwrap_or(&28672), *sizes.get(1).unwrap_or(&8192));
    let repeats = *sizes.get(2).unwrap_or(&15);
    let mut state = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_nanos() as u64 | 1;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut results = Vec::new();
    for k_order in [KOrder::Lane16, KOrder::Natural] {
        let format = PackFormat::new(n, k, WeightFormat::W4 { symmetric: true, group: 128 }, DType::F16, k_order)?;
        let codes: Vec<u8> = (0..k * n.div_ceil(2)).map(|_| (random() >> 20) as u8).collect();
        let scales: Vec<u8> = (0..format.groups() * n).flat_map(|_| ((random() >> 30) as u16 & 0x3fff).to_le_bytes()).collect();
        let given = Codes { bytes: &codes, width: CodeWidth::Nibble, signed: false };
        let packer = Packer::new(format, Weights::Codes { codes: given, scales: Floats::new(&scales, DType::F16)?, zeros: None })?;
        let (mut packed, mut copied, mut rows) = (vec![0; format.bytes()], vec![0; format.bytes()], vec![0; codes.len()]);
        let mut times = [const { Vec::new() }; 3];
        for repeat in 0..=repeats {
            let copying = seconds(|| copy(&packed, &mut copied));
            let mut outcome = Ok(());
            let packing = seconds(|| outcome = packer.pack(0..format.n_tiles(), &mut packed));
            outcome?;
            let unpacker = Unpacker::new(format, &packed)?;
            let mut outcome = Ok(());
            let unpacking = seconds(|| outcome = unpacker.rows(0..format.k_tiles(), &mut rows));
            outcome?;
            if rows != codes {
                return Err("unpacking did not restore the codes".into());
            }
            if repeat > 0 {
                times.iter_mut().zip([copying, packing, unpacking]).for_each(|(all, t)| all.push(t));
            }
        }
        let [memcpy, pack, unpack] = times.each_mut().map(|t| format.bytes() as f64 / median(t) / 1e9);
        results.push(serde_json::json!({
            "k_order": k_order, "n": n, "k": k, "bytes": format.bytes(), "memcpy_gb_s": memcpy, "pack_gb_s": pack, "unpack_gb_s": unpack,
            "pack_of_memcpy": pack / memcpy, "unpack_of_memcpy": unpack / memcpy,
        }));
    }
    let what = "Reordering 4-bit codes (group 128, f16 scales) into packed tiles and back; bytes of the packed matrix a second, medians";
    let record = serde_json::json!({ "what": what, "threads": rayon::current_num_threads(), "repeats": repeats, "results": results });
    println!("{}", serde_json::to_string_pretty(&record)?);
    Ok(())
}
