"""Launches kernels that `icd kernel` writes (kernel.ptx, kernel.json, pack.json) from Python: torch for memory, cuda-python for the driver.

    from icd_kernels import Kernel
    k = Kernel("out/kernel")                    # a folder
    w = k.pack(codes, scales)                   # uint8 [K, N] codes, [K/group, N] scales (and zeros), or dense [K, N] weights
    w = k.pack(codes, scales, kept=mask)        # 2:4 sparse: bool [K, N], at most two of every four rows; the others' codes mean zero
    k(w, x, y)                                  # on the current stream; bias= and residual= where the kernel has them; y a list for several outputs
"""
import ctypes
import json
import os

import torch
from cuda.bindings import driver

FLOAT = {"f16": torch.float16, "bf16": torch.bfloat16, "f32": torch.float32, "i8": torch.int8, "f8E4M3FN": torch.float8_e4m3fn}
_modules = {}


def check(result):
    """Raises on a driver error, else returns the results."""
    if result[0] != driver.CUresult.CUDA_SUCCESS:
        raise RuntimeError(driver.cuGetErrorString(result[0])[1].decode())
    return result[1] if len(result) == 2 else result[1:]


def layout_table(layout):
    """Output values for every input value of a layout in its JSON form: a list of dicts, input dimensions packed first lowest."""
    columns = [dict(zip([n for n, _ in layout["out"]], row)) for name, _ in layout["in"] for row in layout["bases"][name]]
    table = []
    for place in range(1 << len(columns)):
        value = {n: 0 for n, _ in layout["out"]}
        for bit, column in enumerate(columns):
            if place >> bit & 1:
                value = {n: value[n] ^ column[n] for n in value}
        table.append(value)
    return table


def in_bytes(fields, bits):
    """Columns of `bits`-bit fields, lowest first, as bytes."""
    count = 8 // bits
    return sum(fields[:, i::count] << (bits * i) for i in range(count)).to(torch.uint8)


def two_of_four(kept):
    """Positions [K/2, N] among their four rows of the elements that are stored: those in `kept` [K, N], and others where these are fewer than two."""
    groups = kept.view(-1, 4, kept.shape[1])
    order = torch.arange(4, device=kept.device)[None, :, None]
    chosen = ((~groups).to(torch.int64) * 4 + order).argsort(1)[:, :2]
    return chosen.sort(1).values.reshape(-1, kept.shape[1])


