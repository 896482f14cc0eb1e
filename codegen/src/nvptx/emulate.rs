//! Runs generated kernels without a GPU, in tests: the same LLVM IR is compiled for this machine, and each GPU thread becomes a thread
//! of the operating system. Shuffles, barriers and tensor-core products meet at barriers of the warp or block. Blocks run one after the other.

#![allow(clippy::expect_used, reason = "a test harness")]

use super::kernel::{Launch, Source};
use crate::cpu::object::{Processor, compile, link};
use std::{
    cell::RefCell,
    collections::BTreeMap,
    fmt::Write,
    io::Write as _,
    sync::{Arc, Barrier, Mutex},
};

/// What the threads of a warp hand to each other.
struct Warp {
    barrier: Barrier,
    words: Mutex<[[u32; 6]; 32]>,
}

#[derive(Clone)]
struct Place {
    thread: u32,
    block: [u32; 3],
    warp: Arc<Warp>,
    all: Arc<Barrier>,
}

thread_local! {
    static PLACE: RefCell<Option<Place>> = const { RefCell::new(None) };
}

fn place() -> Place {
    PLACE.with(|p| p.borrow().clone()).expect("called from an emulated thread")
}

extern "C" fn special(which: u32) -> u32 {
    let p = place();
    match which {
        0 => p.thread,
        n => p.block[n as usize - 1],
    }
}
extern "C" fn barrier() {
    place().all.wait();
}

/// Every lane publishes its words; the result is what all lanes published.
fn publish(words: [u32; 6]) -> [[u32; 6]; 32] {
    let p = place();
    p.warp.words.lock().expect("no lane panics")[p.thread as usize % 32] = words;
    p.warp.barrier.wait();
    let all = *p.warp.words.lock().expect("no lane panics");
    p.warp.barrier.wait();
    all
}
extern "C" fn exchange(value: u32, mask: u32) -> u32 {
    let all = publish([value, 0, 0, 0, 0, 0]);
    all[((place().thread % 32) ^ mask) as usize][0]
}
extern "C" fn permute(a: u32, b: u32, selector: u32) -> u32 {
    let bytes = u64::from(b) << 32 | u64::from(a);
    (0..4).fold(0, |out, i| out | ((bytes >> (8 * (selector >> (4 * i) & 7))) as u32 & 0xff) << (8 * i))
}
extern "C" fn exp2(x: f32) -> f32 {
    x.exp2()
}

/// `mma.m16n8k16`: fragment positions as in the PTX ISA, section "Matrix Fragments for mma.m16n8k16".
unsafe extern "C" fn mma(a: *const u32, b: *const u32, c: *mut f32, bf16: u32) {
    // SAFETY: the caller passes arrays of 4, 2 and 4 elements of its own stack.
    let (a, b, c) = unsafe { (std::slice::from_raw_parts(a, 4), std::slice::from_raw_parts(b, 2), std::slice::from_raw_parts_mut(c, 4)) };
    let all = publish([a[0], a[1], a[2], a[3], b[0], b[1]]);
    let half = |word: u32, high: usize| {
        let bits = (word >> (16 * high)) as u16;
        if bf16 != 0 { half::bf16::from_bits(bits).to_f32() } else { half::f16::from_bits(bits).to_f32() }
    };
    let at_a = |row: usize, k: usize| half(all[row % 8 * 4 + k % 8 / 2][row / 8 + 2 * (k / 8)], k % 2);
    let at_b = |k: usize, col: usize| half(all[col * 4 + k % 8 / 2][4 + k / 8], k % 2);
    let lane = place().thread as usize % 32;
    for (i, out) in c.iter_mut().enumerate() {
        let (row, col) = (lane / 4 + 8 * (i / 2), lane % 4 * 2 + i % 2);
        *out += (0..16).map(|k| at_a(row, k) * at_b(k, col)).sum::<f32>();
    }
}

/// The kernel's IR with GPU instructions replaced by calls of functions of this file, whose addresses lie in `@icd_host`.
fn for_host(source: &Source) -> String {
    let text = source.ir.replace("define ptx_kernel void", "define void").replace(" addrspace(1)", "").replace(" addrspace(3)", "");
    let lines: Vec<&str> = text.lines().filter(|l| !(l.starts_with("declare") && l.contains("@llvm.nvvm."))).collect();
    let mut text = lines.join("\n").replace("@llvm.nvvm.", "@emulated.");
    text.push_str("\n@icd_host = global [7 x ptr] zeroinitializer\n");
    let host = |n: usize| format!("%f = load ptr, ptr getelementptr (ptr, ptr @icd_host, i64 {n})");
    let mut define = |name: &str, signature: &str, body: String| {
        if text.contains(&format!("@emulated.{name}(")) {
            let _ = writeln!(text, "{} {{\n{body}\n}}", signature.replace('@', &format!("@emulated.{name}")));
        }
    };
    for (i, register) in ["tid.x", "ctaid.x", "ctaid.y", "ctaid.z"].into_iter().enumerate() {
        define(&format!("read.ptx.sreg.{register}"), "define i32 @()", format!("{}\n%r = call i32 %f(i32 {i})\nret i32 %r", host(0)));
    }
    define("barrier.cta.sync.aligned.all", "define void @(i32 %n)", format!("{}\ncall void %f()\nret void", host(1)));
    define(
        "shfl.sync.bfly.i32",
        "define i32 @(i32 %m, i32 %v, i32 %x, i32 %c)",
        format!("{}\n%r = call i32 %f(i32 %v, i32 %x)\nret i32 %r", host(2)),
    );
    for (name, operand, flag) in [("mma.m16n8k16.row.col.f32.f32", "<2 x half>", 0), ("mma.m16n8k16.row.col.bf16", "i32", 1)] {
        let params: Vec<String> = (0..6).map(|i| format!("{operand} %w{i}")).chain((0..4).map(|i| format!("float %c{i}"))).collect();
        let mut body = format!("{}\n%w = alloca [6 x i32]\n%c = alloca [4 x float]\n", host(3));
        for i in 0..6 {
            let _ = writeln!(body, "%pw{i} = getelementptr i32, ptr %w, i32 {i}\nstore {operand} %w{i}, ptr %pw{i}");
        }
        for i in 0..4 {
            let _ = writeln!(body, "%pc{i} = getelementptr float, ptr %c, i32 {i}\nstore float %c{i}, ptr %pc{i}");
        }
        let _ = writeln!(body, "call void %f(ptr %w, ptr %pw4, ptr %c, i32 {flag})");
        let mut last = String::from("poison");
        for i in 0..4 {
            let _ = writeln!(
                body,
                "%l{i} = load float, ptr %pc{i}\n%r{i} = insertvalue {{float, float, float, float}} {last}, float %l{i}, {i}"
            );
            last = format!("%r{i}");
        }
        let _ = write!(body, "ret {{float, float, float, float}} %r3");
        define(name, &format!("define {{float, float, float, float}} @({})", params.join(", ")), body);
    }
    define("ex2.approx.ftz.f32", "define float @(float %x)", format!("{}\n%r = call float %f(float %x)\nret float %r", host(4)));
    define("prmt", "define i32 @(i32 %a, i32 %b, i32 %s)", format!("{}\n%r = call i32 %f(i32 %a, i32 %b, i32 %s)\nret i32 %r", host(5)));
    for name in ["griddepcontrol.launch.dependents", "griddepcontrol.wait"] {
        define(name, "define void @()", "ret void".into());
    }
    text
}

