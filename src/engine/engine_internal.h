/* What the files of the engine share. */
#ifndef DSPARK_ENGINE_ENGINE_INTERNAL_H
#define DSPARK_ENGINE_ENGINE_INTERNAL_H

#include "base/mix.h"
#include "ckpt/manifest.h"
#include "spec/schedule.h"
#include "spec/spec.h"
#include "text/chat.h"

/* A device in use, with all that lives on it. Target and drafter share one when they name the same device. */
struct ds_placement {
    char *name;
    struct ds_device *device; /* NULL: it turned out not to be needed */
    struct ds_stream *stream;
    struct ds_loader *loader;
    uint64_t scratch_bytes; /* planned: the largest graph's */
    uint64_t planned_bytes; /* all that is planned there */
    uint64_t most_bytes;    /* that may be; 0: unknown */
    struct ds_buffer *scratch;
};
enum { DS_MOST_PLACEMENTS = DS_MOST_STAGES + 1 };

/* How the target's layers are shared out (place.c). */
struct ds_sharing {
    uint32_t n;                      /* the target may lie on placements[0..n), in this order */
    uint32_t layers[DS_MOST_STAGES]; /* on each of them */
    bool given[DS_MOST_STAGES];      /* the user said how many: none is moved */
    uint32_t n_stages, places[DS_MOST_STAGES]; /* the placement of each stage */
    bool moved;                      /* layers were moved for lack of memory */
    char text[512];                  /* "cuda:0=24,cpu=12", or one name where the target is not cut */
};

/* What scheduling knows; guarded by the engine's lock. */
struct ds_scheduling {
    char *cache;                    /* folder of measured costs, owned; NULL: none is kept */
    float *temperature;             /* [block_size] of confidences, owned; NULL: not calibrated */
    uint64_t shortlist;             /* hash of the drafter's shortlist; 0: none */
    bool known;                     /* `learned` holds a measured table */
    bool changed;                   /* since it was stored */
    bool remeasured;                /* once is enough: a table that is wrong again is corrected by averages alone */
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
    struct ds_placement placements[DS_MOST_PLACEMENTS]; /* [0]: where the target is at home */
    uint32_t n_placements, draft_place;
    struct ds_sharing sharing;
    struct ds_pager pager;
    struct ds_prefix prefix;
    struct ds_target target;
    struct ds_drafter drafter;
    struct ds_spec spec;
    struct ds_scheduling scheduling;
    struct ds_os_mutex *lock; /* device work, pager, `state`, `scheduling` */
    uint32_t threads;
    uint32_t positions, rows; /* of a sequence, the last draft's included; of a pass */
    uint64_t weight_bytes, kv_bytes, scratch_bytes, budget_bytes;
    enum { DS_ENGINE_OPEN, DS_ENGINE_PREPARING, DS_ENGINE_PREPARED } state;
};

/* --- where models lie: place.c, plan.c, prepare.c --- */

/* Opens the devices that the parameters name, and gives each its first share of the layers. */
ds_status ds_place_models(ds_engine *engine, struct ds_error *err);
/* Makes stages of the shares; where layers may not be parted, a stage begins earlier. DS_ERROR_UNSUPPORTED where the user's numbers part them. */
ds_status ds_sharing_settle(ds_engine *engine, struct ds_error *err);
/* Moves so many layers to the next device that takes what is left over. False: there is none, or none to move. */
bool ds_sharing_move(ds_engine *engine, uint32_t place, uint32_t layers);
bool ds_placement_is_used(const ds_engine *engine, uint32_t place);
void ds_placement_close(struct ds_placement *placement);

/* Sizes of everything, and how many layers each device has room for. Nothing is allocated on a device. */
ds_status ds_plan_engine(ds_engine *engine, struct ds_error *err);
/* All over again with the shares as they are now. */
ds_status ds_plan_memory(ds_engine *engine, struct ds_error *err);
void ds_plan_tell(const ds_engine *engine);

struct ds_session {
    ds_engine *engine;
    ds_session_params params;
    struct ds_sequence sequence;
    atomic_bool cancelled;
    bool running; /* inside a call that may call back: what changes the session is refused */
    ds_batch *batch; /* that it is in; NULL: none */
    ds_round_fn trace;
    void *trace_user;
    struct ds_logprobs *logprobs; /* owned; NULL: nobody has asked for them */
    ds_text_stream *until; /* the text since the last append, rewind or stop, while there are stop strings; NULL: there are none */
    ds_stats stats;
    bool paced;          /* `pace` has started */
    struct ds_pace pace; /* of DS_SPEC_AUTO */
};

/* Before a call changes the session: DS_ERROR_ARGUMENT from a callback of the session's own. */
ds_status ds_session_require_idle(const ds_session *session, struct ds_error *err);

/* --- shaping.c --- */

ds_status ds_shaping_check(const ds_engine *engine, const ds_session_params *params, struct ds_error *err);
/* Penalties, biases and the form of acceptance become the sequence's, and the engine can run them. The session has its slot. */
ds_status ds_session_shape(ds_session *session, const ds_session_params *params, struct ds_error *err);
/* Stop strings and log-probabilities become the session's. */
ds_status ds_session_listen(ds_session *session, const ds_session_params *params, struct ds_error *err);
/* Text that comes from now on is not joined to what came before. */
void ds_session_begin_text(ds_session *session);
/* The i-th token of a turn was committed: tells its log-probabilities. */
void ds_session_tell_logprobs(const ds_session *session, uint32_t i);
/* True: the token, now committed, completed a stop string. */
bool ds_session_meets_stop(ds_session *session, ds_token token);
/* Takes the lock. `extensions`: enum ds_extension; memory and graphs that most sessions never use. */
ds_status ds_engine_extend(ds_engine *engine, uint32_t extensions, struct ds_error *err);

