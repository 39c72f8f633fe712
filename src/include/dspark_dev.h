/*
 * For people who port models: tensors, hidden states, conversion, device self-test. Unstable; everything here may change
 * with any release. Programs that only want text use dspark.h.
 */
#ifndef DSPARK_DEV_H
#define DSPARK_DEV_H

#include "dspark.h"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Runs `tokens` through the target alone, from position 0, in the session (whose sequence they become), and hands out f32
 * rows. `logits` [count or 1, vocabulary] and each of `hidden` [layers + 1][count or 1, hidden_size] in Hugging Face's
 * convention (0: embedding output; l: output of layer l-1; last: after the final norm). `last_only`: the last row alone.
 * NULL: not wanted.
 */
DS_API ds_status ds_dev_forward(ds_session *session, const ds_token *tokens, size_t count, bool last_only, float *logits,
                                float *const *hidden, struct ds_error *err);

/*
 * --- measurements: what `dspark bench` is made of ---
 *
 * A measured pass is what a verification runs: `rows` consecutive positions, the first being the sequence's last token, logits and
 * a token for the last `outputs` of them (1 to rows: a verification needs all, the last piece of a prompt one). The sequence is as after ds_session_generate and stays as it is. Times are of one run and hold whatever
 * else the machine did meanwhile: repeat, and take the median. DS_ERROR_ARGUMENT for a session that has generated nothing yet;
 * DS_ERROR_LIMIT for rows that its context or a pass cannot hold.
 */
DS_API ds_status ds_dev_time_pass(ds_session *session, uint32_t rows, uint32_t outputs, double *seconds, struct ds_error *err);

/* Drafting of one block behind the sequence's last token. DS_ERROR_ARGUMENT for a session that does not speculate. */
DS_API ds_status ds_dev_time_draft(ds_session *session, double *seconds, struct ds_error *err);

/* Of that, what grows with the drafter's vocabulary: the head and the sequential head, run op by op. */
DS_API ds_status ds_dev_time_draft_vocabulary(ds_session *session, double *seconds, struct ds_error *err);
/* Tokens that are drafted at all: the target's vocabulary, a reduced one, or a shortlist. 0 without a drafter. */
DS_API uint32_t ds_dev_draft_vocabulary(const ds_engine *engine);

/*
 * What DS_SPEC_AUTO reckons with: measured now, in seconds at most, unless it is known or lies in ds_engine_params.cache; corrected by
 * what ran since. Times in seconds, behind `context` positions. DS_ERROR_ARGUMENT for a session that has generated nothing yet or does
 * not speculate; DS_ERROR_LIMIT where its context has no room to measure.
 */
typedef struct ds_dev_costs {
    uint32_t context, rows; /* of a pass at most */
    double pass[65];        /* [rows + 1], by rows; [0]: 0 */
    double draft[65];       /* [rows], by slots; [0]: 0 */
    double feed[65];        /* [rows + 1]: taking so many positions in as context */
    double spread;          /* how much longer the middle of several runs took than the fastest: above 1.25 the machine was busy */
    bool parked;            /* as things stand, answers begin without drafting */
} ds_dev_costs;
DS_API ds_status ds_dev_measure_costs(ds_session *session, ds_dev_costs *out, struct ds_error *err);

/*
 * What a pass of one row has to do, and what the device could do at most, measured now by as many threads as the engine has. No
 * pass over w rows can take less than max(weight_bytes / read, w * macs / peak) seconds.
 */
typedef struct ds_dev_roofline {
    const char *isa;       /* instruction set of the kernels: "avx512vnni"; static */
    const char *type;      /* of most of the weights, by bytes: "q4_k"; static */
    uint64_t weight_bytes; /* of the linears, as they lie on the device */
    uint64_t macs;         /* multiply-adds of the linears, a row */
    double read;           /* bytes a second */
    double peak;           /* multiply-adds a second, in the mix of arithmetic that the linears use */
} ds_dev_roofline;
/* Takes about half a second, and 512 MiB of memory while it runs. DS_ERROR_UNSUPPORTED for a device without such a measurement. */
DS_API ds_status ds_dev_measure_roofline(ds_engine *engine, ds_dev_roofline *out, struct ds_error *err);

/* The share of one kind of op in a pass. Linears of one place in the layers and one type are one kind. */
typedef struct ds_dev_op_time {
    const char *name;      /* "gate", "head"; of what is no linear, the op's: "attention"; static */
    const char *type;      /* of a linear's weights; NULL for other ops; static */
    uint32_t calls;
    double seconds;        /* all calls together */
    uint64_t weight_bytes, macs;
} ds_dev_op_time;
enum { DS_DEV_MOST_OPS = 64 };
typedef struct ds_dev_profile {
    size_t count;
    ds_dev_op_time ops[DS_DEV_MOST_OPS]; /* in the order in which they first appear */
} ds_dev_profile;
/* Runs a pass of a verification op by op, each waited for: together they take a little longer than the pass. */
DS_API ds_status ds_dev_profile_pass(ds_session *session, uint32_t rows, ds_dev_profile *out, struct ds_error *err);

/*
 * --- calibration: what `dspark calibrate` is made of ---
 *
 * Outcomes of rounds (confidences and how many drafts were accepted; no tokens) are collected by a session's trace and fitted: one
 * temperature a slot, by sequential temperature scaling (docs/speculation.md). Saved beside a drafter with a confidence head, they are used
 * by every engine opened later. Other drafters' confidences are of the probability they give their own drafts (ds_round), learned as they go.
 */
