/* What the files of the engine share. */
#ifndef DSPARK_ENGINE_ENGINE_INTERNAL_H
#define DSPARK_ENGINE_ENGINE_INTERNAL_H

#include "ckpt/manifest.h"
#include "spec/spec.h"
#include "text/chat.h"

/* A device in use, with all that lives on it. Target and drafter share one when they name the same device. */
struct ds_placement {
    char *name;
    struct ds_device *device;
    struct ds_stream *stream;
    struct ds_loader *loader;
    uint64_t scratch_bytes; /* planned: the largest graph's */
    struct ds_buffer *scratch;
};

/* What scheduling knows; guarded by the engine's lock. */
struct ds_scheduling {
    char *cache;                    /* folder of measured costs, owned; NULL: none is kept */
    float *temperature;             /* [block_size] of confidences, owned; NULL: not calibrated */
    bool known;                     /* `learned` holds a measured table */
    struct ds_pace_learned learned; /* of the session that generated last */
};

struct ds_engine {
    ds_engine_params params; /* strings are not kept: see the placements and checkpoints */
    struct ds_log log;
    struct ds_ckpt *target_ckpt, *draft_ckpt;
    struct ds_guard *guards[2]; /* of the two checkpoints; NULL: nothing to verify */
    struct ds_model *model;
    struct ds_draft_model *draft_model; /* NULL: no drafter */
    struct ds_tokenizer *tokenizer;     /* NULL: none */
    const struct ds_chat_template *chat;
    struct ds_placement placements[2]; /* [0] the target's */
    uint32_t n_placements;
    struct ds_pager pager;
    struct ds_target target;
    struct ds_drafter drafter;
    struct ds_spec spec;
    struct ds_scheduling scheduling;
    struct ds_os_mutex *lock; /* device work, pager, `state`, `scheduling` */
    uint32_t threads;
    uint64_t weight_bytes, kv_bytes, scratch_bytes, budget_bytes;
    enum { DS_ENGINE_OPEN, DS_ENGINE_PREPARING, DS_ENGINE_PREPARED } state;
};

struct ds_session {
    ds_engine *engine;
    ds_session_params params;
    struct ds_sequence sequence;
    atomic_bool cancelled;
    bool running; /* inside a call that may call back: what changes the session is refused */
    ds_round_fn trace;
    void *trace_user;
    ds_stats stats;
    bool paced;          /* `pace` has started */
    struct ds_pace pace; /* of DS_SPEC_AUTO */
};

/* Before a call changes the session: DS_ERROR_ARGUMENT from a callback of the session's own. */
ds_status ds_session_require_idle(const ds_session *session, struct ds_error *err);

const struct ds_tokenizer *ds_engine_tokenizer(const ds_engine *engine);
const struct ds_chat_template *ds_engine_chat(const ds_engine *engine);

/* FNV-1a. */
#define DS_HASH_START 0xcbf29ce484222325u
uint64_t ds_hash_mix(uint64_t hash, const void *data, size_t bytes);
/* Over names, types, shapes and some bytes of every tensor: tells checkpoints apart, proves nothing to an attacker. 0: no checkpoint. */
uint64_t ds_fingerprint(const struct ds_ckpt *ckpt);

/*
 * Makes the costs of passes and drafts known: from the cache, else by measuring them (in seconds at most; behind what the sequence's
 * caches hold, which stays). Takes the lock.
 */
ds_status ds_engine_know_costs(ds_engine *engine, const struct ds_sequence *sequence, struct ds_error *err);

/* The cache of measured tables (cost_file.c). False: there is none for this engine, or it is not to be used; why is logged. */
bool ds_costs_load(const ds_engine *engine, struct ds_cost_table *out);
/* A failure is a warning in the log. */
void ds_costs_store(const ds_engine *engine, const struct ds_cost_table *table);
void ds_costs_forget(const ds_engine *engine);

/* Reads the calibration beside the drafter, if there is one; what does not fit is refused with a warning. */
ds_status ds_calibration_open(ds_engine *engine, struct ds_error *err);

/* The text and a newline, written beside and renamed. */
ds_status ds_write_text_file(const char *path, const char *text, struct ds_error *err);

/* Public calls: `err` may be NULL there. */
#define DS_PUBLIC_ERROR(err)           \
    struct ds_error ds_unused_error;   \
    if (!(err)) (err) = &ds_unused_error

#endif
