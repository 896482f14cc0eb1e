//! PTX instructions that kernels use beyond plain arithmetic, as methods of [`KernelBuilder`]. Shared-memory addresses are 32-bit, global ones 64.

use crate::nvptx::ptx_builder::{Float, Int, KernelBuilder, Ty, Var};
use icd_core::DType;
use inkwell::values::BasicValueEnum;

/// L2 policy "evict first" for data read once, as the 64-bit operand of `L2::cache_hint`.
const EVICT_FIRST: u64 = 0x12f0_0000_0000_0000;

/// Truth table of `(a & b) | c` for `lop3`.
const AND_OR: u32 = 0xea;
/// Truth table of `(a & b) ^ c` for `lop3`.
const AND_XOR: u32 = 0x6a;
/// Truth table of `!a & b` for `lop3`.
const NOT_AND: u32 = 0x0c;
/// Truth table of `(a & c) | (b & !c)`.
const MERGE: u32 = 0xe4;

/// 16-bit float type of operands, by its PTX suffix.
fn suffix(float: DType) -> &'static str {
    if float == DType::BF16 { "bf16" } else { "f16" }
}

impl<'c> KernelBuilder<'c> {
    fn one_int(&self, results: Vec<BasicValueEnum<'c>>) -> Int<'c> {
        match results.first() {
            Some(v) => v.into_int_value(),
            None => unreachable!("assembly declares a result"),
        }
    }
    fn one_float(&self, results: Vec<BasicValueEnum<'c>>) -> Float<'c> {
        match results.first() {
            Some(v) => v.into_float_value(),
            None => unreachable!("assembly declares a result"),
        }
    }
    fn four(&self, results: Vec<BasicValueEnum<'c>>) -> [Int<'c>; 4] {
        std::array::from_fn(|i| results[i].into_int_value())
    }

    fn special(&self, name: &str) -> Int<'c> {
        self.one_int(self.asm_pure(&[Ty::I32], &format!("mov.u32 $0, %{name};"), &[]))
    }
    /// Thread index.
    pub fn thread(&self) -> Int<'c> {
        self.special("tid.x")
    }
    /// Thread index, read where this stands: what is computed from it is not computed ahead and kept in registers through the loops before.
    pub fn thread_here(&self) -> Int<'c> {
        self.one_int(self.asm(&[Ty::I32], "mov.u32 $0, %tid.x;", &[]))
    }
    /// Block index along `x`, `y` or `z`.
    pub fn block_index(&self, axis: char) -> Int<'c> {
        self.special(&format!("ctaid.{axis}"))
    }
    /// Blocks along `x`, `y` or `z`.
    pub fn grid_size(&self, axis: char) -> Int<'c> {
        self.special(&format!("nctaid.{axis}"))
    }
    /// A value that is the same in all lanes, told to the compiler: keeps warp-uniform control flow uniform.
    pub fn uniform(&self, value: Int<'c>) -> Int<'c> {
        self.one_int(self.asm(&[Ty::I32], "shfl.sync.idx.b32 $0, $1, 0, 31, -1;", &[value.into()]))
    }

    /// Barrier of all threads of the block.
    pub fn barrier(&self) {
        self.asm(&[], "bar.sync 0;", &[]);
    }
    /// Barrier `id` of the first `threads` threads that reach it.
    pub fn named_barrier(&self, id: u32, threads: u32) {
        self.asm(&[], &format!("bar.sync {id}, {threads};"), &[]);
    }
    /// Barrier of the four warps of warpgroup `group`, by the named barrier of that number plus one.
    pub fn warpgroup_barrier(&self, group: Int<'c>) {
        self.asm(&[], "bar.sync $0, 128;", &[self.add_c(group, 1).into()]);
    }
    /// Lanes of the warp have done what came before.
    pub fn warp_sync(&self) {
        self.asm(&[], "bar.warp.sync -1;", &[]);
    }

    /// 16 bytes of shared memory at `address + offset`.
    pub fn load_shared_16(&self, address: Int<'c>, offset: u32) -> [Int<'c>; 4] {
        let text = format!("ld.shared.v4.b32 {{$0, $1, $2, $3}}, [$4+{offset}];");
        self.four(self.asm(&[Ty::I32; 4], &text, &[address.into()]))
    }
    /// Eight bytes of shared memory.
    pub fn load_shared_8(&self, address: Int<'c>, offset: u32) -> [Int<'c>; 2] {
        let out = self.asm(&[Ty::I32; 2], &format!("ld.shared.v2.b32 {{$0, $1}}, [$2+{offset}];"), &[address.into()]);
        std::array::from_fn(|i| out[i].into_int_value())
    }
    /// Four bytes of shared memory.
    pub fn load_shared_4(&self, address: Int<'c>, offset: u32) -> Int<'c> {
        self.one_int(self.asm(&[Ty::I32], &format!("ld.shared.b32 $0, [$1+{offset}];"), &[address.into()]))
    }
    /// Two bytes of shared memory, zero-extended.
    pub fn load_shared_2(&self, address: Int<'c>, offset: u32) -> Int<'c> {
        let text = format!("{{.reg .b16 h; ld.shared.b16 h, [$1+{offset}]; cvt.u32.u16 $0, h;}}");
        self.one_int(self.asm(&[Ty::I32], &text, &[address.into()]))
    }
    /// One byte of shared memory, zero-extended.
    pub fn load_shared_1(&self, address: Int<'c>, offset: u32) -> Int<'c> {
        self.one_int(self.asm(&[Ty::I32], &format!("ld.shared.u8 $0, [$1+{offset}];"), &[address.into()]))
    }
    /// Writes a float to shared memory.
    pub fn store_shared_float(&self, address: Int<'c>, offset: u32, value: Float<'c>) {
        self.asm(&[], &format!("st.shared.f32 [$0+{offset}], $1;"), &[address.into(), value.into()]);
    }
    /// Writes the low two bytes of a value to shared memory.
    pub fn store_shared_2(&self, address: Int<'c>, value: Int<'c>) {
        self.asm(&[], "{.reg .b16 h; cvt.u16.u32 h, $1; st.shared.b16 [$0], h;}", &[address.into(), value.into()]);
    }
    /// Writes 16 bytes to shared memory.
    pub fn store_shared_16(&self, address: Int<'c>, offset: u32, value: [Int<'c>; 4]) {
        let [a, b, c, d] = value.map(Into::into);
        self.asm(&[], &format!("st.shared.v4.b32 [$0+{offset}], {{$1, $2, $3, $4}};"), &[address.into(), a, b, c, d]);
    }

    /// Writes four 8 by 8 matrices of 16-bit elements, each turned: lane `8 m + r` has the address of row `r` of matrix `m`, and word `m` of lane `l` the
    /// elements of rows `2 (l % 4)` and the next in column `l / 4`.
    pub fn store_matrices_transposed(&self, address: Int<'c>, words: [Int<'c>; 4]) {
        let [a, b, c, d] = words.map(Into::into);
        let text = "stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [$0], {$1, $2, $3, $4};";
        self.asm(&[], text, &[address.into(), a, b, c, d]);
    }

    /// Reads what [`KernelBuilder::store_matrices_transposed`] writes, from the same addresses to the same words.
    pub fn load_matrices_transposed(&self, address: Int<'c>, offset: u32) -> [Int<'c>; 4] {
        let text = format!("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {{$0, $1, $2, $3}}, [$4+{offset}];");
        self.four(self.asm(&[Ty::I32; 4], &text, &[address.into()]))
    }

    /// 16 bytes of global memory that no kernel in flight writes, where `condition` holds; zeros elsewhere.
    pub fn load_global_16_if(&self, condition: Int<'c>, address: Int<'c>, offset: u32) -> [Int<'c>; 4] {
        let text = format!(
            "{{.reg .pred p; setp.ne.b32 p, $4, 0; mov.b32 $0, 0; mov.b32 $1, 0; mov.b32 $2, 0; mov.b32 $3, 0; \
             @p ld.global.v4.b32 {{$0, $1, $2, $3}}, [$5+{offset}];}}"
        );
        self.four(self.asm(&[Ty::I32; 4], &text, &[self.to_int(condition).into(), address.into()]))
    }

    /// `bytes` (2, 4, 8 or 16) of global memory as 32-bit words.
    pub fn load_global(&self, address: Int<'c>, bytes: u32) -> Vec<Int<'c>> {
        let (results, text): (Vec<Ty>, &str) = match bytes {
            2 => (vec![Ty::I32], "{.reg .b16 h; ld.global.b16 h, [$1]; cvt.u32.u16 $0, h;}"),
            4 => (vec![Ty::I32], "ld.global.b32 $0, [$1];"),
            8 => (vec![Ty::I32; 2], "ld.global.v2.b32 {$0, $1}, [$2];"),
            _ => (vec![Ty::I32; 4], "ld.global.v4.b32 {$0, $1, $2, $3}, [$4];"),
        };
        self.asm(&results, text, &[address.into()]).into_iter().map(|v| v.into_int_value()).collect()
    }
    /// Writes words to global memory; a single word of which only two bytes count is written by `bytes == 2`.
    pub fn store_global(&self, address: Int<'c>, words: &[Int<'c>], bytes: u32) {
        let text = match bytes {
            2 => "{.reg .b16 h; cvt.u16.u32 h, $1; st.global.b16 [$0], h;}",
            4 => "st.global.b32 [$0], $1;",
            8 => "st.global.v2.b32 [$0], {$1, $2};",
            _ => "st.global.v4.b32 [$0], {$1, $2, $3, $4};",
        };
        let operands: Vec<BasicValueEnum> = std::iter::once(address.into()).chain(words.iter().map(|w| (*w).into())).collect();
        self.asm(&[], text, &operands);
    }

    /// Writes a word of global memory; whoever sees it by [`KernelBuilder::wait_acquire`], anywhere on the device, sees what this thread wrote and saw before.
    pub fn store_release(&self, address: Int<'c>, word: Int<'c>) {
        self.asm(&[], "st.release.gpu.global.b32 [$0], $1;", &[address.into(), word.into()]);
    }
    /// Waits until a word of global memory has a value.
    pub fn wait_acquire(&self, address: Int<'c>, value: u32) {
        let text =
            format!("{{.reg .pred q; .reg .b32 w; WAIT: ld.acquire.gpu.global.b32 w, [$0]; setp.ne.b32 q, w, {value}; @q bra WAIT;}}");
        self.asm(&[], &text, &[address.into()]);
    }

    /// Starts a copy of `size` (4, 8 or 16) bytes from global to shared memory; the bytes from `valid` on become zero.
    pub fn copy_async(&self, shared: Int<'c>, global: Int<'c>, size: u32, valid: Option<Int<'c>>) {
        let cache = if size == 16 { "cg" } else { "ca" };
        match valid {
            Some(v) => {
                let text = format!("cp.async.{cache}.shared.global [$0], [$1], {size}, $2;");
                self.asm(&[], &text, &[shared.into(), global.into(), v.into()])
            }
            None => self.asm(&[], &format!("cp.async.{cache}.shared.global [$0], [$1], {size};"), &[shared.into(), global.into()]),
        };
    }
    /// Ends a group of asynchronous copies.
    pub fn copy_commit(&self) {
        self.asm(&[], "cp.async.commit_group;", &[]);
    }
    /// Waits until at most `pending` groups of this thread are in flight.
    pub fn copy_wait(&self, pending: u32) {
        self.asm(&[], &format!("cp.async.wait_group {pending};"), &[]);
    }

    /// Sets up an `mbarrier` for `count` arrivals a phase.
    pub fn mbarrier_init(&self, address: Int<'c>, count: u32) {
        self.asm(&[], &format!("mbarrier.init.shared.b64 [$0], {count};"), &[address.into()]);
    }
    /// Makes initialized barriers visible to the copy engine.
    pub fn mbarrier_fence(&self) {
        self.asm(&[], "fence.mbarrier_init.release.cluster;", &[]);
    }
    /// Arrives, announcing `bytes` of copies.
    pub fn mbarrier_expect(&self, address: Int<'c>, bytes: Int<'c>) {
        self.asm(&[], "mbarrier.arrive.expect_tx.shared.b64 _, [$0], $1;", &[address.into(), bytes.into()]);
    }
    /// Arrives.
    pub fn mbarrier_arrive(&self, address: Int<'c>) {
        self.asm(&[], "mbarrier.arrive.shared.b64 _, [$0];", &[address.into()]);
    }
    /// Arrives once this thread's asynchronous copies so far have landed.
    pub fn mbarrier_arrive_copies(&self, address: Int<'c>) {
        self.asm(&[], "cp.async.mbarrier.arrive.noinc.shared.b64 [$0];", &[address.into()]);
    }
    /// Waits until the phase of the given parity is over.
    pub fn mbarrier_wait(&self, address: Int<'c>, parity: Int<'c>) {
        let text = "{.reg .pred q; WAIT: mbarrier.try_wait.parity.shared.b64 q, [$0], $1; @!q bra WAIT;}";
        self.asm(&[], text, &[address.into(), parity.into()]);
    }
    /// Starts a bulk copy from global to shared memory, reported to an `mbarrier`; data read once. Addresses and size are multiples of 16.
    pub fn bulk_copy(&self, shared: Int<'c>, global: Int<'c>, bytes: Int<'c>, mbarrier: Int<'c>) {
        let text = "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [$0], [$1], $2, [$3], $4;";
        self.asm(&[], text, &[shared.into(), global.into(), bytes.into(), mbarrier.into(), self.long(EVICT_FIRST).into()]);
    }

    /// As [`KernelBuilder::bulk_copy`] for data that other blocks read too.
    pub fn bulk_copy_shared(&self, shared: Int<'c>, global: Int<'c>, bytes: Int<'c>, mbarrier: Int<'c>) {
        let text = "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [$0], [$1], $2, [$3];";
        self.asm(&[], text, &[shared.into(), global.into(), bytes.into(), mbarrier.into()]);
    }

    /// As [`KernelBuilder::bulk_copy_shared`], to the same shared address of every block of the cluster in `blocks` (a bit each), reported to the
    /// `mbarrier` at the same address there.
    pub fn bulk_copy_multicast(&self, shared: Int<'c>, global: Int<'c>, bytes: Int<'c>, mbarrier: Int<'c>, blocks: u16) {
        let text = "{.reg .b16 m; mov.b16 m, BLOCKS; cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [$0], [$1], $2, [$3], m;}"
            .replace("BLOCKS", &blocks.to_string());
        self.asm(&[], &text, &[shared.into(), global.into(), bytes.into(), mbarrier.into()]);
    }

    /// Starts a copy of one box of a two-dimensional tensor map, whose first element is (`row`, `column`), to the same shared address of every
    /// block of the cluster in `blocks` (a bit each), reported to the `mbarrier` at the same address there. Elements outside are zero.
    pub fn tensor_copy_multicast(&self, shared: Int<'c>, map: Int<'c>, column: Int<'c>, row: Int<'c>, mbarrier: Int<'c>, blocks: u16) {
        let text = "{.reg .b16 m; mov.b16 m, BLOCKS; cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.multicast::cluster \
                    [$0], [$1, {$2, $3}], [$4], m;}"
            .replace("BLOCKS", &blocks.to_string());
        self.asm(&[], &text, &[shared.into(), map.into(), column.into(), row.into(), mbarrier.into()]);
    }
    /// Fetches a tensor map ahead of its first use.
    pub fn prefetch_tensor_map(&self, map: Int<'c>) {
        self.asm(&[], "prefetch.tensormap [$0];", &[map.into()]);
    }
    /// Arrives at an `mbarrier` of any block of the cluster, at an address from [`KernelBuilder::map_shared`].
    pub fn mbarrier_arrive_in_cluster(&self, address: Int<'c>) {
        self.asm(&[], "mbarrier.arrive.shared::cluster.b64 _, [$0];", &[address.into()]);
    }

    /// Orders this thread's view of shared memory before what the tensor cores and the copy engine read next.
    pub fn proxy_fence(&self) {
        self.asm(&[], "fence.proxy.async.shared::cta;", &[]);
    }
    /// Orders register writes before the `wgmma` instructions that follow.
    pub fn wgmma_fence(&self) {
        self.asm(&[], "wgmma.fence.sync.aligned;", &[]);
    }
    /// Ends a group of `wgmma` instructions.
    pub fn wgmma_commit(&self) {
        self.asm(&[], "wgmma.commit_group.sync.aligned;", &[]);
    }
    /// Waits until at most `pending` groups are in flight.
    pub fn wgmma_wait(&self, pending: u32) {
        self.asm(&[], &format!("wgmma.wait_group.sync.aligned {pending};"), &[]);
    }
    /// `acc += A · B` of `wgmma.m64nN` over 32 bytes of `k`, or `acc = A · B` where it does not accumulate, `N = 2 * acc.len()`: A in registers, B
    /// behind a shared-memory descriptor, stored with `k` contiguous. Elements are `f16`, `bf16`, `f8E4M3FN` (f32 sums) or `i8` (i32 sums, wrapping).
    pub fn wgmma_m64(&self, element: DType, acc: &[Var<'c>], accumulates: bool, a: [Int<'c>; 4], descriptor: Int<'c>) {
        let (shape, scales) = match element {
            DType::I8 => ("k32.s32.s8.s8", ""),
            DType::F8E4M3FN => ("k32.f32.e4m3.e4m3", ", 1, 1"),
            DType::BF16 => ("k16.f32.bf16.bf16", ", 1, 1, 0"),
            _ => ("k16.f32.f16.f16", ", 1, 1, 0"),
        };
        let count = acc.len();
        let d: Vec<String> = (0..count).map(|i| format!("${i}")).collect();
        let text = format!(
            "{{.reg .pred p; setp.ne.u32 p, {}, 0; wgmma.mma_async.sync.aligned.m64n{}{shape} {{{}}}, {{${}, ${}, ${}, ${}}}, ${}, p{scales};}}",
            u32::from(accumulates),
            count * 2,
            d.join(", "),
            count,
            count + 1,
            count + 2,
            count + 3,
            count + 4
        );
        let [a0, a1, a2, a3] = a.map(Into::into);
        self.asm_update(acc, &text, &[a0, a1, a2, a3, descriptor.into()]);
    }
    /// As [`KernelBuilder::wgmma_m64`] over 64 bytes of `k`, f16 or bf16, where A holds two of every four elements: `positions` are those of this and
    /// another instruction, in the words of the lanes that `selector` (0 or 1) names ([`icd_core::layout::mma_sp_m16n8k32_positions`]).
    pub fn wgmma_sparse_m64(
        &self,
        element: DType,
        acc: &[Var<'c>],
        a: [Int<'c>; 4],
        descriptor: Int<'c>,
        positions: Int<'c>,
        selector: u32,
    ) {
        let shape = if element == DType::BF16 { "k32.f32.bf16.bf16" } else { "k32.f32.f16.f16" };
        let count = acc.len();
        let d: Vec<String> = (0..count).map(|i| format!("${i}")).collect();
        let [a0, a1, a2, a3, b, p] = std::array::from_fn(|i| count + i);
        let text = format!(
            "wgmma.mma_async.sp.sync.aligned.m64n{}{shape} {{{}}}, {{${a0}, ${a1}, ${a2}, ${a3}}}, ${b}, ${p}, {selector}, 1, 1, 1, 0;",
            count * 2,
            d.join(", "),
        );
        let [a0, a1, a2, a3] = a.map(Into::into);
        self.asm_update(acc, &text, &[a0, a1, a2, a3, descriptor.into(), positions.into()]);
    }
    /// Waits until no group is in flight, and lets nothing read the sums before.
    pub fn wgmma_finish(&self, sums: &[Var<'c>]) {
        self.wgmma_wait(0);
        self.asm_update(sums, "", &[]);
    }
    /// Gives up registers down to `count` a thread (a multiple of 8), or asks for them, for all warps of a warpgroup.
    pub fn set_registers(&self, count: u32, grows: bool) {
        let way = if grows { "inc" } else { "dec" };
        self.asm(&[], &format!("setmaxnreg.{way}.sync.aligned.u32 {count};"), &[]);
    }
    /// Rank of the block in its cluster.
    pub fn cluster_rank(&self) -> Int<'c> {
        self.special("cluster_ctarank")
    }
    /// Arrives at the barrier of the cluster. Orders nothing but what [`KernelBuilder::mbarrier_fence`] and copies between blocks order.
    pub fn cluster_arrive(&self) {
        self.asm(&[], "barrier.cluster.arrive.relaxed.aligned;", &[]);
    }
    /// Waits until all threads of the cluster that have not exited have arrived.
    pub fn cluster_wait(&self) {
        self.asm(&[], "barrier.cluster.wait.acquire.aligned;", &[]);
    }
    /// The address of `shared` in block `rank` of the cluster.
    pub fn map_shared(&self, shared: Int<'c>, rank: Int<'c>) -> Int<'c> {
        self.one_int(self.asm_pure(&[Ty::I32], "mapa.shared::cluster.u32 $0, $1, $2;", &[shared.into(), rank.into()]))
    }
    /// Starts a bulk copy from this block's shared memory to another block's, reported to an `mbarrier` there. Multiples of 16.
    pub fn bulk_copy_to_block(&self, to: Int<'c>, from: Int<'c>, bytes: Int<'c>, mbarrier: Int<'c>) {
        let text = "cp.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes [$0], [$1], $2, [$3];";
        self.asm(&[], text, &[to.into(), from.into(), bytes.into(), mbarrier.into()]);
    }

    /// Lets the next kernel of the stream start where it asks to.
    pub fn launch_dependents(&self) {
        self.asm(&[], "griddepcontrol.launch_dependents;", &[]);
    }
    /// Waits until the kernels before this one are done and their writes visible.
    pub fn dependency_wait(&self) {
        self.asm(&[], "griddepcontrol.wait;", &[]);
    }

    /// `acc += A · B` of `mma.m16n8k16` with operands of type `float` and f32 accumulators.
    pub fn mma_m16n8k16(&self, float: DType, acc: &[Var<'c>], a: [Int<'c>; 4], b: [Int<'c>; 2]) {
        let t = suffix(float);
        let text = format!(
            "mma.sync.aligned.m16n8k16.row.col.f32.{t}.{t}.f32 {{$0, $1, $2, $3}}, {{$4, $5, $6, $7}}, {{$8, $9}}, {{$10, $11, $12, $13}};"
        );
        let inputs = a.iter().chain(&b).map(|v| (*v).into()).chain(acc.iter().map(|v| self.get_float(*v).into()));
        let out = self.asm(&[Ty::F32; 4], &text, &inputs.collect::<Vec<BasicValueEnum>>());
        for (var, value) in acc.iter().zip(out) {
            self.set(*var, value);
        }
    }

    fn three_logic(&self, value: Int<'c>, mask: u32, bits: u32, table: u32) -> Int<'c> {
        let text = format!("lop3.b32 $0, $1, $2, $3, {table};");
        self.one_int(self.asm_pure(&[Ty::I32], &text, &[value.into(), self.int(mask).into(), self.int(bits).into()]))
    }
    /// `(value & mask) | bits` in one instruction.
    pub fn and_or(&self, value: Int<'c>, mask: u32, bits: u32) -> Int<'c> {
        self.three_logic(value, mask, bits, AND_OR)
    }
    /// `(value & mask) ^ bits` in one instruction.
    pub fn and_xor(&self, value: Int<'c>, mask: u32, bits: u32) -> Int<'c> {
        self.three_logic(value, mask, bits, AND_XOR)
    }
    /// `!value & mask` in one instruction.
    pub fn not_and(&self, value: Int<'c>, mask: u32) -> Int<'c> {
        self.three_logic(value, mask, 0, NOT_AND)
    }
    /// Bits of `a` where `mask` has them, else of `b`, in one instruction.
    pub fn merge_bits(&self, a: Int<'c>, b: Int<'c>, mask: u32) -> Int<'c> {
        let text = format!("lop3.b32 $0, $1, $2, $3, {MERGE};");
        self.one_int(self.asm_pure(&[Ty::I32], &text, &[a.into(), b.into(), self.int(mask).into()]))
    }
    /// Pairwise `a * b + c` of two 16-bit floats.
    pub fn fma_pair(&self, float: DType, a: Int<'c>, b: Int<'c>, c: Int<'c>) -> Int<'c> {
        let text = format!("fma.rn.{}x2 $0, $1, $2, $3;", suffix(float));
        self.one_int(self.asm_pure(&[Ty::I32], &text, &[a.into(), b.into(), c.into()]))
    }
    /// Pairwise `a * b` of two 16-bit floats.
    pub fn mul_pair(&self, float: DType, a: Int<'c>, b: Int<'c>) -> Int<'c> {
        match float {
            DType::BF16 => self.fma_pair(float, a, b, self.int(0x8000_8000)),
            _ => self.one_int(self.asm_pure(&[Ty::I32], "mul.rn.f16x2 $0, $1, $2;", &[a.into(), b.into()])),
        }
    }
    /// Pairwise `a - b` of two fp16 numbers.
    pub fn sub_pair_f16(&self, a: Int<'c>, b: Int<'c>) -> Int<'c> {
        self.one_int(self.asm_pure(&[Ty::I32], "sub.rn.f16x2 $0, $1, $2;", &[a.into(), b.into()]))
    }
    /// Four of the eight bytes of `a` (0 to 3) and `b` (4 to 7), one a digit of the selector, the lowest first.
    pub fn permute_bytes(&self, a: Int<'c>, b: Int<'c>, selector: u32) -> Int<'c> {
        let text = format!("prmt.b32 $0, $1, $2, {selector};");
        self.one_int(self.asm_pure(&[Ty::I32], &text, &[a.into(), b.into()]))
    }
    /// Four e4m3 numbers of a word as two pairs of fp16 numbers.
    pub fn widen_float_bytes(&self, word: Int<'c>) -> [Int<'c>; 2] {
        let text = "{.reg .b16 l, h; mov.b32 {l, h}, $2; cvt.rn.f16x2.e4m3x2 $0, l; cvt.rn.f16x2.e4m3x2 $1, h;}";
        let pairs = self.asm_pure(&[Ty::I32; 2], text, &[word.into()]);
        std::array::from_fn(|i| pairs[i].into_int_value())
    }
    /// The low half of a word in both halves.
    pub fn duplicate_half(&self, value: Int<'c>) -> Int<'c> {
        self.one_int(self.asm_pure(&[Ty::I32], "prmt.b32 $0, $1, $1, 0x1010;", &[value.into()]))
    }
    /// Two floats as a pair of 16-bit floats, `low` in the low half, rounded to nearest even.
    pub fn pack_pair(&self, float: DType, low: Float<'c>, high: Float<'c>) -> Int<'c> {
        let text = format!("cvt.rn.{}x2.f32 $0, $2, $1;", suffix(float));
        self.one_int(self.asm_pure(&[Ty::I32], &text, &[low.into(), high.into()]))
    }
    /// The low half of a word as f32.
    pub fn widen_low(&self, float: DType, pair: Int<'c>) -> Float<'c> {
        match float {
            DType::BF16 => self.as_float(self.shl_c(pair, 16)),
            _ => self.one_float(self.asm_pure(&[Ty::F32], "{.reg .b16 h; cvt.u16.u32 h, $1; cvt.f32.f16 $0, h;}", &[pair.into()])),
        }
    }
    /// The high half of a word as f32.
    pub fn widen_high(&self, float: DType, pair: Int<'c>) -> Float<'c> {
        match float {
            DType::BF16 => self.as_float(self.and_c(pair, 0xffff_0000)),
            _ => self.widen_low(float, self.shr_c(pair, 16)),
        }
    }

    /// `a * b + c` of f32.
    pub fn fma(&self, a: Float<'c>, b: Float<'c>, c: Float<'c>) -> Float<'c> {
        self.one_float(self.asm_pure(&[Ty::F32], "fma.rn.f32 $0, $1, $2, $3;", &[a.into(), b.into(), c.into()]))
    }
    /// `2^a`, relative error 2^-22.
    pub fn exp2(&self, a: Float<'c>) -> Float<'c> {
        self.one_float(self.asm_pure(&[Ty::F32], "ex2.approx.ftz.f32 $0, $1;", &[a.into()]))
    }
    /// `1 / a`, relative error 2^-23.
    pub fn reciprocal(&self, a: Float<'c>) -> Float<'c> {
        self.one_float(self.asm_pure(&[Ty::F32], "rcp.approx.ftz.f32 $0, $1;", &[a.into()]))
    }
    /// `|a|`.
    pub fn abs(&self, a: Float<'c>) -> Float<'c> {
        self.as_float(self.and_c(self.as_int(a), 0x7fff_ffff))
    }
    /// The larger; NaN if either is.
    pub fn max(&self, a: Float<'c>, b: Float<'c>) -> Float<'c> {
        self.one_float(self.asm_pure(&[Ty::F32], "max.NaN.f32 $0, $1, $2;", &[a.into(), b.into()]))
    }
}
