/*
 * A drafter on one device: cache, buffers and graphs, as target.h is for a target. Its pages are the target's pages.
 *
 * Runs belong to whoever holds the device lock.
 */
#ifndef DSPARK_DRAFT_DRAFTER_H
#define DSPARK_DRAFT_DRAFTER_H

#include "draft/draft.h"
#include "model/target.h"

/* Sequences in one drafting pass; numbers of slots, and of sequences, that there are graphs for; most rows of a joined pass. */
enum { DS_MOST_DRAFTING = 16, DS_DRAFT_LENGTHS = 8, DS_DRAFT_WIDTHS = 8, DS_JOINED_ROWS = 32 };

struct ds_drafter_params {
    struct ds_device *device;
    struct ds_stream *stream;
    uint32_t sequences; /* most that are drafted for in one pass, at most DS_MOST_DRAFTING; 0: 1 */
    bool kv_f16;
    bool keep_outputs; /* hidden, base_logits and logits of a block stay readable: for comparison with references */
};

struct ds_drafter {
    struct ds_draft_model *model; /* borrowed */
    struct ds_drafter_params params;
    struct ds_target *target;             /* borrowed: taps, pager */
    bool bridged;                         /* on another device than the target: features cross through host memory */
    struct ds_rows_buffer context, block; /* rows of the two passes */
    struct ds_page_table pages;
    struct ds_cache_memory cache;
    struct ds_buffer planned_outputs, *outputs;
    struct ds_view features;              /* bridged: f32 [rows, n_taps * hidden] on our device */
    float *host_features;                 /* bridged: the same in host memory */
    struct ds_view feature_out;           /* steps, keep_outputs: f32 [rows, hidden], features of the last context rows */
    struct ds_view carry;                 /* steps: f32 [sequences, hidden], the last context feature of each sequence */
    struct ds_view carried;               /* steps: f32 [most_sequences, hidden], those of the sequences to draft for */
    struct ds_draft_outputs block_outputs;
    uint32_t n_buckets, buckets[DS_MAX_BUCKETS];
    struct ds_graph *context_graphs[DS_MAX_BUCKETS];
    uint32_t n_joined; /* the first buckets have one of these: the target's pass, then the same rows as context */
    struct ds_graph *joined_graphs[DS_MAX_BUCKETS];
    uint32_t joined_extensions; /* of the target's that these have: */
    struct ds_graph *joined_extended[DS_MAX_BUCKETS];
    uint32_t most_sequences;
    uint32_t n_widths, widths[DS_DRAFT_WIDTHS];    /* sequences: 1, 2, 3, 4, 6, .. */
    uint32_t n_lengths, lengths[DS_DRAFT_LENGTHS]; /* slots: 1, 2, 4, .., the block's */
    struct ds_graph *block_graphs[DS_DRAFT_WIDTHS][DS_DRAFT_LENGTHS];
    uint64_t scratch_bytes;
    struct ds_buffer *scratch; /* borrowed */
    /* What most sessions never use, there after ds_drafter_extend. */
    uint32_t extensions;
    struct ds_graph *extended[DS_DRAFT_WIDTHS][DS_DRAFT_LENGTHS];
    struct ds_buffer *sampled;      /* f32 [block_size * most_sequences, vocabulary]: the logits that drafts were drawn from, slot-major */
    struct ds_history own_history;  /* bridged; else the target's serves */
    struct ds_buffer *crossed;      /* bridged: `sampled` on the target's device */
    float *host_sampled;            /* bridged: one row of it on its way; owned */
    ds_token *following;       /* [rows] scratch for ds_drafter_context's caller; owned */
    float *confidence;         /* [slots * width], slot-major, after a drafting pass; owned */
    uint32_t drafting, width, slots; /* the drafting pass: its sequences, how many its graph has room for, and how many slots */
    struct ds_graph *drafting_graph, *extended_graph;
    /* The context pass: rows so far, and the last row of each sequence. */
    uint32_t context_rows, n_fed;
    struct ds_fed {
        int32_t sequence;
        uint32_t row;
    } *fed; /* [rows]; owned */
};

/* `target` must be planned. On failure *drafter holds nothing. */
ds_status ds_drafter_plan(struct ds_drafter *drafter, struct ds_draft_model *model, struct ds_target *target,
                          const struct ds_drafter_params *params, struct ds_error *err);
uint64_t ds_drafter_own_bytes(const struct ds_drafter *drafter);
/* As ds_target_allocate, which comes first. */
ds_status ds_drafter_allocate(struct ds_drafter *drafter, struct ds_buffer *scratch, struct ds_error *err);
void ds_drafter_release(struct ds_drafter *drafter); /* back to what was planned; before any ds_drafter_extend */
void ds_drafter_free(struct ds_drafter *drafter); /* accepts a zeroed struct */

/*
 * Outside the token loop, behind ds_target_extend_memory: extensions (enum ds_extension) for drafts. *drafted is where the target's pass
 * finds the logits that drafts were drawn from.
 */
