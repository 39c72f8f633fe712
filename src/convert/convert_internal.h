/*
 * Converting a checkpoint: a plan (which tensors become what, under which names), keys and tokenizer into a GGUF writer, then the
 * tensors' data, chunk by chunk. ds_convert (dspark_dev.h) is the way in.
 */
#ifndef DSPARK_CONVERT_INTERNAL_H
#define DSPARK_CONVERT_INTERNAL_H

#include "base/arena.h"
#include "base/log.h"
#include "base/os.h"
#include "ckpt/gguf_writer.h"
#include "draft/draft.h"
#include "dspark_dev.h"
#include "model/layer.h"
#include "ops/device.h"

/* What --type names: the type of most matrices, and whether some get more bits. */
struct ds_recipe {
    const char *name;
    ds_type type;
    bool mixed;          /* Q6_K where it helps most */
    uint32_t file_type;  /* GGUF's general.file_type */
};
const struct ds_recipe *ds_recipe_find(const char *name); /* NULL: unknown */
void ds_recipe_list(char *out, size_t size);              /* the names, for messages */

/* How rows of a head change places: rotary pairs are rows i and i + n/2 of a head, or rows 2i and 2i + 1. */
enum ds_row_order { DS_ROWS_KEPT, DS_ROWS_PAIRED /* halves become pairs */, DS_ROWS_HALVED /* pairs become halves */ };

/* A tensor of the output. Its elements are computed here, or are rows of the source, or of several tensors one behind the other. */
struct ds_plan_item {
    const struct ds_ckpt_tensor *source; /* of pieces: the first; NULL: computed */
    const struct ds_ckpt *from; /* that has the source */
    const char *name; /* in the output */
    const char *hf;   /* in a folder */
    ds_type type;
    uint32_t dims;
    uint64_t shape[DS_CKPT_MAX_DIMS];
    const struct ds_loader_piece *pieces; /* NULL: all rows of the source */
    uint64_t piece_rows;
    enum ds_row_order order;
    uint32_t head_rows;  /* of a head, where the order changes */
    float shift;         /* added to every element */
    bool is_head;        /* the matrix that gives logits */
    const void *values;  /* computed here, of the item's type; NULL: there is a source */
    uint64_t packed;     /* bytes in the layout of the packer; 0: not packed */
};

/* A conversion under way. */
struct ds_conversion {
    const ds_convert_params *params;
    struct ds_log log;
    const struct ds_recipe *recipe;
    const struct ds_ckpt *source, *target; /* target: of a drafter, NULL: not given */
    bool is_drafter;
    const char *arch;              /* of the output: "qwen3", "dflash" */
    struct ds_model *model;        /* of the source, or of a drafter's `target`; owned */
    struct ds_draft_model *draft;  /* of the source; NULL: it is a target; owned */
    const struct ds_model_config *config; /* of the source. A drafter's vocabulary is its target's */
    struct ds_arena arena;
    struct ds_plan_item *items;
    size_t n_items, capacity;
    struct ds_gguf_writer *writer;
    enum { DS_LAYOUT_GGUF, DS_LAYOUT_DEEPSPEC, DS_LAYOUT_SPECULATORS } layout;
    bool made_folder;
    struct ds_os_writer file;      /* of a folder: model.safetensors; fd -1: not begun */
    struct ds_device *packer;      /* whose layout matrices get; NULL: they stay rows */
    struct ds_stream *stream;      /* of it */
};

/* plan.c: recognises the source, fills model, draft and items (names, shapes, types). */
ds_status ds_convert_plan(struct ds_conversion *c, struct ds_error *err);
/* A whole tensor of the source as an item; *out (NULL: not wanted) is valid until the next one. */
ds_status ds_convert_add(struct ds_conversion *c, const struct ds_ckpt *from, const struct ds_ckpt_tensor *source, const char *name, const char *hf,
                         struct ds_plan_item **out, struct ds_error *err);
