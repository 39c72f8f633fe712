/*
 * A target model on one device, or cut by layers over several (stages.h): its weights in place, its cache, the graphs for every number of rows, and
 * the buffers a pass writes. Planned first (so that memory is known before any is allocated), then allocated, then run. What a pass is given, and
 * what it gives, lies on the device of the first stage.
 *
 * Runs belong to whoever holds the device lock; planning and allocation to the thread that creates the engine.
 */
#ifndef DSPARK_MODEL_TARGET_H
#define DSPARK_MODEL_TARGET_H

#include "model/history.h"
#include "model/model.h"
#include "model/pages.h"
#include "model/stages.h"

/* Fills in the numbers of rows that there are graphs for; returns how many. */
uint32_t ds_row_buckets(uint32_t most, uint32_t buckets[DS_MAX_BUCKETS]);

struct ds_target_params {
    struct ds_device *device; /* of the first stage */
    struct ds_stream *stream;
    struct {
        struct ds_device *device;
        struct ds_stream *stream;
    } others[DS_MOST_STAGES - 1]; /* of the stages behind it, as the model has them */
    struct ds_pager *pager;
    uint32_t rows;     /* most rows of a pass */
    uint32_t out_rows; /* most rows of a pass that give logits */
    bool kv_f16;
    const int32_t *tap_layers; /* copied; NULL: no drafter */
    uint32_t n_taps;
    uint64_t beside_bytes; /* of rows.out_beside */
};

struct ds_target {
    struct ds_model *model; /* borrowed */
    struct ds_target_params params;
    int32_t tap_layers[DS_MAX_TAPS];
    struct ds_rows_buffer rows; /* fill rows.in_*, then ds_target_run */
    uint32_t n_stages;
    struct ds_stage stages[DS_MOST_STAGES];
    struct ds_buffer planned_outputs, *outputs;
    struct ds_view taps;   /* f32 [rows, n_taps * hidden] */
    struct ds_view logits; /* f32 [out_rows, vocabulary] */
    uint32_t n_buckets, buckets[DS_MAX_BUCKETS];
    struct ds_graph *graphs[DS_MAX_BUCKETS]; /* a pass, or what is left of it behind the stages' graphs */
    /* What most sessions never use, there after ds_target_extend. */
    uint32_t extensions;
    struct ds_graph *extended[DS_MAX_BUCKETS];
    struct ds_view drafted;       /* the logits of drafts, as ds_target_extend was told */
    struct ds_buffer *bias;       /* f32 [out_rows, vocabulary] */
    struct ds_history history;    /* of as many positions as the pager's sequences have */
    struct ds_buffer *adjusted;   /* f32 [out_rows, vocabulary]: logits after penalties and biases */
};

/* The model must have been through ds_model_load. On failure *target holds nothing. */
ds_status ds_target_plan(struct ds_target *target, struct ds_model *model, const struct ds_target_params *params, struct ds_error *err);
/* Bytes it will allocate itself on the device of a stage: cache apart. */
uint64_t ds_target_own_bytes(const struct ds_target *target, uint32_t stage);
/*
 * The weights must have their places. `scratch` [n_stages]: each has room for its stage's scratch_bytes at least. On failure the plan stands and it may
 * be called again; *failed: the stage whose device had no memory.
 */
ds_status ds_target_allocate(struct ds_target *target, struct ds_buffer *const *scratch, uint32_t *failed, struct ds_error *err);
void ds_target_release(struct ds_target *target); /* back to what was planned; before any ds_target_extend */
void ds_target_free(struct ds_target *target); /* accepts a zeroed struct */

/* What an extended pass can do with some of its rows. */
enum ds_extension {
    DS_EXTENDS_BIAS = 1,   /* a bias for each token: rows.in_sample[].bias_row */
    DS_EXTENDS_ADJUST = 2, /* penalties, and biases of single tokens: rows.in_adjust */
    DS_EXTENDS_REJECT = 4, /* rows.in_sample[].method */
};
/*
 * Outside the token loop. Memory first, then graphs, because a drafter's may lie in between; extensions that are there already stay.
 * `drafted` [any, vocabulary]: the logits of drafts, on the target's device; absent: no row is of the method DS_DRAW_REJECTION.
 */
ds_status ds_target_extend_memory(struct ds_target *target, uint32_t extensions, struct ds_error *err);
ds_status ds_target_extend(struct ds_target *target, uint32_t extensions, struct ds_view drafted, struct ds_error *err);
/* Row `row` of the bias matrix, f32[vocabulary]. */
ds_status ds_target_write_bias(struct ds_target *target, uint32_t row, const float *bias, struct ds_error *err);

/*
 * Runs rows.in_*[0..n_rows) (sequences' pages reserved by the caller), logits and tokens for the first n_out entries of
 * in_out_index. Afterwards rows.out_tokens, out_flags and out_flags_rows hold what came out. Allocates nothing. `extended`: the pass heeds
 * bias rows, in_adjust and methods, which the others take for absent.
 */
ds_status ds_target_run(struct ds_target *target, uint32_t n_rows, uint32_t n_out, bool extended, struct ds_error *err);
/*
 * Its halves: rows.in_* go to the device; then the pass runs and is read. In between the caller may put tokens that the host does not know yet
 * in their places, on the device (rows.at.ids).
 */
ds_status ds_target_begin(struct ds_target *target, uint32_t n_rows, uint32_t n_out, struct ds_error *err);
ds_status ds_target_end(struct ds_target *target, uint32_t n_rows, bool extended, struct ds_error *err);
/*
 * A pass of `bucket` rows (its end, where the target is cut), extended by what there is so far or not, that others append to, plan, place and own: for
 * ds_target_end_graph, which is ds_target_end by that graph, its bucket being the one for the pass. NULL when memory is out.
 */
struct ds_graph *ds_target_begin_graph(const struct ds_target *target, uint32_t bucket, bool extended);
ds_status ds_target_end_graph(struct ds_target *target, struct ds_graph *graph, struct ds_error *err);
/* The graphs that ds_target_run uses for a pass of n_rows that is not extended, in their order, and where they run: for measurements. Returns how many. */
struct ds_target_graph {
    const struct ds_graph *graph;
    struct ds_device *device;
    struct ds_stream *stream;
};
uint32_t ds_target_graphs(const struct ds_target *target, uint32_t n_rows, struct ds_target_graph out[DS_MOST_STAGES + 1]);
/* All layers' keys and values of one page, into another. */
ds_status ds_target_copy_page(const struct ds_target *target, int32_t from, int32_t to, struct ds_error *err);
/* Of a page of all layers, keys and values. */
uint64_t ds_target_pages_bytes(const struct ds_target *target);
/* Logits of output rows [first, first + n) of the last run. */
ds_status ds_target_read_logits(struct ds_target *target, uint32_t first, uint32_t n, float *logits, struct ds_error *err);

/* As ds_target_run without outputs, but all hidden states: [layers + 1][n_rows][hidden]. Builds a graph for it; for porting. */
ds_status ds_target_run_hidden(struct ds_target *target, uint32_t n_rows, float *hidden, struct ds_error *err);

#endif
