#!/usr/bin/env python3
"""Writes the fuzz targets' first inputs, small valid files that reach every branch: corpus/gguf, corpus/safetensors."""
import json
import os
import struct

HERE = os.path.dirname(os.path.abspath(__file__))

U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
NUMBERS = {U8: "B", I8: "b", U16: "H", I16: "h", U32: "I", I32: "i", F32: "f", BOOL: "B", U64: "Q", I64: "q", F64: "d"}
# GGUF type id: (elements, bytes) of a block
BLOCKS = {0: (1, 4), 1: (1, 2), 30: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 10: (256, 84),
          11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 20: (32, 18), 23: (256, 136), 39: (32, 17),
          26: (1, 4), 27: (1, 8), 16: (256, 66)}


def text(s):
    raw = s.encode()
    return struct.pack("<Q", len(raw)) + raw


def value(kind, v):
    if kind == STRING:
        return text(v)
    if kind == ARRAY:
        element, items = v
        return struct.pack("<IQ", element, len(items)) + b"".join(value(element, i) for i in items)
    return struct.pack("<" + NUMBERS[kind], v)


def gguf(keys, tensors, version=3, alignment=32):
    """keys: (name, kind, value); tensors: (name, type id, dimensions innermost first)."""
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(keys))
    for name, kind, v in keys:
        head += text(name) + struct.pack("<I", kind) + value(kind, v)
    data = b""
    for name, kind, ne in tensors:
        head += text(name) + struct.pack("<I", len(ne)) + b"".join(struct.pack("<Q", n) for n in ne)
        head += struct.pack("<IQ", kind, len(data))
        elements, size = BLOCKS[kind]
        count = 1
        for n in ne:
            count *= n
        raw = bytes((7 * i + kind) & 255 for i in range(count // elements * size))
        data += raw + bytes(-len(raw) % alignment)
    return head + bytes(-len(head) % alignment) + data


def safetensors(entries, metadata=None):
    """entries: (name, dtype, shape, bytes)."""
    header, at = {}, 0
    if metadata:
        header["__metadata__"] = metadata
    for name, dtype, shape, size in entries:
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + size]}
        at += size
    raw = json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + bytes(i & 255 for i in range(at))


def write(folder, name, data):
    path = os.path.join(HERE, "corpus", folder)
    os.makedirs(path, exist_ok=True)
    with open(os.path.join(path, name), "wb") as f:
        f.write(data)


def main():
    scalars = [("general.architecture", STRING, "qwen3"), ("a.u8", U8, 1), ("a.i8", I8, -1), ("a.u16", U16, 2), ("a.i16", I16, -2),
               ("a.u32", U32, 3), ("a.i32", I32, -3), ("a.f32", F32, 0.5), ("a.bool", BOOL, 1), ("a.u64", U64, 4), ("a.i64", I64, -4),
               ("a.f64", F64, 1e300)]
    arrays = [("b.%d" % k, ARRAY, (k, [1, 0, 1])) for k in NUMBERS]
    arrays += [("b.s", ARRAY, (STRING, ["", "\u0120the", "x" * 9])), ("b.none", ARRAY, (U32, []))]
    write("gguf", "empty", gguf([], []))
    write("gguf", "values", gguf(scalars + arrays, []))
    write("gguf", "types", gguf([], [("t%d" % k, k, [BLOCKS[k][0], 2]) for k in BLOCKS]))
    write("gguf", "dims", gguf([("general.alignment", U32, 8)], [("s", 0, []), ("v", 1, [5]), ("m", 2, [32, 2]), ("c", 0, [2, 1, 3]),
                                                                 ("q", 27, [1, 2, 1, 2])], 2, 8))
    write("safetensors", "empty", safetensors([]))
    write("safetensors", "types", safetensors([("a.weight", "F32", [2, 3], 24), ("b", "F16", [3], 6), ("c", "BF16", [1, 1, 2, 2], 8),
                                               ("d", "I32", [], 4), ("e", "I64", [2], 16)], {"format": "pt"}))
    write("safetensors", "skipped", safetensors([("f8", "F8_E4M3", [4, 4], 16), ("b", "BOOL", [3], 3), ("none", "F32", [0, 4], 0),
                                                 ("five", "F16", [1, 1, 1, 1, 2], 4)]))


main()
