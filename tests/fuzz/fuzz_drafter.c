/*
 * Drafters for one target that is always the same (6 layers, so that each kind of taps fits): config.json with the header of its tensors, or
 * GGUF, as fuzz_model.h describes a model. Whatever a drafter's file says is refused with a message, or drafts.
 */
#include "fuzz_model.h"

enum { LAYERS = 6, INPUT_BYTES = 1 << 20, TARGET_BYTES = 1 << 14 };

struct text {
    char data[TARGET_BYTES];
    size_t length, offset; /* of the next tensor */
};

static void add(struct text *text, const char *part) {
    const size_t n = strlen(part);
    if (n >= sizeof text->data - text->length) abort();
    memcpy(text->data + text->length, part, n + 1);
    text->length += n;
}

/* cols 0: a vector. */
static void add_tensor(struct text *text, const char *name, unsigned rows, unsigned cols) {
    char shape[32], entry[256];
    const size_t end = text->offset + 2 * (size_t)rows * DS_MAX(cols, 1u);
    if (cols) snprintf(shape, sizeof shape, "%u, %u", rows, cols);
    else snprintf(shape, sizeof shape, "%u", rows);
    snprintf(entry, sizeof entry, "%s\"%s.weight\": {\"dtype\": \"BF16\", \"shape\": [%s], \"data_offsets\": [%zu, %zu]}", text->offset ? ", " : "",
             name, shape, text->offset, end);
    add(text, entry);
    text->offset = end;
}

static void write_target(struct text *text) {
    static const struct {
        const char *name;
        unsigned rows, cols;
    } parts[] = {{"input_layernorm", 32, 0}, {"self_attn.q_proj", 32, 32}, {"self_attn.k_proj", 16, 32}, {"self_attn.v_proj", 16, 32},
                 {"self_attn.o_proj", 32, 32}, {"self_attn.q_norm", 16, 0}, {"self_attn.k_norm", 16, 0}, {"post_attention_layernorm", 32, 0},
                 {"mlp.gate_proj", 32, 32}, {"mlp.up_proj", 32, 32}, {"mlp.down_proj", 32, 32}};
    add(text, "{\"architectures\": [\"Qwen3ForCausalLM\"], \"num_hidden_layers\": 6, \"hidden_size\": 32, \"num_attention_heads\": 2, "
              "\"num_key_value_heads\": 1, \"head_dim\": 16, \"intermediate_size\": 32, \"max_position_embeddings\": 64, \"vocab_size\": 24, "
              "\"rms_norm_eps\": 1e-6, \"tie_word_embeddings\": true, \"eos_token_id\": 3}\n====\n{");
    add_tensor(text, "model.embed_tokens", 24, 32);
    add_tensor(text, "model.norm", 32, 0);
    for (unsigned l = 0; l < LAYERS; l++) {
        for (size_t i = 0; i < DS_COUNT(parts); i++) {
            char name[96];
            snprintf(name, sizeof name, "model.layers.%u.%s", l, parts[i].name);
            add_tensor(text, name, parts[i].rows, parts[i].cols);
        }
    }
    add(text, "}\n====\n");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct text target;
    static uint8_t input[TARGET_BYTES + INPUT_BYTES];
    if (!target.length) write_target(&target);
    if (size == 0 || size > INPUT_BYTES) return 0;
    memcpy(input, target.data, target.length);
    memcpy(input + target.length, data, size);
    return run_models(input, target.length + size);
}
