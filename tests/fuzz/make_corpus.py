#!/usr/bin/env python3
"""Writes the fuzz targets' first inputs, small valid files that reach every branch: corpus/gguf, corpus/safetensors, corpus/model, corpus/drafter, corpus/convert."""
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
    """keys: (name, kind, value); tensors: (name, type id, dimensions innermost first[, data])."""
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(keys))
    for name, kind, v in keys:
        head += text(name) + struct.pack("<I", kind) + value(kind, v)
    data = b""
    for name, kind, ne, *own in tensors:
        head += text(name) + struct.pack("<I", len(ne)) + b"".join(struct.pack("<Q", n) for n in ne)
        head += struct.pack("<IQ", kind, len(data))
        elements, size = BLOCKS[kind]
        count = 1
        for n in ne:
            count *= n
        raw = own[0] if own else bytes((7 * i + kind) & 255 for i in range(count // elements * size))
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


LAYER = [("input_layernorm", "attn_norm", [32]), ("self_attn.q_proj", "attn_q", [32, 32]), ("self_attn.k_proj", "attn_k", [16, 32]),
         ("self_attn.v_proj", "attn_v", [16, 32]), ("self_attn.o_proj", "attn_output", [32, 32]),
         ("self_attn.q_norm", "attn_q_norm", [16]), ("self_attn.k_norm", "attn_k_norm", [16]),
         ("post_attention_layernorm", "ffn_norm", [32]), ("mlp.gate_proj", "ffn_gate", [32, 32]), ("mlp.up_proj", "ffn_up", [32, 32]),
         ("mlp.down_proj", "ffn_down", [32, 32])]
SIZES = {"hidden_size": 32, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16, "intermediate_size": 32,
         "max_position_embeddings": 64, "vocab_size": 24, "rms_norm_eps": 1e-6}
TOP = [("embed_tokens.weight", "token_embd.weight", [24, 32]), ("norm.weight", "output_norm.weight", [32])]
DRAFT = [("fc.weight", "fc.weight", [32, 32]), ("hidden_norm.weight", "enc.output_norm.weight", [32]),
         ("markov_head.markov_w1.weight", "markov_w1.weight", [24, 4]), ("markov_head.markov_w2.weight", "markov_w2.weight", [24, 4]),
         ("confidence_head.proj.weight", "conf_proj.weight", [1, 36]), ("confidence_head.proj.bias", "conf_proj.bias", [1])]


def tensors(top, layers):
    """(Hugging Face's name, GGUF's name, shape) of all tensors."""
    return top + [("layers.%d.%s.weight" % (l, hf), "blk.%d.%s.weight" % (l, short), shape)
                  for l in range(layers) for hf, short, shape in LAYER]


def folder(architecture, prefix, all_tensors, layers, dtype="BF16", **more):
    config = {"architectures": [architecture], "num_hidden_layers": layers, **SIZES, **more}
    size = {"BF16": 2, "F32": 4}[dtype]
    header, at = {}, 0
    for name, _, shape in all_tensors:
        end = at + size * shape[0] * (shape[1] if len(shape) > 1 else 1)
        header[prefix + name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, end]}
        at = end
    return json.dumps(config).encode() + b"\n====\n" + json.dumps(header).encode()


def model_gguf(arch, all_tensors, layers, more=(), own=()):
    keys = [("general.architecture", STRING, arch)]
    keys += [(arch + "." + k, U32, v) for k, v in (("embedding_length", 32), ("block_count", layers), ("attention.head_count", 2),
                                                     ("attention.head_count_kv", 1), ("attention.key_length", 16),
                                                     ("feed_forward_length", 32), ("context_length", 64))]
    keys += [(arch + ".attention.layer_norm_rms_epsilon", F32, 1e-6)] + list(more)
    return gguf(keys, [(short, 8 if len(shape) > 1 and shape[-1] % 32 == 0 else 0, shape[::-1]) for _, short, shape in all_tensors] + list(own))


def models():
    target = folder("Qwen3ForCausalLM", "model.", tensors(TOP, 2), 2, tie_word_embeddings=True, eos_token_id=[3, 4],
                    rope_parameters={"rope_type": "yarn", "factor": 2.0, "rope_theta": 1e4, "original_max_position_embeddings": 32})
    drafter = folder("Qwen3DSparkModel", "", tensors(TOP + DRAFT, 1), 1, block_size=3, mask_token_id=23, target_layer_ids=[0],
                     num_target_layers=2, markov_rank=4, markov_head_type="vanilla", enable_confidence_head=True)
    target_gguf = model_gguf("qwen3", tensors(TOP, 2), 2)
    drafter_gguf = model_gguf("dflash", tensors(TOP + DRAFT, 1), 1, [
        ("dflash.block_size", U32, 3), ("dflash.target_layers", ARRAY, (U32, [1])), ("tokenizer.ggml.mask_token_id", U32, 23)])
    write("model", "target", target)
    write("model", "pair", target + b"\n====\n" + drafter)
    write("model", "target_gguf", target_gguf)
    write("model", "pair_gguf", target_gguf + b"\n====\n" + drafter_gguf)
    write("model", "pair_mixed", target_gguf + b"\n====\n" + drafter)
    write("model", "target_f32", folder("Qwen3ForCausalLM", "model.", tensors(TOP, 1), 1, "F32", tie_word_embeddings=True))


NORMS = ("attn_q_norm", "attn_k_norm")
EXPERTS = [("mlp.gate", "ffn_gate_inp", [2, 32]), ("", "ffn_gate_exps", [2, 32, 32]), ("", "ffn_up_exps", [2, 32, 32]), ("", "ffn_down_exps", [2, 32, 32])]
GEMMA = [("post_attention_layernorm", "post_attention_norm", [32]), ("post_feedforward_layernorm", "post_ffw_norm", [32])]
GEMMA4 = [("", "layer_output_scale", [1]), ("", "inp_gate", [16, 32]), ("", "proj", [32, 16]), ("", "post_norm", [32]), ("", "ffn_gate_inp", [2, 32]),
          ("", "ffn_gate_up_exps", [2, 64, 32]), ("", "ffn_down_exps", [2, 32, 32]), ("", "post_ffw_norm_1", [32]), ("", "pre_ffw_norm_2", [32]),
          ("", "post_ffw_norm_2", [32])]


def layers_of(parts, layers):
    return [("", "blk.%d.%s.weight" % (l, short), shape) for l in range(layers) for _, short, shape in parts]


def families():
    """A target of every other architecture, as GGUF: all its keys and kinds of layers."""
    plain = [part for part in LAYER if part[1] not in NORMS]
    attention = [part for part in LAYER if not part[1].startswith("ffn_") or part[1] == "ffn_norm"]
    biases = [("", "blk.0.attn_%s.bias" % name, [n]) for name, n in (("q", 32), ("k", 16), ("v", 16))]
    ones = struct.pack("<8f", *[1.0] * 8)
    write("model", "qwen2_gguf", model_gguf("qwen2", TOP + layers_of(plain, 1) + biases, 1))
    write("model", "llama_gguf", model_gguf("llama", TOP + layers_of(plain, 1), 1, [("llama.attention.sliding_window", U32, 4)],
                                            [("rope_freqs.weight", 0, [8], ones)]))
    write("model", "qwen3moe_gguf", model_gguf("qwen3moe", TOP + layers_of(attention + EXPERTS, 1), 1, [
        ("qwen3moe.expert_count", U32, 2), ("qwen3moe.expert_used_count", U32, 1), ("qwen3moe.expert_feed_forward_length", U32, 32)]))
    sliding = ("attention.sliding_window", U32, 4), ("attention.sliding_window_pattern", ARRAY, (BOOL, [1, 0]))
    write("model", "gemma3_gguf", model_gguf("gemma3", TOP + layers_of(LAYER + GEMMA, 2), 2,
                                             [("gemma3." + k, kind, v) for k, kind, v in sliding] + [("gemma3.attention.scale", F32, 0.25)]))
    scales = [("blk.%d.%s.scale" % (l, name), 0, [n]) for l in range(2) for name, n in (("ffn_gate_inp", 32), ("ffn_down_exps", 2))]
    inputs = [("", "per_layer_token_embd.weight", [24, 32]), ("", "per_layer_model_proj.weight", [32, 32]), ("", "per_layer_proj_norm.weight", [16])]
    write("model", "gemma4_gguf", model_gguf("gemma4", TOP + inputs + layers_of(LAYER + GEMMA + GEMMA4, 2), 2, [
        ("gemma4." + k, kind, v) for k, kind, v in sliding + (
            ("embedding_length_per_layer_input", U32, 16), ("attention.shared_kv_layers", U32, 0), ("final_logit_softcapping", F32, 8.0),
            ("expert_count", U32, 2), ("expert_used_count", U32, 1), ("expert_feed_forward_length", U32, 32))],
        scales + [("rope_freqs.weight", 0, [8], ones)]))


W1, W2 = ("markov_head.markov_w1.weight", "markov_w1.weight", [24, 4]), ("markov_head.markov_w2.weight", "markov_w2.weight", [24, 4])
BODY = [("fc.weight", "fc.weight", [32, 64]), ("hidden_norm.weight", "enc.output_norm.weight", [32])]
HEADS = {"none": [], "vanilla": [W1, W2],
         "gated": [W1, W2, ("markov_head.gate_proj.weight", "markov_gate.weight", [4, 36]), ("markov_head.gate_proj.bias", "markov_gate.bias", [4])],
         "rnn": [W1, W2, ("markov_head.joint_proj.weight", "markov_joint.weight", [12, 40]), ("markov_head.joint_proj.bias", "markov_joint.bias", [12])]}
CONFIDENCE = [("confidence_head.proj.weight", "conf_proj.weight", [1, 32]), ("confidence_head.proj.bias", "conf_proj.bias", [1])]


def eagle3(head_rows=24):
    wide = {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"}
    layer = [("layers.0.%s.weight" % hf, "blk.0.%s.weight" % short, [shape[0], 64] if hf in wide else shape) for hf, short, shape in LAYER]
    return TOP + [("lm_head.weight", "output.weight", [head_rows, 32]), ("fc.weight", "fc.weight", [32, 96]),
                  ("layers.0.hidden_norm.weight", "blk.0.attn_norm_2.weight", [32])] + layer


def gemma_layer(inputs=32):
    """A global layer of Gemma 4, whose V is made of K; under Hugging Face's names alone."""
    shapes = {"self_attn.q_proj": [32, inputs], "self_attn.k_proj": [16, inputs], "self_attn.o_proj": [32, 32], "self_attn.q_norm": [16],
              "self_attn.k_norm": [16], "mlp.gate_proj": [32, 32], "mlp.up_proj": [32, 32], "mlp.down_proj": [32, 32],
              **{name: [32] for name in ("input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm")}}
    return [("layers.0.%s.weight" % name, "", shape) for name, shape in shapes.items()] + [("layers.0.layer_scalar", "", [1])]


def speculators(kind, all_tensors, dtype="BF16", **more):
    """As folder(), with the layers' keys in an object of their own."""
    config = {"speculators_model_type": kind, "speculators_config": {"algorithm": kind},
              "transformer_layer_config": {"model_type": "qwen3", "num_hidden_layers": 1, **SIZES}, **more}
    return json.dumps(config).encode() + b"\n====\n" + folder("", "", all_tensors, 1, dtype).split(b"\n====\n")[1]


def drafters():
    block = {"block_size": 3, "mask_token_id": 23, "target_layer_ids": [0, 4], "num_target_layers": 6}
    for head, extra in HEADS.items():
        rank = {"markov_rank": 4, "markov_head_type": head} if extra else {"markov_rank": 0}
        write("drafter", head, folder("Qwen3DSparkModel", "", tensors(TOP + BODY + extra + CONFIDENCE, 1), 1, enable_confidence_head=True,
                                      confidence_head_with_markov=False, **rank, **block))
        keys = [("dflash.block_size", U32, 3), ("dflash.target_layers", ARRAY, (I32, [1, 5])), ("tokenizer.ggml.mask_token_id", U32, 23)]
        if extra:
            keys.append(("dspark.markov_head_type", STRING, head))
        write("drafter", head + "_gguf", model_gguf("dflash", tensors(TOP + BODY + extra, 1), 1, keys))
    write("drafter", "dflash", folder("DFlashDraftModel", "", tensors(BODY + TOP[1:], 1), 1, num_target_layers=6, layer_types=["sliding_attention"],
                                      sliding_window=4, dflash_config={"mask_token_id": 23, "target_layer_ids": [0, 4], "block_size": 4}))
    write("drafter", "dspark_speculators", speculators("dspark", tensors(TOP + BODY + HEADS["vanilla"], 1), block_size=3, mask_token_id=23, markov_rank=4,
                                                       aux_hidden_state_layer_ids=[1, 5], sample_from_anchor=True, draft_vocab_size=24))
    write("drafter", "eagle3", folder("Qwen3Eagle3Model", "", eagle3(), 1, ttt_length=3, target_layer_ids=[0, 1, 4], num_target_layers=6))
    write("drafter", "eagle3_speculators", speculators("eagle3", eagle3(), norm_before_residual=True, norm_before_fc=False, draft_vocab_size=24))
    ids = b"".join(struct.pack("<q", 23 - 2 * i) for i in range(8))
    write("drafter", "eagle3_gguf", model_gguf("eagle3", eagle3(8), 1, [
        ("eagle3.target_layers", ARRAY, (I32, [1, 2, 5])), ("eagle3.target_hidden_size", U32, 32), ("eagle3.norm_before_residual", BOOL, 1)],
        [("d2t", 27, [8], ids)]))
    for name, arch in (("older_gguf", "dspark"), ("older_draft_gguf", "dflash-draft")):
        write("drafter", name, model_gguf(arch, tensors(TOP + BODY, 1), 1))
    write("drafter", "vanilla_confidence", folder("Qwen3DSparkModel", "", tensors(TOP + BODY + HEADS["vanilla"], 1) + [
        (hf, short, [1, 36] if len(shape) > 1 else shape) for hf, short, shape in CONFIDENCE], 1, enable_confidence_head=True,
        confidence_head_with_markov=True, markov_rank=4, markov_head_type="vanilla", **block))
    write("drafter", "dflash_speculators", speculators("dflash", tensors(TOP + BODY, 1), block_size=4, mask_token_id=23,
                                                       aux_hidden_state_layer_ids=[1, 5], draft_vocab_size=24, layer_types=["sliding_attention"],
                                                       sliding_window=4))
    gemma = {"attention_k_eq_v": True, "global_head_dim": 16, "num_global_key_value_heads": 1, "hidden_activation": "gelu_pytorch_tanh",
             "final_logit_softcapping": 8.0, "layer_types": ["full_attention"], "model_type": "gemma4_text"}
    write("drafter", "gemma4", folder("Gemma4DSparkModel", "", TOP + BODY + HEADS["vanilla"] + gemma_layer(), 1, markov_rank=4, markov_head_type="vanilla",
                                      **gemma, **block))
    write("drafter", "eagle3_gemma4", folder("Gemma4Eagle3Model", "", eagle3()[:5] + gemma_layer(64), 1, ttt_length=3, target_layer_ids=[0, 1, 4],
                                             num_target_layers=6, **gemma))
    write("drafter", "eagle3_steps_gguf", model_gguf("eagle3", eagle3(), 1, [
        ("eagle3.target_layers", ARRAY, (I32, [1, 2, 5])), ("eagle3.target_hidden_size", U32, 32), ("dspark.ttt_length", U32, 4)]))
    write("drafter", "gemma4_gguf", model_gguf("dflash", TOP + BODY + layers_of(LAYER + GEMMA, 1), 1, [
        ("dflash.block_size", U32, 3), ("dflash.target_layers", ARRAY, (I32, [1, 5])), ("tokenizer.ggml.mask_token_id", U32, 23),
        ("dflash.hidden_activation", STRING, "gelu_pytorch_tanh"), ("dflash.final_logit_softcapping", F32, 8.0)]))
    write("drafter", "windows_gguf", model_gguf("dflash", tensors(TOP + BODY, 1), 1, [
        ("dflash.block_size", U32, 3), ("dflash.target_layers", ARRAY, (I32, [1, 5])), ("tokenizer.ggml.mask_token_id", U32, 23),
        ("dflash.sample_from_anchor", BOOL, 0), ("dflash.attention.sliding_window", U32, 4),
        ("dflash.attention.sliding_window_pattern", ARRAY, (BOOL, [1])), ("dspark.sliding_window_causal", BOOL, 1)]))


def conversions():
    """Targets, and drafters behind a target of 6 layers."""
    def read(folder, name):
        with open(os.path.join(HERE, "corpus", folder, name), "rb") as f:
            return f.read()

    target = folder("Qwen3ForCausalLM", "model.", tensors(TOP, 6), 6, tie_word_embeddings=True)
    for name in "target", "llama_gguf", "qwen3moe_gguf", "gemma4_gguf":
        write("convert", name, read("model", name))
    for name in "vanilla", "rnn_gguf", "dflash", "dspark_speculators", "eagle3", "eagle3_speculators", "eagle3_gguf", "gemma4_gguf", "windows_gguf":
        write("convert", "drafter_" + name, target + b"\n====\n" + read("drafter", name))


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
    models()
    families()
    drafters()
    conversions()


main()
