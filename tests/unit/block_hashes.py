#!/usr/bin/env python3
"""Prints tests/unit/block_hashes.h: what the gguf package (pip install gguf numpy) makes of pseudo-random blocks.

test_blocks.c makes the same blocks and compares hashes of the resulting bits, so nothing but the table is stored. Run by
hand when a type is added:  python3 tests/unit/block_hashes.py > tests/unit/block_hashes.h
"""
import gguf
import numpy as np

BLOCKS = 1024
MASK = (1 << 64) - 1
TYPES = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS", "MXFP4"]


def random_bytes(seed, count):
    """splitmix64, little-endian."""
    out = bytearray()
    while len(out) < count:
        seed = (seed + 0x9E3779B97F4A7C15) & MASK
        z = seed
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        out += (z ^ (z >> 31)).to_bytes(8, "little")
    return out[:count]


def blocks_of(gguf_id, block_bytes):
    data = random_bytes(gguf_id, BLOCKS * block_bytes)
    for i in range(BLOCKS):
        data[i * block_bytes] = i & 255  # every value of MXFP4's scale
    return np.frombuffer(bytes(data), dtype=np.uint8).reshape(BLOCKS, block_bytes)


def hash_of(values):
    """Words xored in and multiplied by FNV's prime; all NaNs count as one."""
    bits = values.astype(np.float32).reshape(-1).view(np.uint32).copy()
    bits[(bits & 0x7FFFFFFF) > 0x7F800000] = 0x7FC00000
    h = 0xCBF29CE484222325
    for word in bits.tolist():
        h = ((h ^ word) * 0x100000001B3) & MASK
    return h


def main():
    print("/* Made by block_hashes.py with gguf-py; X(type, hash of %d blocks' values). */" % BLOCKS)
    print("#ifndef DSPARK_TESTS_BLOCK_HASHES_H\n#define DSPARK_TESTS_BLOCK_HASHES_H\n")
    print("enum { BLOCK_HASH_BLOCKS = %d };\n\n#define BLOCK_HASHES(X) \\" % BLOCKS)
    for i, name in enumerate(TYPES):
        kind = gguf.GGMLQuantizationType[name]
        with np.errstate(all="ignore"):
            values = gguf.quants.dequantize(blocks_of(int(kind), gguf.GGML_QUANT_SIZES[kind][1]), kind)
        print("    X(%s, UINT64_C(0x%016x))%s" % (name, hash_of(values), " \\" if i + 1 < len(TYPES) else ""))
    print("\n#endif")


main()
