"""Makes generated kernels a peer of a side-by-side W4A16 benchmark that loads `PEERS` from a file: objects with name, supports(M, N, K),
weights(q, s), call(w, A, C), bytes_per_weight. `ICD_KERNELS` names the folder with one folder a kernel (`gemm_candidates DIR ARCH MxNxK@best`).
"""
import json
import os

from icd_kernels import Kernel

ROOT = os.environ["ICD_KERNELS"]


class Icd:
    name, bytes_per_weight, dtype = "icd", 0.515625, "fp16"

    def __init__(self):
        self.folders, self.loaded = {}, {}
        for name in sorted(os.listdir(ROOT)):
            path = os.path.join(ROOT, name)
            if os.path.exists(os.path.join(path, "kernel.json")):
                p = json.load(open(os.path.join(path, "kernel.json")))["problem"]
                self.folders[p["m"], p["n"], p["k"]] = path

    def supports(self, M, N, K):
        return (M, N, K) in self.folders

    def kernel(self, key):
        if key not in self.loaded:
            self.loaded[key] = Kernel(self.folders[key])
        return self.loaded[key]

    def weights(self, q, s):
        """One packing for each order of k that the kernels of this matrix read."""
        k, n = q.shape
        orders = {}
        for key in self.folders:
            if key[1:] == (n, k):
                kernel = self.kernel(key)
                order = kernel.pack_info["format"]["k_order"]
                if order not in orders:
                    orders[order] = kernel.pack(q, s)
        self.order = {o: i for i, o in enumerate(orders)}
        return tuple(orders.values())

    def call(self, w, A, C):
        kernel = self.kernel((A.shape[0], C.shape[1], A.shape[1]))
        kernel(w[self.order[kernel.pack_info["format"]["k_order"]]], A, C)


PEERS = [Icd()]