/* --- generating: generate.c, step.c --- */

bool ds_session_speculates(const ds_session *session);
/* It speculates, and the scheduler has not given the drafter's context up. */
bool ds_session_follows(const ds_session *session);
/* Cache entries of the last token, and where the drafter's context follows those it has none for, will be made again. */
void ds_session_align(ds_session *session);
/* Before known tokens go through the target: the drafter's context reaches as far as the cache. */
ds_status ds_session_feed_all(ds_session *session, struct ds_error *err);

/* An answer in the making. */
struct ds_generation {
    ds_session *session;
    size_t left; /* tokens */
    ds_token_fn fn;
    void *user;
    ds_stop stop;  /* DS_STOP_NONE: it goes on */
    uint32_t rows; /* known tokens that may go through the target in the next step */
    enum ds_pace_step step; /* of the step under way, where the scheduler decides */
    bool beside_prompts;    /* its pass had rows of prompts */
};
/* Marks nothing as running: that is the caller's. *g is over at once (stop) where there is nothing to generate. */
ds_status ds_generation_begin(struct ds_generation *g, struct ds_error *err);
/* Also after a failure. */
void ds_generation_end(struct ds_generation *g);
/* True: its next step is a round. False: known tokens wait to go through the target. */
bool ds_generation_decodes(const struct ds_generation *g);
bool ds_generation_is_paced(const struct ds_generation *g);
/* Drafts that the rest of the answer has room for, beside the target's own token. */
uint32_t ds_generation_room(const struct ds_generation *g);
/* A turn of the step under way is over: commits, counts, tells the callbacks. `seconds`: of the whole step. */
void ds_generation_take(struct ds_generation *g, const struct ds_turn *turn, double seconds);

enum { DS_MOST_TURNS = DS_SCHEDULE_MOST_REQUESTS };
/*
 * One step of `n` generations, none of them over: rounds of those that decode and up to `rows` known tokens of the others, in one pass.
 * turns [n] is scratch; turns[i].status says what became of generation i alone, DS_ERROR_CANCELLED included. The status returned is of
 * what all share. Anchors and known tokens together must fit into a pass.
 */
ds_status ds_generations_step(ds_engine *engine, struct ds_generation *const *list, struct ds_turn *turns, uint32_t n, struct ds_error *err);

/* The session is about to be destroyed. True: it has a part in the step under way, whose end destroys it. */
bool ds_batch_forget(ds_batch *batch, ds_session *session);

const struct ds_tokenizer *ds_engine_tokenizer(const ds_engine *engine);
const struct ds_chat_template *ds_engine_chat(const ds_engine *engine);

/* Over names, types, shapes and some bytes of every tensor: tells checkpoints apart, proves nothing to an attacker. 0: no checkpoint. */
uint64_t ds_fingerprint(const struct ds_ckpt *ckpt);
/* As files and messages have it: sixteen hexadecimal digits. */
enum { DS_FINGERPRINT_TEXT = 17 };
void ds_fingerprint_text(uint64_t fingerprint, char text[DS_FINGERPRINT_TEXT]);

/*
 * Makes the costs of passes and drafts known: from the cache, else by measuring them (in seconds at most; behind what the sequence's
 * caches hold, which stays). Takes the lock.
 */
ds_status ds_engine_know_costs(ds_engine *engine, const struct ds_sequence *sequence, struct ds_error *err);

/* The cache of measured tables (cost_file.c). False: there is none for this engine, or it is not to be used; why is logged. */
bool ds_costs_load(const ds_engine *engine, struct ds_pace_learned *out);
/* What `scheduling` knows. A failure is a warning in the log. */
void ds_costs_store(const ds_engine *engine);
void ds_costs_forget(const ds_engine *engine);
/* The part of the file that is no table (learned.c). NULL: memory is out. */
struct json_t *ds_learned_to_json(const ds_engine *engine);
/* False: it makes no sense, and *learned, which holds the table, is as it was. */
bool ds_learned_from_json(const ds_engine *engine, const struct json_t *root, struct ds_pace_learned *learned);
enum ds_confidence_source ds_confidence_source_of(const ds_engine *engine);

/* A kind of file that lies beside the drafter (beside.c): NAME in its folder, or FILE.NAME beside its file. */
struct ds_beside {
    const char *what, *name, *format; /* in messages; of the file; its member "format" */
    size_t most_bytes;
    /* Takes what the file of this format, made for this drafter, says. */
    ds_status (*use)(ds_engine *engine, const struct json_t *root, struct ds_error *err);
};
/* Nothing where there is no such file; one that does not fit is refused with a warning, and only memory that is out is an error. */
ds_status ds_beside_open(ds_engine *engine, const struct ds_beside *kind, struct ds_error *err);
/* Takes over `members` (NULL: memory is out); `flags` of json_dumps. *path: where it went, malloc'ed. */
ds_status ds_beside_save(const ds_engine *engine, const struct ds_beside *kind, struct json_t *members, size_t flags, char **path, struct ds_error *err);

/* Reads the calibration beside the drafter, if there is one; what does not fit is refused with a warning. */
ds_status ds_calibration_open(ds_engine *engine, struct ds_error *err);
/* The same for the shortlist; before weights are asked for. */
ds_status ds_shortlist_open(ds_engine *engine, struct ds_error *err);

/* The text and a newline, written beside and renamed. */
ds_status ds_write_text_file(const char *path, const char *text, struct ds_error *err);

/* Public calls: `err` may be NULL there. */
#define DS_PUBLIC_ERROR(err)           \
    struct ds_error ds_unused_error;   \
    if (!(err)) (err) = &ds_unused_error

#endif