/// Kernels compiled so far, by symbol.
#[derive(Default)]
pub(crate) struct Emulator {
    loaded: BTreeMap<String, libloading::Library>,
}

impl Emulator {
    fn load(&mut self, source: &Source, params: usize) -> &libloading::Library {
        self.loaded.entry(source.symbol.clone()).or_insert_with(|| {
            let mut text = for_host(source);
            let mut entry = String::from("define void @icd_entry(ptr %args) {\n");
            for i in 0..params {
                let _ = writeln!(entry, "%a{i} = getelementptr ptr, ptr %args, i64 {i}\n%p{i} = load ptr, ptr %a{i}");
            }
            let args: Vec<String> = (0..params).map(|i| format!("ptr %p{i}")).collect();
            let _ = writeln!(entry, "call void @{}({})\nret void\n}}", source.symbol, args.join(", "));
            text.push_str(&entry);
            let processor = Processor::named("native").expect("a known processor");
            let object = compile(&text, &processor).unwrap_or_else(|e| panic!("{e}\n{text}"));
            let bytes = link(&[object]).expect("the linker works");
            let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
            file.write_all(&bytes).expect("space for a small file");
            // SAFETY: the object was made by the lines above and has no initializers.
            unsafe { libloading::Library::new(file.path()) }.expect("the object loads")
        })
    }

    /// Runs all blocks of a launch on buffers given by address.
    pub(crate) fn run(&mut self, launch: &Launch, buffers: &[*mut u8]) {
        let library = self.load(&launch.source, buffers.len());
        // SAFETY: both symbols are defined by `load` with these types.
        let (table, entry) = unsafe {
            let table: *mut [usize; 6] = *library.get::<*mut [usize; 6]>(b"icd_host").expect("defined");
            let entry: extern "C" fn(*const usize) = *library.get(b"icd_entry").expect("defined");
            (table, entry)
        };
        // SAFETY: no kernel of this library runs yet.
        unsafe {
            *table = [special as *const (), barrier as _, exchange as _, mma as _, exp2 as _, permute as _].map(|f: *const ()| f as usize);
        }
        let args: Vec<usize> = buffers.iter().map(|p| *p as usize).collect();
        let threads = launch.threads;
        let all = Arc::new(Barrier::new(threads as usize));
        let warps: Vec<Arc<Warp>> =
            (0..threads / 32).map(|_| Arc::new(Warp { barrier: Barrier::new(32), words: Mutex::new([[0; 6]; 32]) })).collect();
        let [gx, gy, gz] = launch.grid;
        std::thread::scope(|scope| {
            for thread in 0..threads {
                let (all, warp, args) = (all.clone(), warps[thread as usize / 32].clone(), &args);
                scope.spawn(move || {
                    for z in 0..gz {
                        for y in 0..gy {
                            for x in 0..gx {
                                PLACE.with(|p| {
                                    *p.borrow_mut() = Some(Place { thread, block: [x, y, z], warp: warp.clone(), all: all.clone() })
                                });
                                entry(args.as_ptr());
                                all.wait();
                            }
                        }
                    }
                });
            }
        });
    }
}

/// Bytes at an address that is a multiple of 16.
pub(crate) struct Aligned(Vec<u128>);

impl Aligned {
    /// A copy of `bytes`, with room for `len`.
    pub(crate) fn new(bytes: &[u8], len: usize) -> Self {
        let mut out = Aligned(vec![0xa5a5_a5a5_a5a5_a5a5_a5a5_a5a5_a5a5_a5a5; len.max(bytes.len()).div_ceil(16).max(1)]);
        out.bytes_mut()[..bytes.len()].copy_from_slice(bytes);
        out
    }
    /// All bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        bytemuck::cast_slice(&self.0)
    }
    /// All bytes.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        bytemuck::cast_slice_mut(&mut self.0)
    }
    /// Start.
    pub(crate) fn as_mut_ptr(&mut self) -> *mut u8 {
        self.0.as_mut_ptr().cast()
    }
}