ds_status ds_drafter_extend(struct ds_drafter *drafter, uint32_t extensions, struct ds_view *drafted, struct ds_error *err);
/* Behind ds_target_extend: joined passes (ds_drafter_joined_graph) that are extended as the target's are. */
ds_status ds_drafter_join_extended(struct ds_drafter *drafter, struct ds_error *err);
/* Where the histories of sequences lie that drafts look at. */
const struct ds_history *ds_drafter_history(const struct ds_drafter *drafter);

/*
 * Context: rows of the target's last run become context of their sequences, in one pass. Rows in between that were not added are passed
 * over. A sequence adds rows once in a pass.
 *
 * add: taps of rows row..row+n-1 are those of positions first, first+1, ..; pages for them must be reserved. `following`: the tokens at
 * positions first+1, first+2, .. [n]: a drafter in steps pairs them with the features.
 */
void ds_drafter_context_begin(struct ds_drafter *drafter);
void ds_drafter_context_add(struct ds_drafter *drafter, int32_t sequence, uint32_t first, uint32_t row, uint32_t n, const ds_token *following);
ds_status ds_drafter_context_run(struct ds_drafter *drafter, struct ds_error *err); /* nothing was added: nothing is done */
/*
 * Where launches count (a GPU that replays recordings) and one device has both models, a pass of the target may take all its rows in at once: one launch in the
 * place of two. Rows that are rejected afterwards leave keys and values behind the sequence's end, where nobody looks before they are written
 * again. The graph for ds_target_end_graph, NULL: there is none for a pass of so many rows and outputs; a pass that begins with
 * `outputs` == `rows` gives logits in the order of its rows. Then, in the place of ds_drafter_context_run: ds_drafter_context_joined.
 */
struct ds_graph *ds_drafter_joined_graph(const struct ds_drafter *drafter, uint32_t rows, uint32_t outputs, bool extended);
ds_status ds_drafter_context_joined(struct ds_drafter *drafter, struct ds_error *err);
/* All of it for rows 0..n_rows-1, of one sequence. */
ds_status ds_drafter_context(struct ds_drafter *drafter, int32_t sequence, uint32_t first, uint32_t n_rows, const ds_token *following,
                             struct ds_error *err);

/*
 * Drafting: the first `slots` (1 to g) of a block for each of `sequences` sequences (at most most_sequences), in one pass. Each is
 * set: its anchor at `position`, context of positions 0..position-1 being in, pages for position + block_rows positions reserved; and
 * how its drafts are drawn, slot by slot. A drafter in steps goes on from the last context row it took in, which must be that of position - 1.
 */
void ds_drafter_begin(struct ds_drafter *drafter, uint32_t sequences, uint32_t slots);
void ds_drafter_set(struct ds_drafter *drafter, uint32_t s, int32_t sequence, uint32_t position, int32_t anchor);
struct ds_sample_row *ds_drafter_sample(struct ds_drafter *drafter, uint32_t s, uint32_t slot);
/* The pass heeds in_adjust and methods: ds_drafter_adjust says where the former lies. Behind ds_drafter_begin. */
void ds_drafter_use_extended(struct ds_drafter *drafter);
struct ds_adjust_row *ds_drafter_adjust(struct ds_drafter *drafter, uint32_t s, uint32_t slot);
ds_status ds_drafter_run(struct ds_drafter *drafter, struct ds_error *err);
/*
 * Where the drafter is on the target's stream, drafts may go to the target without the host having seen them: begin_run instead of run, then
 * copy_tokens of the first n drafts of sequence s to `to` (i32 [n]), pass_on of all that the pass has found to `to` (ds_drafter_results_bytes),
 * and take, once that has been read.
 */
ds_status ds_drafter_begin_run(struct ds_drafter *drafter, struct ds_error *err);
uint64_t ds_drafter_results_bytes(const struct ds_draft_model *model, uint32_t sequences);
ds_status ds_drafter_copy_tokens(const struct ds_drafter *drafter, uint32_t s, uint32_t n, struct ds_slice to, struct ds_error *err);
ds_status ds_drafter_pass_on(const struct ds_drafter *drafter, struct ds_slice to, struct ds_error *err);
void ds_drafter_take(struct ds_drafter *drafter, const uint8_t *results);
/* What came of it: the draft of a slot, -1 where its logits were not finite, and its confidence, before the sigmoid. */
ds_token ds_drafter_token(const struct ds_drafter *drafter, uint32_t s, uint32_t slot);
float ds_drafter_confidence(const struct ds_drafter *drafter, uint32_t s, uint32_t slot);
/* The row of `sampled` that a slot's draft of the last pass was drawn from. */
uint32_t ds_drafter_sampled_row(const struct ds_drafter *drafter, uint32_t s, uint32_t slot);
/* Bridged: takes the first `slots` such rows of sequence s over to the target's device. */
ds_status ds_drafter_cross(struct ds_drafter *drafter, uint32_t s, uint32_t slots, struct ds_error *err);
/* What a draft of so many slots costs as much as: the least number of at least `slots` that there is a graph for. */
uint32_t ds_drafter_length(const struct ds_drafter *drafter, uint32_t slots);
/* All of it for one sequence; row k of `sample` says how draft k is drawn. */
ds_status ds_drafter_block(struct ds_drafter *drafter, int32_t sequence, uint32_t position, int32_t anchor,
                           const struct ds_sample_row *sample, uint32_t slots, struct ds_error *err);

#endif
