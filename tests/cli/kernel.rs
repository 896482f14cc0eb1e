//! `icd kernel`: kernels by name, and programs whose kernels share a workspace.

use crate::tool::{icd, icd_opt};
use icd_core::{
    artifact::Artifact,
    kernel_module::{KernelFile, Param},
    manifest::{Buffer, LaunchArg, Place, Step},
};
use std::path::Path;

#[test]
fn a_named_tile_is_written_and_says_what_it_needs() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("kernel");
    let sizes = ["--m", "300", "--n", "9000", "--k", "1024", "-o", out.to_str().unwrap()];
    icd(&[&["kernel", "--tile", "multicast:m128n128g2s5kr1"][..], &sizes].concat()).success();
    let file: KernelFile = serde_json::from_slice(&std::fs::read(out.join("kernel.json")).unwrap()).unwrap();
    assert_eq!((file.family.as_str(), file.tile.as_str()), ("multicast", "m128n128g2s5kr1"));
    let Some(Param::Workspace { bytes, zeroed }) = file.kernel.params.last() else { panic!("{:?}", file.kernel.params) };
    assert_eq!(bytes - zeroed, (file.kernel.grid[0] * 128 * 128 * 4) as usize, "sums of one tile a block");
    let refused = [
        ("m128n128g2s5k", "FAMILY:TILE"),
        ("multicast:m7", "no tile is named 'm7'"),
        ("magic:m128", "no family is named 'magic'"),
        ("decode:t4r1w1x8s3b132", "m must be at most 32"),
    ];
    for (name, part) in refused {
        icd(&[&["kernel", "--tile", name][..], &sizes].concat()).refused(1, &[part]);
    }
}

/// Two products whose kernels want workspaces of different sizes: one memory behind all that the plan lays out, as large as the larger.
#[test]
fn kernels_of_a_program_share_a_workspace() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    let (model, table, artifact) = (path("model.mlir"), path("table.json"), path("model.icd"));
    let hex = |count: usize| (0..count).map(|i| format!("{:02X}{:02X}", i * 7 % 251, 0x28 | i % 3)).collect::<String>();
    let (v, w) = (hex(1408 * 512), hex(512 * 2304));
    let text = format!(
        "module {{
      func.func @main(%x: tensor<300x1408xf16>) -> tensor<300x2304xf16> {{
        %v = stablehlo.constant dense<\"0x{v}\"> : tensor<1408x512xf16>
        %w = stablehlo.constant dense<\"0x{w}\"> : tensor<512x2304xf16>
        %h = stablehlo.dot_general %x, %v, contracting_dims = [1] x [0] : (tensor<300x1408xf16>, tensor<1408x512xf16>) -> tensor<300x512xf16>
        %y = stablehlo.dot_general %h, %w, contracting_dims = [1] x [0] : (tensor<300x512xf16>, tensor<512x2304xf16>) -> tensor<300x2304xf16>
        return %y : tensor<300x2304xf16>
      }}
    }}"
    );
    std::fs::write(&model, text).unwrap();
    let entry = |n: usize, k: usize, tile: &str| {
        format!(r#"{{"m":300,"n":{n},"k":{k},"act":"f16","weight":{{"kind":"dense"}},"family":"multicast","tile":"{tile}","us":1.0}}"#)
    };
    let entries = [entry(512, 1408, "m128n128g2s3k"), entry(2304, 512, "m256n128g2s2k")].join(",");
    std::fs::write(&table, format!(r#"[{{"arch":"sm_90a","device":"","driver":"","entries":[{entries}]}}]"#)).unwrap();
    icd_opt(&[&model, &format!("--tune-table={table}"), "--emit=artifact", "--targets=sm_90a", "-o", &artifact]).success();
    let artifact = Artifact::open(Path::new(&artifact)).unwrap();
    let program = &artifact.manifest().programs[0];
    let range = |index: usize| match program.buffers[index] {
        Buffer { place: Place::Arena(start), bytes } => Some(start..start + bytes),
        _ => None,
    };
    let last: Vec<usize> = program
        .steps
        .iter()
        .filter_map(|step| match step {
            Step::Launch { args, entry, .. } if entry.contains("multicast") => Some(args),
            _ => None,
        })
        .map(|args| if let Some(LaunchArg::Buffer(index)) = args.last() { *index } else { panic!("{args:?}") })
        .collect();
    assert_eq!((last.len(), last.first()), (2, last.last()), "two products, one workspace");
    let workspace = range(last[0]).unwrap();
    assert_eq!(workspace.len(), 16 * 1024 + 132 * 256 * 128 * 4);
    let others = (0..program.buffers.len()).filter(|i| *i != last[0]).filter_map(range);
    assert!(others.into_iter().all(|other| other.end <= workspace.start), "nothing else lies there");
    assert_eq!(program.arena_bytes, workspace.end);
}
