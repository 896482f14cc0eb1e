use icd_checkpoint::arch::architecture;
use icd_checkpoint::folder::ModelFolder;
use icd_checkpoint::layout::formats::Layout;
use icd_checkpoint::preprocess::Preprocess;
use icd_checkpoint::quantize::{Method, Options, quantize};
use icd_checkpoint::rows::Batch;
use icd_checkpoint::size::Size;
use icd_checkpoint::sparsity::{Prune, Sparsity, pattern};
use icd_checkpoint::text::Text;
use icd_checkpoint::{embeddings, kv_cache, perplexity, sensitivity};
use std::collections::BTreeMap;
use std::path::Path;

fn main() {
    let a: Vec<String> = std::env::args().collect();
    let folder = ModelFolder::open(Path::new(&a[1])).unwrap();
    let arch = architecture(&folder).unwrap();
    let cal = std::fs::read_to_string(&a[2]).unwrap();
    let eval = std::fs::read_to_string(&a[3]).unwrap();
    let tok = Text::open(folder.path()).unwrap();
    let lm = arch.head().is_some();
    let windows = std::env::var("WINDOWS").ok().and_then(|w| w.parse().ok());
    let exact = if lm {
        println!("exact {}", perplexity::perplexity(&folder, &eval, 512, windows, None, &mut |_, _| ()).unwrap().perplexity);
        vec![]
    } else {
        let b = tok.sentences(&eval, 256).unwrap();
        embeddings::embed(&folder, &b, &mut |_| ()).unwrap()
    };
    for line in &a[4..] {
        let mut o = Options { scheme: "w4a16".parse().unwrap(), method: Method::GptqBest, group: Some(128), asymmetric: false, act_order: false,
            preprocess: Preprocess::None, layout: Layout::CompressedTensors, tolerance: None, forms: BTreeMap::new(), sparsity: None, compensate: false };
        let (mut samples, mut budget, mut kv) = (256usize, None, None);
        let mut w = line.split_whitespace();
        while let Some(t) = w.next() {
            match t {
                "scheme" => o.scheme = w.next().unwrap().parse().unwrap(),
                "rtn" => o.method = Method::Rtn, "gptq" => o.method = Method::Gptq, "best" => o.method = Method::GptqBest,
                "awq" => o.method = Method::Awq, "vptq" => o.method = Method::Vptq,
                "group" => o.group = Some(w.next().unwrap().parse().unwrap()).filter(|g| *g > 0),
                "asym" => o.asymmetric = true, "act" => o.act_order = true, "comp" => o.compensate = true,
                "pre" => o.preprocess = w.next().unwrap().parse().unwrap(),
                "samples" => samples = w.next().unwrap().parse().unwrap(),
                "budget" => budget = Some(w.next().unwrap().parse::<f64>().unwrap()),
                "kv" => kv = Some(icd_quant::KvQuant { kind: kv_cache::kind(w.next().unwrap()).unwrap(), group: w.next().unwrap().parse().unwrap(), recent: 0 }),
                "sparse" => o.sparsity = Some(Sparsity { pattern: pattern(w.next().unwrap()).unwrap(), permute: false, prune: match w.next().unwrap() { "magnitude" => Prune::Magnitude, "wanda" => Prune::Wanda, _ => Prune::SparseGpt } }),
                "permute" => o.sparsity.as_mut().unwrap().permute = true,
                "none" => samples = 0,
                _ => panic!("{t}"),
            }
        }
        if let Some(kv) = kv {
            let p = perplexity::perplexity(&folder, &eval, 512, windows, Some(kv), &mut |_, _| ()).unwrap();
            println!("{line}: perplexity {} kv bits {:?}", p.perplexity, p.kv_bits);
            continue;
        }
        let all = if lm { tok.tiles(&cal, 512).unwrap() } else { tok.sentences(&cal, 128).unwrap() };
        let ranges: Vec<_> = all.sequences().collect();
        let used = samples.min(ranges.len());
        let batch = Batch::new((0..used).map(|i| &all.tokens[ranges[i * ranges.len() / used].clone()]));
        let start = std::time::Instant::now();
        if let Some(b) = budget {
            o.forms = sensitivity::allocate(&folder, arch.as_ref(), &o, &batch, b, &mut |_, _| ()).unwrap();
        }
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        let r = quantize(&folder, &o, Some(&batch).filter(|_| used > 0), &out, &dir.path().join("work"), &mut |_, _| ()).unwrap();
        let seconds = start.elapsed().as_secs_f64();
        let q = ModelFolder::open(&out).unwrap();
        if lm {
            let p = perplexity::perplexity(&q, &eval, 512, windows, None, &mut |_, _| ()).unwrap();
            println!("{line}: perplexity {:.4} bits {:.3} e2e {:?} {seconds:.0}s", p.perplexity, r.bits_per_weight, r.end_to_end_error);
        } else {
            let b = tok.sentences(&eval, 256).unwrap();
            let e = embeddings::embed(&q, &b, &mut |_| ()).unwrap();
            let g = embeddings::agreement(&e, &exact, Size::of(&q, arch.as_ref()));
            println!("{line}: cos {:.5} top10 {:.4} bits {:.3} e2e {:.4e} {seconds:.0}s", g.cosine_mean, g.top10, g.size.bits_per_weight, r.end_to_end_error.unwrap_or(0.0));
        }
        for l in r.layers.iter().filter(|l| l.note.is_some()) { println!("   {} {:?}", l.name, l.note); }
    }
}
