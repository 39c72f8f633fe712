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

struct ds_plan_item {
    const struct ds_ckpt_tensor *source;
    const struct ds_ckpt *from; /* that has the source */
    const char *name; /* in the output */
    const char *hf;   /* in a folder */
    ds_type type;
    uint32_t dims;
    uint64_t shape[DS_CKPT_MAX_DIMS];
    uint32_t head_rows;  /* rows of a head whose halves are put side by side, row i beside i + head_rows / 2; 0: as they are */
    const float *values; /* computed here, for there is no source; NULL: there is */
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
    struct ds_model_config config; /* vocabulary of a drafter: rows of its own tables */
    bool tied;                     /* the target's head is its embedding */
    struct ds_arena arena;
    struct ds_plan_item *items;
    size_t n_items, capacity;
    struct ds_gguf_writer *writer;
    enum { DS_LAYOUT_GGUF, DS_LAYOUT_DEEPSPEC, DS_LAYOUT_SPECULATORS } layout;
    uint32_t target_vocabulary, target_layers; /* of `target`; 0: not given */
    uint32_t n_taps, rank;         /* of a drafter, by its tensors */
    const char *head_type;         /* of a drafter: "vanilla"; NULL: no Markov head */
    bool confidence_with_markov;
    bool made_folder;
    struct ds_os_writer file;      /* of a folder: model.safetensors; fd -1: not begun */
    struct ds_device *packer;      /* whose layout matrices get; NULL: they stay rows */
    struct ds_stream *stream;      /* of it */
};

/* plan.c: recognises the source, fills arch, config and items (names, shapes, types). */
ds_status ds_convert_plan(struct ds_conversion *c, struct ds_error *err);
/* types.c: the type of a tensor; warns where the recipe's does not fit. `count` is the number of layers. */
ds_type ds_convert_type(const struct ds_conversion *c, const struct ds_plan_item *item, bool is_head);
/* keys.c: all keys but the tokenizer's. */
ds_status ds_convert_keys(struct ds_conversion *c, struct ds_error *err);
/* tokenizer.c: tokenizer.ggml.* from a folder's tokenizer.json or from another GGUF. */
ds_status ds_convert_tokenizer(struct ds_conversion *c, struct ds_error *err);
/* families.c: what GGUF wants otherwise than Hugging Face's files have it: added to a planned target. */
ds_status ds_convert_family(struct ds_conversion *c, struct ds_error *err);
/* The keys of that. */
ds_status ds_convert_family_keys(struct ds_conversion *c, struct ds_error *err);
/* layout.c: a drafter's folder. The name of a layout; what it needs of the plan; its files in place of a GGUF file. */
ds_status ds_convert_layout_find(struct ds_conversion *c, struct ds_error *err);
ds_status ds_convert_layout_plan(struct ds_conversion *c, struct ds_error *err);
ds_status ds_convert_layout_begin(struct ds_conversion *c, struct ds_error *err);
ds_status ds_convert_layout_commit(struct ds_conversion *c, struct ds_error *err);
/* packed.c: the device that packs and what becomes how large, where the parameters ask for it; and the keys that say so. */
ds_status ds_convert_plan_packing(struct ds_conversion *c, struct ds_error *err);
ds_status ds_convert_packing_keys(struct ds_conversion *c, struct ds_error *err);
void ds_convert_end_packing(struct ds_conversion *c);
/* data.c: every item's data into the begun writer. */
ds_status ds_convert_data(struct ds_conversion *c, ds_progress_fn progress, void *user, struct ds_error *err);

#endif
