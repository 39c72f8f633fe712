#!/usr/bin/env python3
"""Compiles one shader into a C file with the SPIR-V of its variants.

    compile.py --glslang PATH [--val PATH] [--dis PATH] [-I DIR]... --depfile FILE SHADER.comp OUT.c

The variants are addresses or descriptors, times what the first line of the shader asks for ("// uses: half, dot"). Every float operation is
decorated NoContraction, whatever `precise` reached; a float operation that the numerics contract does not know is an error. The
result is disassembled and looked through once more.
"""
import argparse
import os
import re
import struct
import subprocess
import sys
import tempfile

ADDRESS, HALF, DOT = 1, 2, 4
# Opcodes of SPIR-V.
EXT_INST_IMPORT, EXT_INST, ENTRY_POINT, DECORATE, SPEC_CONSTANT_OP = 11, 12, 15, 71, 52
ARITHMETIC = {127: "OpFNegate", 129: "OpFAdd", 131: "OpFSub", 133: "OpFMul"}
FORBIDDEN = {115: "OpFConvert", 136: "OpFDiv", 140: "OpFRem", 141: "OpFMod", 142: "OpVectorTimesScalar", 143: "OpMatrixTimesScalar",
             144: "OpVectorTimesMatrix", 145: "OpMatrixTimesVector", 146: "OpMatrixTimesMatrix", 148: "OpDot", 350: "OpGroupNonUniformFAdd",
             352: "OpGroupNonUniformFMul", 355: "OpGroupNonUniformFMin", 358: "OpGroupNonUniformFMax"}
# Instructions of GLSL.std.450 on integers and bits; all others compute with floats as the driver likes.
ALLOWED_EXT = {5: "SAbs", 38: "UMin", 39: "SMin", 41: "UMax", 42: "SMax", 44: "UClamp", 45: "SClamp", 73: "FindILsb", 74: "FindSMsb", 75: "FindUMsb"}
NO_CONTRACTION = 42


def instructions(words):
    at = 5
    while at < len(words):
        length = words[at] >> 16
        yield at, words[at] & 0xFFFF, words[at:at + length]
        at += length


def checked(words, name):
    """The module with NoContraction on every float operation; exits where one is not allowed."""
    have, wanted, where = set(), [], None
    for at, op, w in instructions(words):
        if op == DECORATE and w[2] == NO_CONTRACTION:
            have.add(w[1])
        if op == DECORATE and where is None:
            where = at
        if op in (19, 20, 21, 22) and where is None:  # types follow the decorations
            where = at
        if op in ARITHMETIC:
            wanted.append(w[2])
        if op in FORBIDDEN or (op == SPEC_CONSTANT_OP and w[3] in list(FORBIDDEN) + list(ARITHMETIC)):
            sys.exit(f"{name}: {FORBIDDEN.get(op, 'a float operation on specialisation constants')} is not part of the numerics contract; use numerics.h")
        if op == EXT_INST and w[4] not in ALLOWED_EXT:
            sys.exit(f"{name}: instruction {w[4]} of GLSL.std.450 is not part of the numerics contract; use numerics.h")
    more = []
    for target in wanted:
        if target not in have:
            more += [3 << 16 | DECORATE, target, NO_CONTRACTION]
    return words[:where] + more + words[where:]


def look_through(text, name):
    """The disassembly once more: nothing that rounds is left without the decoration."""
    marked = set(re.findall(r"OpDecorate (%\S+) NoContraction", text))
    for target, op in re.findall(r"(%\S+) = (OpF(?:Add|Sub|Mul|Negate|Div|Rem|Mod|Convert)|OpExtInst [^\n]* Fma)\b", text):
        if op not in ARITHMETIC.values() or target not in marked:
            sys.exit(f"{name}: {target} = {op} may be contracted")


def variants(source):
    first = source.split("\n", 1)[0]
    match = re.match(r"// uses:(.*)$", first)
    if not match:
        sys.exit("a shader begins with '// uses:' and the variants it needs")
    uses = [w.strip() for w in match.group(1).split(",") if w.strip()]
    unknown = set(uses) - {"half", "dot"}
    if unknown:
        sys.exit(f"'// uses:' knows half and dot; found {', '.join(unknown)}")
    mask = ADDRESS | (HALF if "half" in uses else 0) | (DOT if "dot" in uses else 0)
    return mask


def run(command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        sys.exit(" ".join(command) + "\n" + done.stdout)
    return done.stdout


def compile_variant(args, variant, folder, depfile):
    out = os.path.join(folder, f"{variant}.spv")
    command = [args.glslang, "--quiet", "-V", "--target-env", "vulkan1.2", "-S", "comp"]
    for define, bit in (("DS_ADDRESS", ADDRESS), ("DS_HALF", HALF), ("DS_DOT", DOT)):
        if variant & bit:
            command.append(f"-D{define}=1")
    command += [f"-I{d}" for d in args.I] + ["-o", out]
    if depfile:
        command += ["--depfile", depfile]
    run(command + [args.shader])
    with open(out, "rb") as f:
        data = f.read()
    words = checked(list(struct.unpack(f"<{len(data) // 4}I", data)), os.path.basename(args.shader))
    data = struct.pack(f"<{len(words)}I", *words)
    with open(out, "wb") as f:
        f.write(data)
    if args.val:
        run([args.val, "--target-env", "vulkan1.2", "--scalar-block-layout", out])
    if args.dis:
        look_through(run([args.dis, "--no-color", out]), os.path.basename(args.shader))
    return words


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--glslang", required=True)
    parser.add_argument("--val")
    parser.add_argument("--dis")
    parser.add_argument("-I", action="append", default=[])
    parser.add_argument("--depfile", required=True)
    parser.add_argument("shader")
    parser.add_argument("out")
    args = parser.parse_args()
    name = os.path.splitext(os.path.basename(args.shader))[0]
    with open(args.shader) as f:
        mask = variants(f.read())
    lines = ['#include "shader.h"\n']
    table = {}
    with tempfile.TemporaryDirectory() as folder:
        dependencies = os.path.join(folder, "d")
        for variant in range(8):
            if variant & ~mask:
                continue
            words = compile_variant(args, variant, folder, dependencies if not table else None)
            table[variant] = len(words) * 4
            lines.append(f"static const uint32_t words_{variant}[] = {{")
            lines += ["    " + ", ".join(f"0x{w:08x}" for w in words[i:i + 12]) + "," for i in range(0, len(words), 12)]
            lines.append("};\n")
        with open(dependencies) as f:
            after = f.read().split(":", 1)[1]
    with open(args.depfile, "w") as f:
        f.write(args.out + ":" + after)
    pick = [v & mask for v in range(8)]
    lines.append(f"extern const struct ds_vk_code ds_vk_code_{name};")
    lines.append(f"const struct ds_vk_code ds_vk_code_{name} = {{")
    lines.append(f'    .name = "{name}",')
    lines.append("    .words = {" + ", ".join(f"words_{v}" for v in pick) + "},")
    lines.append("    .bytes = {" + ", ".join(f"{table[v]}" for v in pick) + "},")
    lines.append("};")
    with open(args.out, "w") as f:
        f.write("\n".join(lines) + "\n")


main()