class Kernel:
    """One generated GEMM kernel, loaded."""

    def __init__(self, folder):
        self.info = json.load(open(os.path.join(folder, "kernel.json")))
        self.pack_info = json.load(open(os.path.join(folder, "pack.json")))
        self.problem = self.info["problem"]
        self.name = self.info["entry"]
        self.maps = {}
        torch.cuda.current_stream()
        cubin = os.path.join(folder, "kernel.cubin")
        image = open(cubin if os.path.exists(cubin) else os.path.join(folder, "kernel.ptx"), "rb").read() + b"\0"
        torch.zeros(1, device="cuda")
        self.module = check(driver.cuModuleLoadData(image))
        self.function = check(driver.cuModuleGetFunction(self.module, self.name.encode()))
        attribute = driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
        check(driver.cuFuncSetAttribute(self.function, attribute, self.info["shared_bytes"]))
        sizes = [p["bytes"] for p in self.info["params"] if p["role"] == "workspace"]
        self.workspace = torch.zeros(sizes[0], dtype=torch.uint8, device="cuda") if sizes else None
        self.bytes_per_weight = self.pack_info["bytes"] / (self.pack_info["format"]["n"] * self.pack_info["format"]["k"])

    def pack(self, weights, scales=None, zeros=None, kept=None):
        """Packs weights with the layout that pack.json describes; any device."""
        p = self.pack_info
        n, k, tn, tk = p["format"]["n"], p["format"]["k"], p["tile_n"], p["tile_k"]
        nt, kt, rows = p["n_tiles"], p["k_tiles"], p["groups_per_tile"]
        table = layout_table(p["tile_layout"])
        order = torch.tensor([t["k"] * tn + t["n"] for t in table], device=weights.device)
        kind = p["format"]["weight"]["kind"]
        coded = kind in ("w3", "w4")
        if weights.dtype == torch.float8_e4m3fn:
            weights = weights.view(torch.int8)
        full = torch.full((kt * tk, nt * tn), {"w3": 4, "w4": 8}.get(kind, 0), dtype=weights.dtype, device=weights.device)
        full[:k, :n] = weights
        positions = None
        if p["format"].get("two_four"):
            mask = torch.zeros(full.shape, dtype=torch.bool, device=weights.device)
            mask[:k, :n] = kept
            positions = two_of_four(mask)
            rows_of = torch.arange(positions.shape[0], device=weights.device)[:, None] // 2 * 4 + positions
            full = full.gather(0, rows_of)

        def by_tile(matrix):
            return matrix.view(kt, -1, nt, tn).permute(2, 0, 1, 3).reshape(nt * kt, -1)

        elements = by_tile(full)
        tiles = elements[:, order]
        tail = []
        if positions is not None:
            fields = torch.tensor([t["k"] * tn + t["n"] for t in layout_table(p["positions_layout"])], device=weights.device)
            tail = [in_bytes(by_tile(positions)[:, fields], 2)]
        if not coded:
            return torch.cat([tiles.contiguous().view(torch.uint8), *tail], 1).reshape(-1).contiguous()
        if kind == "w3":
            high = torch.tensor([t["k"] * tn + t["n"] for t in layout_table(p["high_bits_layout"])], device=weights.device)
            parts = [in_bytes(tiles & 3, 2), in_bytes(elements[:, high] >> 2, 1)]
        else:
            parts = [in_bytes(tiles, 4)]
        group = p["format"]["weight"]["group"]
        source = torch.arange(kt * rows, device=weights.device) * (tk // rows) // group
        for values, dtype in ((scales, FLOAT[p["format"]["float"]]), (zeros, torch.uint8)):
            if values is None:
                continue
            table = torch.zeros((kt * rows, nt * tn), dtype=dtype, device=weights.device)
            valid = source < values.shape[0]
            table[valid, :n] = values.to(dtype)[source[valid]]
            parts.append(by_tile(table).contiguous().view(torch.uint8))
        return torch.cat(parts + tail, 1).reshape(-1).contiguous()

    def tensor_map(self, x, param):
        """The 128 bytes that describe `x` to the copy engine, as kernel.json's parameter says."""
        key = (x.data_ptr(), x.shape[0])
        if key not in self.maps:
            kinds = driver.CUtensorMapDataType
            kind = {"f16": kinds.CU_TENSOR_MAP_DATA_TYPE_FLOAT16, "bf16": kinds.CU_TENSOR_MAP_DATA_TYPE_BFLOAT16}
            kind = kind.get(param["dtype"], kinds.CU_TENSOR_MAP_DATA_TYPE_UINT8)
            made = check(driver.cuTensorMapEncodeTiled(
                kind, 2, x.data_ptr(), [driver.cuuint64_t(param["cols"]), driver.cuuint64_t(x.shape[0])],
                [driver.cuuint64_t(param["cols"] * x.element_size())], [driver.cuuint32_t(param["box_cols"]), driver.cuuint32_t(param["box_rows"])],
                [driver.cuuint32_t(1)] * 2, driver.CUtensorMapInterleave.CU_TENSOR_MAP_INTERLEAVE_NONE,
                driver.CUtensorMapSwizzle.CU_TENSOR_MAP_SWIZZLE_128B, driver.CUtensorMapL2promotion.CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                driver.CUtensorMapFloatOOBfill.CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE))
            self.maps[key] = (ctypes.c_uint64 * 16).from_buffer_copy(ctypes.string_at(made.getPtr(), 128))
        return self.maps[key]

    def __call__(self, weights, x, y, bias=None, residual=None, overlap=True, scales=None):
        """Launches on the current stream. `overlap` lets a kernel that can do so start before the one in front of it has ended;
        `scales` are f32, of rows for 8-bit activations and of columns for 8-bit weights."""
        pointer = {"weights": weights, "activations": x, "bias": bias, "residual": residual, "workspace": self.workspace}
        outputs = iter(y if isinstance(y, (list, tuple)) else [y])
        values = []
        for param in self.info["params"]:
            if param["role"] == "rows":
                values.append(ctypes.c_uint32(x.shape[0]))
            elif param["role"] in ("row_scales", "column_scales"):
                values.append(ctypes.c_void_p(scales[param["role"] == "column_scales"].data_ptr()))
            elif param["role"] == "output":
                values.append(ctypes.c_void_p(next(outputs).data_ptr()))
            elif param["role"] == "activations_map":
                values.append(self.tensor_map(x, param))
            else:
                values.append(ctypes.c_void_p(pointer[param["role"]].data_ptr()))
        arguments = (ctypes.c_void_p * len(values))(*[ctypes.addressof(v) for v in values])
        config = driver.CUlaunchConfig()
        config.gridDimX, config.gridDimY, config.gridDimZ = self.info["grid"]
        config.blockDimX, config.blockDimY, config.blockDimZ = self.info["block"]
        config.sharedMemBytes = self.info["shared_bytes"]
        config.hStream = torch.cuda.current_stream().cuda_stream
        if overlap and self.info["dependent"]:
            attribute = driver.CUlaunchAttribute()
            attribute.id = driver.CUlaunchAttributeID.CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION
            attribute.value.programmaticStreamSerializationAllowed = 1
            config.attrs = [attribute]; config.numAttrs = 1
        check(driver.cuLaunchKernelEx(config, self.function, ctypes.addressof(arguments), 0))
