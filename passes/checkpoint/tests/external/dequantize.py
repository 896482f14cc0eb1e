"""An independent reader of quantized folders, in numpy, by the formats' own definitions.

    dequantize.py read FOLDER OUT     writes OUT/LAYER.f32, the weight of every quantized layer as f32 [n][k]
    dequantize.py awq FILE OUT        writes FILE, one random 4-bit AWQ layer 'layer', and OUT/layer.f32, its weight
"""

import json
import pathlib
import sys

import numpy as np

TYPES = {"F32": np.float32, "F16": np.float16, "I32": np.int32, "I64": np.int64, "I8": np.int8, "U8": np.uint8, "F8_E4M3": np.uint8}


def read_file(path):
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    out = {}
    for name, info in json.loads(data[8 : 8 + size]).items():
        if name != "__metadata__":
            first, last = (8 + size + o for o in info["data_offsets"])
            out[name] = np.frombuffer(data[first:last], TYPES[info["dtype"]]).reshape(info["shape"])
    return out


def bits_of(words, bits, count):
    """`count` values of `bits` bits from each row of 32-bit words, lowest bits first."""
    raw = np.unpackbits(np.ascontiguousarray(words).view(np.uint8), axis=-1, bitorder="little")
    raw = raw[..., : count * bits].reshape(*words.shape[:-1], count, bits).astype(np.int64)
    return (raw << np.arange(bits)).sum(-1)


def e4m3(byte):
    byte = byte.astype(np.int64)
    sign, exponent, mantissa = np.where(byte & 128, -1.0, 1.0), (byte >> 3) & 15, byte & 7
    normal = (1 + mantissa / 8) * 2.0 ** (exponent - 7)
    return (sign * np.where(exponent == 0, mantissa / 8 * 2.0**-6, normal)).astype(np.float32)


def compressed(tensors, layer, weights):
    bits = weights["num_bits"]
    scale = tensors[f"{layer}.weight_scale"].astype(np.float32)
    if f"{layer}.weight" in tensors:
        stored = tensors[f"{layer}.weight"]
        return (e4m3(stored) if weights["type"] == "float" else stored.astype(np.float32)) * scale
    n, k = tensors[f"{layer}.weight_shape"]
    codes = bits_of(tensors[f"{layer}.weight_packed"].astype(np.int32), bits, k)
    zero = np.full(scale.shape, 2 ** (bits - 1))
    if f"{layer}.weight_zero_point" in tensors:
        zero = bits_of(np.ascontiguousarray(tensors[f"{layer}.weight_zero_point"].T), bits, n).T
    group = np.arange(k) // (weights["group_size"] or k)
    if f"{layer}.weight_g_idx" in tensors:
        group = tensors[f"{layer}.weight_g_idx"]
    return (codes - zero[:, group]).astype(np.float32) * scale[:, group]


def gptq(tensors, layer, config):
    bits = config["dynamic"].get("+:" + layer.replace(".", "\\."), config)["bits"]
    words, n = tensors[f"{layer}.qweight"].shape
    group = tensors[f"{layer}.g_idx"]
    codes = bits_of(np.ascontiguousarray(tensors[f"{layer}.qweight"].T), bits, len(group))
    zero = bits_of(tensors[f"{layer}.qzeros"], bits, n) + (0 if config["checkpoint_format"] == "gptq_v2" else 1)
    scale = tensors[f"{layer}.scales"].astype(np.float32)
    return (codes - zero[group].T).astype(np.float32) * scale[group].T


def read(folder, out):
    config = json.loads((folder / "config.json").read_text())["quantization_config"]
    tensors = {}
    for path in sorted(folder.glob("*.safetensors")):
        tensors.update(read_file(path))
    marks = ("weight_scale", "scales")
    layers = sorted({n.rsplit(".", 1)[0] for n in tensors if n.rsplit(".", 1)[1] in marks})
    for layer in layers:
        if config["quant_method"] == "gptq":
            weight = gptq(tensors, layer, config)
        else:
            groups = config["config_groups"].values()
            own = [g for g in groups if layer in g["targets"]] or [config["config_groups"]["group_0"]]
            weight = compressed(tensors, layer, own[0]["weights"])
        (out / f"{layer}.f32").write_bytes(np.ascontiguousarray(weight, np.float32).tobytes())


def awq(file, out):
    random = np.random.default_rng(7)
    k, n, size = 64, 24, 32
    codes, zeros = random.integers(0, 16, (k, n)), random.integers(0, 16, (k // size, n))
    scales = random.uniform(0.01, 0.1, (k // size, n)).astype(np.float16)

    def pack(values):
        places = np.array([0, 2, 4, 6, 1, 3, 5, 7])
        nibbles = values.reshape(values.shape[0], -1, 8)[..., places].astype(np.uint32)
        return (nibbles << (4 * np.arange(8, dtype=np.uint32))).sum(-1).astype(np.uint32).view(np.int32)

    tensors = {"layer.qweight": pack(codes), "layer.qzeros": pack(zeros), "layer.scales": scales}
    header, body = {}, b""
    for name, array in tensors.items():
        data = np.ascontiguousarray(array).tobytes()
        dtype = "F16" if array.dtype == np.float16 else "I32"
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    file.write_bytes(len(text).to_bytes(8, "little") + text + body)
    group = np.arange(k) // size
    weight = (codes - zeros[group]).astype(np.float32) * scales.astype(np.float32)[group]
    (out / "layer.f32").write_bytes(np.ascontiguousarray(weight.T, np.float32).tobytes())


if __name__ == "__main__":
    {"read": read, "awq": awq}[sys.argv[1]](*map(pathlib.Path, sys.argv[2:4]))