typedef struct ds_dev_outcomes ds_dev_outcomes; /* one thread at a time */
/* DS_ERROR_UNSUPPORTED without a drafter. */
DS_API ds_status ds_dev_outcomes_create(const ds_engine *engine, ds_dev_outcomes **out, struct ds_error *err);
DS_API void ds_dev_outcomes_destroy(ds_dev_outcomes *outcomes); /* accepts NULL */
/* A ds_round_fn; rounds that verified nothing are left out. */
DS_API void ds_dev_outcomes_add(void *outcomes, const ds_round *round);
DS_API size_t ds_dev_outcomes_count(const ds_dev_outcomes *outcomes);
/* True: the confidences are a head's output. False: the drafter has none, and they are of the probability that it gives its own drafts. */
DS_API bool ds_dev_outcomes_from_head(const ds_dev_outcomes *outcomes);
/*
 * Keeps outcomes of real use for a later calibration, of a user who asked for it: they become one line behind those that the file has
 * (made when there is none; docs/formats.md). No tokens, nothing of the text. Nothing is written when there are none. DS_ERROR_IO.
 */
DS_API ds_status ds_dev_outcomes_save(const ds_dev_outcomes *outcomes, const char *path, struct ds_error *err);
/*
 * Adds what such a file has: its lines in turns to one and to the other, so that a fit can be judged by answers it has not seen.
 * DS_ERROR_MISMATCH when it was recorded with another drafter, DS_ERROR_FORMAT, DS_ERROR_IO, with the line: then neither is changed.
 */
DS_API ds_status ds_dev_outcomes_load(ds_dev_outcomes *fit, ds_dev_outcomes *held, const char *path, struct ds_error *err);

/* `temperatures` [block_size]. DS_ERROR_ARGUMENT when there are no outcomes. */
DS_API ds_status ds_dev_calibration_fit(const ds_dev_outcomes *outcomes, float *temperatures, struct ds_error *err);

/* Of the forecast "this draft and all before it are accepted". */
typedef struct ds_dev_slot_quality {
    uint64_t samples;
    double forecast, observed; /* means */
    double ece;                /* expected calibration error, 15 bins */
    double ece_chance;         /* what a forecast without any error would show with so many samples */
    double auc;                /* NaN where all were accepted, or none */
} ds_dev_slot_quality;
enum { DS_DEV_MOST_SLOTS = 64, DS_DEV_BINS = 15 };
typedef struct ds_dev_quality {
    uint32_t slots;
    ds_dev_slot_quality slot[DS_DEV_MOST_SLOTS], all;
    struct {
        uint64_t samples;
        double forecast, observed;
    } bin[DS_DEV_BINS]; /* of equal width, all slots together */
} ds_dev_quality;
/* `temperatures` NULL: the confidences as the drafter gives them. */
DS_API ds_status ds_dev_calibration_quality(const ds_dev_outcomes *outcomes, const float *temperatures, ds_dev_quality *out, struct ds_error *err);

/*
 * Writes the file beside the drafter; *path (freed with ds_free) is its name. `rounds` is kept for the reader. DS_ERROR_UNSUPPORTED for a drafter
 * without a confidence head: its probability needs a slope and shifts, which engines learn from outcomes.
 */
DS_API ds_status ds_dev_calibration_save(const ds_engine *engine, const float *temperatures, uint64_t rounds, char **path, struct ds_error *err);

/*
 * Writes a shortlist beside the drafter: the tokens, different ones, that engines opened later draft at all; *path (freed with ds_free) is the
 * file's name. It changes how much is accepted and what a draft costs, never the output.
 */
DS_API ds_status ds_dev_shortlist_save(const ds_engine *engine, const ds_token *tokens, size_t count, char **path, struct ds_error *err);

/* Most memory this process has held, in bytes; 0: unknown. */
DS_API uint64_t ds_dev_peak_rss(void);

/*
 * --- conversion ---
 * A folder with config.json and *.safetensors, or a GGUF file, becomes a GGUF file: every target and drafter that can be run.
 * Drafters also become folders again. The output appears under its name when it is complete. What it holds: docs/formats.md. Its bytes do not depend on `threads`.
 */
typedef struct ds_convert_params {
    size_t size;
    const char *input, *output;
    const char *type;     /* "f32", "bf16", "f16", "q8_0", "q4_0", "q4_k", "q5_k", "q6_k", "q4_k_m" */
    const char *target;   /* of a drafter: brings the tokenizer, and tables equal to the drafter's, which are then left out; NULL: none */
    bool drop_embeddings; /* of a drafter: leave its embedding and head out; it will use its target's */
    const char *pre;      /* GGUF's name for how the tokenizer splits text; NULL: recognised, or DS_ERROR_UNSUPPORTED */
    uint32_t threads;     /* 0: one per processor this process may use */
    ds_log_fn log;        /* NULL: silent */
    void *log_user;
    ds_log_level log_level;
    const char *layout;    /* "gguf" (NULL); "packed": the same with matrices as device cpu keeps them, which only dspark reads; of a drafter
                              also a folder `output` as "deepspec" or "speculators" write it, of type f32, bf16 or f16 */
    bool require_manifest; /* of the input, as in ds_engine_params */
    const char *trust;
} ds_convert_params;
DS_API ds_convert_params ds_convert_defaults(void);

typedef struct ds_convert_stats {
    size_t size; /* set by the caller */
    uint64_t tensors, elements;
    uint64_t source_bytes, bytes; /* of tensor data read and written */
} ds_convert_stats;
/* `progress` (NULL: none) is called after each chunk on the caller's thread; false: DS_ERROR_CANCELLED. `stats` may be NULL. */
DS_API ds_status ds_convert(const ds_convert_params *params, ds_progress_fn progress, void *user, ds_convert_stats *stats, struct ds_error *err);

#ifdef __cplusplus
}
#endif

#endif