/* A tensor that is computed: `values` of `type` lie in the arena. */
ds_status ds_convert_add_values(struct ds_conversion *c, const char *name, ds_type type, uint64_t count, const void *values, struct ds_error *err);
bool ds_convert_has(const struct ds_conversion *c, const char *name); /* an item of this name in GGUF */
static inline bool ds_convert_from_gguf(const struct ds_conversion *c) { return ds_ckpt_get_format(c->source) == DS_CKPT_GGUF; }

/* names.c: names of a decoder's layers in both containers, %u being the layer. */
struct ds_name_rule {
    const char *hf, *gguf;
    enum { DS_RULE_PLAIN, DS_RULE_NORM, DS_RULE_ROTATED /* rows are heads that turn */ } kind;
};
/* The rules of a family: Gemma's norms have names of their own. Ends with one without names. */
const struct ds_name_rule *ds_convert_layer_rules(bool gemma);

/* plan_target.c, plan_drafter.c: the items of either. */
ds_status ds_convert_plan_target(struct ds_conversion *c, struct ds_error *err);
ds_status ds_convert_plan_drafter(struct ds_conversion *c, struct ds_error *err);

/* types.c: the type of a tensor; warns where the recipe's does not fit. */
ds_type ds_convert_type(const struct ds_conversion *c, const struct ds_plan_item *item);
/* keys.c: all keys but the tokenizer's. */
ds_status ds_convert_keys(struct ds_conversion *c, struct ds_error *err);
/* tokenizer.c: tokenizer.ggml.* from a folder's tokenizer.json or from another GGUF. */
ds_status ds_convert_tokenizer(struct ds_conversion *c, struct ds_error *err);
/* rope.c: rope settings as keys and, where GGUF has none for them, as the tensor of factors that frequencies are divided by. */
ds_status ds_convert_rope_keys(struct ds_conversion *c, struct ds_error *err);
ds_status ds_convert_rope_factors(struct ds_conversion *c, struct ds_error *err);
/* families.c: the keys of sliding windows, experts and Gemma. */
ds_status ds_convert_family_keys(struct ds_conversion *c, struct ds_error *err);
/* keys.c: a key of the architecture, written into `key`; and keys of it with a value. */
const char *ds_convert_key(const struct ds_conversion *c, const char *name, char key[DS_KEY_MAX]);
ds_status ds_convert_add_size(struct ds_conversion *c, const char *name, uint32_t value, struct ds_error *err);
ds_status ds_convert_add_real(struct ds_conversion *c, const char *name, double value, struct ds_error *err);
ds_status ds_convert_add_text(struct ds_conversion *c, const char *name, const char *text, struct ds_error *err);
ds_status ds_convert_add_flag(struct ds_conversion *c, const char *name, bool value, struct ds_error *err);
/* layout.c: a drafter's folder. The name of a layout; what it needs of the plan; its files in place of a GGUF file. */
ds_status ds_convert_layout_find(struct ds_conversion *c, struct ds_error *err);
ds_status ds_convert_layout_plan(struct ds_conversion *c, struct ds_error *err);
ds_status ds_convert_layout_begin(struct ds_conversion *c, struct ds_error *err);
ds_status ds_convert_layout_commit(struct ds_conversion *c, struct ds_error *err);
/* layout_config.c: the text of config.json, malloc'ed. */
ds_status ds_convert_layout_config(const struct ds_conversion *c, char **out, struct ds_error *err);
/* packed.c: the device that packs and what becomes how large, where the parameters ask for it; and the keys that say so. */
ds_status ds_convert_plan_packing(struct ds_conversion *c, struct ds_error *err);
ds_status ds_convert_packing_keys(struct ds_conversion *c, struct ds_error *err);
void ds_convert_end_packing(struct ds_conversion *c);
/* data.c: every item's data into the begun writer. */
uint64_t ds_convert_source_bytes(const struct ds_plan_item *item); /* that are read for it */
ds_status ds_convert_data(struct ds_conversion *c, ds_progress_fn progress, void *user, struct ds_error *err);

#endif
