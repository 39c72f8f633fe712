/*
 * The stages of a target: layers that lie on one device each, with their cache and the page table they need. The first is where the target is at
 * home: a pass begins there with the embedding, goes through the other stages, and ends there with head and sampling. Between stages the rows'
 * residual stream (and what later layers need besides) crosses through host memory, and with it come the taps of a stage's layers. Nothing of it is
 * computed: bits are those of one device.
 *
 * A target that is not cut has one stage, and none of the crossing.
 */
#ifndef DSPARK_MODEL_STAGES_H
#define DSPARK_MODEL_STAGES_H

#include "model/model.h"

/* Graphs exist for these numbers of rows; a pass runs the smallest that holds it. */
enum { DS_MAX_BUCKETS = 16 };

struct ds_target;

struct ds_stage {
    const struct ds_model_stage *part; /* its layers; borrowed */
    struct ds_device *device;
    struct ds_stream *stream;
    struct ds_page_table pages;
    struct ds_cache_memory cache; /* of its own layers; the others' have no places */
    uint64_t scratch_bytes;       /* of its largest graph */
    struct ds_buffer *scratch;    /* borrowed; shared by all that runs on the stream */
    /*
     * Where the target is cut. `in` and `out` as struct ds_model_part has them; beyond home, taps of its layers lie in the columns behind `out`'s.
     * One buffer, with a copy in host memory; what is written before a run, and read after it, lies side by side.
     */
    struct ds_graph *graphs[DS_MAX_BUCKETS]; /* all of a pass but its end */
    struct ds_buffer planned, *buffer;
    uint8_t *host; /* owned */
    struct ds_view in, out;
    uint32_t n_taps;
    int32_t tap_layers[DS_MAX_TAPS];
    uint32_t tap_places[DS_MAX_TAPS]; /* which of the target's taps each is */
    /* Beyond home: */
    struct ds_rows rows;
    struct ds_slice no_flags;    /* u32 [rows]: zeros */
    struct ds_view arrived;      /* at home: what came out here */
};

/* For target.c. Plans pages, caches and what crosses; then graphs, which need target->rows to be planned. */
ds_status ds_stages_plan(struct ds_target *target, struct ds_error *err);
ds_status ds_stages_allocate(struct ds_target *target, uint32_t *failed, struct ds_error *err); /* *failed: the stage that the error is of */
void ds_stages_give_back(struct ds_target *target); /* to what was planned */
void ds_stages_free(struct ds_target *target);
uint64_t ds_stage_own_bytes(const struct ds_stage *stage); /* cache apart */

/* The graphs in front of the end, for every bucket; placed once there is scratch memory. On failure none is left, and it was stage *failed's. */
ds_status ds_stages_build(struct ds_target *target, uint32_t *failed, struct ds_error *err);
void ds_stages_destroy_graphs(struct ds_target *target);
/* One such graph, not planned. `hidden` [(layers + 1) * rows, hidden] on the stage's device or absent; with it no taps are kept. NULL: memory is out. */
struct ds_graph *ds_stage_graph(const struct ds_target *target, uint32_t s, uint32_t rows, struct ds_view hidden);
/* What the last graph of a pass has still to do of the model; `taps`: those that came from elsewhere are put in their places first. */
struct ds_model_part ds_stages_end(const struct ds_target *target, struct ds_graph *graph, const struct ds_rows *rows, bool taps);

/* A pass up to its end: graphs[s] of each stage, for the rows in target->rows, which have been written. Nothing where the target is not cut. */
ds_status ds_stages_run(struct ds_target *target, struct ds_graph *const graphs[DS_MOST_STAGES], struct ds_error *err);
/* Flags that rows got elsewhere join those that were read at home. */
void ds_stages_take_flags(const struct ds_target *target);

#endif
