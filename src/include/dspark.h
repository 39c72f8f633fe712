/*
 * dspark: speculative decoding on any device, with the same tokens on all of them.
 *
 *   engine   a target model, an optional drafter, the devices they live on. Any thread may call it.
 *   session  one conversation: its tokens, its cache, its sampling. One thread at a time; different sessions in parallel.
 *   batch    many sessions that generate together, step by step, each pass of the models serving all of them.
 *
 * Promises this interface keeps:
 *   - The tokens of a session depend on the checkpoint, the prompt, the sampling parameters and the seed, and on nothing
 *     else: not on the device, the number of threads, the batch, the drafter or how many drafts are verified.
 *   - No global state, no output, no exit or abort on bad input. Messages go to the log function of the engine.
 *   - A callback is never called while a lock is held; it may call any function of this header except the destroy of
 *     the object it serves. What would change the session or engine in the middle of its call is refused (DS_ERROR_ARGUMENT).
 *
 * Errors. Functions that can fail return a ds_status and fill `err` (NULL is allowed) with a message that names what was
 * expected, what was found and what can be done. On failure every `out` is set to NULL or left empty, and the object
 * called is as before the call unless stated otherwise.
 *
 * Structs of parameters are versioned by their first member: set `size` to sizeof the struct, or start from the
 * *_defaults function, which does. New members are appended and 0 keeps the old meaning.
 */
#ifndef DSPARK_H
#define DSPARK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define DS_API __attribute__((visibility("default")))
#else
#define DS_API
#endif

#define DS_VERSION_MAJOR 0
#define DS_VERSION_MINOR 1
#define DS_VERSION_PATCH 0

/* "0.1.0": of the library in use, which may differ from the header's. */
DS_API const char *ds_version(void);

typedef enum ds_status {
    DS_OK = 0,
    DS_ERROR_ARGUMENT,    /* the caller passed something outside what is documented */
    DS_ERROR_MEMORY,      /* host or device memory is out, or the budget does not allow it */
    DS_ERROR_IO,          /* a file could not be opened, read or written */
    DS_ERROR_FORMAT,      /* a file is malformed or contradicts itself */
    DS_ERROR_UNSUPPORTED, /* well-formed, but this build or device cannot do it */
    DS_ERROR_MISMATCH,    /* target and drafter, or session file and engine, do not belong together */
    DS_ERROR_DEVICE,      /* a device is absent, lost, or fails the numerics contract */
    DS_ERROR_LIMIT,       /* the context of the session is full, or the cache's pages are all in use */
    DS_ERROR_NUMERIC,     /* the model gave a non-finite logit; the sequence has ended */
    DS_ERROR_CANCELLED,   /* ds_cancel was seen */
    DS_ERROR_INTERNAL     /* a bug of ours; please report the message */
} ds_status;

struct ds_error {
    ds_status status;
    char message[1024]; /* UTF-8, NUL-terminated, without a newline */
};
DS_API const char *ds_status_name(ds_status status);

/* --- log --- */

typedef enum ds_log_level {
    DS_LOG_ERROR = 0, /* a call failed */
    DS_LOG_WARNING,   /* it works, but slower or other than asked */
    DS_LOG_INFO,      /* once an engine */
    DS_LOG_DEBUG,     /* once a pass */
    DS_LOG_TRACE      /* once an op */
} ds_log_level;
/* May be called from any thread, several at once. */
typedef void (*ds_log_fn)(void *user, ds_log_level level, const char *message);

/* --- engine --- */

typedef struct ds_engine ds_engine;
typedef struct ds_session ds_session;

typedef enum ds_kv_type { DS_KV_F16 = 0, DS_KV_F32 } ds_kv_type;
typedef enum ds_weights { DS_WEIGHTS_FILE = 0, /* as stored */ DS_WEIGHTS_F32 /* widened when loaded, for comparisons */ } ds_weights;

/*
 * The numerics contract (docs/numerics.md). Fast gives it up: a device that fails its self-test is used where it is named, and devices that have variants
 * of kernels which break the contract for speed use them (ds_device_info.fast says which). Tokens may then be other ones than elsewhere, and may change
 * with the number of rows in a pass, so with a drafter and with batches, too. Each use is told to the log as a warning.
 */
typedef enum ds_numerics { DS_NUMERICS_EXACT = 0, DS_NUMERICS_FAST } ds_numerics;

typedef struct ds_engine_params {
    size_t size;
    const char *target;       /* a GGUF file, or a folder with config.json, *.safetensors and tokenizer.json */
    const char *drafter;      /* NULL: none */
    /*
     * Where the target lies: "cuda:0", "hip:0", "vulkan:0", "cpu", "ref"; `dspark devices` lists the names. Several names divided by commas cut it by
     * layers, in their order: "cuda:0=24,cpu" has the first 24 layers on cuda:0 and the others on cpu. The first device also has embedding, head and
     * sampling, so name the fastest first. Behind a name may stand a number of layers, which is kept; or memory ("cuda:0=6G", K M G T in powers of
     * 1024), of which no more is used. A device without a number of layers takes as many of those that are left as it has room for, in the order
     * named; where the system turns out to have less, prepare moves layers on to the next such device. How they lie is logged, as a warning when some
     * had to move, and is what ds_engine_info.device says. A device left without layers is not used. NULL: the best device, and "cpu" for what it has
     * no room for. No token depends on any of this.
     *
     * DS_ERROR_DEVICE for a name that is not known. DS_ERROR_ARGUMENT for a list that cannot be read, more than 8 devices, a device named twice, or
     * numbers of layers that are more than the model has or leave some out. DS_ERROR_UNSUPPORTED for a number that parts layers from those whose keys
     * and values they read (Gemma 4 E2B, E4B; without a number the cut moves). DS_ERROR_MEMORY for what fits nowhere; one name alone spills nowhere.
     */
    const char *device;
    const char *draft_device; /* one name; NULL: the first of `device` */
    uint32_t threads;         /* CPU threads; 0: one per processor this process may use */
    uint32_t context;         /* positions a session may hold; 0: the model's own, at most 4096 unless asked for */
    uint32_t max_sessions;    /* sessions alive at once, for the size of the cache; 0: 1 */
    uint32_t max_rows;        /* rows in one pass (prefill chunk); 0: 256 */
    ds_kv_type kv;
    ds_weights weights;
    uint64_t memory_budget;   /* bytes over all devices, mapped weights included; 0: what the machine has. It moves no layers */
    ds_log_fn log;            /* NULL: silent */
    void *log_user;
    ds_log_level log_level;
    const char *modules;      /* the one folder with modules (dspark_cuda.so, ...); NULL: beside the library, and the compiled-in one */
    /*
     * A manifest beside a checkpoint (docs/formats.md) is verified while the weights are read; ds_engine_prepare fails with
     * DS_ERROR_MISMATCH, naming the tensor, when something was changed.
     */
    bool require_manifest;    /* refuse checkpoints without a manifest */
    const char *trust;        /* refuse what is not signed by this key: 64 hexadecimal digits, or a file of public keys; NULL: any signature */
    const char *chat_template; /* "chatml", ..., in place of the one recognised in the checkpoint (docs/cli.md lists them); NULL: that one */
    const char *cache;        /* folder for what was measured on this machine, made when needed; NULL: nothing is kept */
    /*
     * Positions that the cache of all sessions together holds; 0: max_sessions * context, so that every session can be full. With fewer,
     * memory follows what sessions really use: a batch lets sessions wait, others fail with DS_ERROR_LIMIT, when all is in use.
     */
    uint64_t kv_positions;
    /*
     * Prefix cache: at most so many positions of sequences that have been computed are kept, the drafter's context included, and shared with
     * sequences that begin alike, which then start behind them. Least recently used pages go first, and when sessions need them. Their
     * memory comes on top of the sessions' (with kv_positions: out of it). 0: none, because it takes memory that a program with one
     * conversation, or without common beginnings, has no use for. It changes no token.
     */
    uint64_t prefix_positions;
    /*
     * A slot of a DSpark drafter's block drafts one of so many tokens, those with the greatest logits before the sequential (Markov) head, which is
     * then applied to these alone instead of to the whole vocabulary: cheaper drafts, a little worse (docs/speculation.md has both measured). It
     * changes what is drafted and no greedy or coupled token; with DS_REJECTION a draft is drawn, and accepted, by the restricted distribution. 0, or
     * as many as the drafter's vocabulary has: all. DS_ERROR_ARGUMENT for a drafter without such a head.
     */
    uint32_t draft_top_k;
    ds_numerics numerics;
} ds_engine_params;
DS_API ds_engine_params ds_engine_defaults(void);

/*
 * Opens the files: metadata, tokenizer, mapping, all checks, the memory plan. Takes a second at most when the files are
 * in the page cache. Strings of `params` are copied. DS_ERROR_MEMORY when the plan exceeds the budget: nothing was allocated.
 */
DS_API ds_status ds_engine_open(const ds_engine_params *params, ds_engine **out, struct ds_error *err);

/* done and total in bytes of weights; return false to give up (DS_ERROR_CANCELLED). */
typedef bool (*ds_progress_fn)(void *user, uint64_t done, uint64_t total);

/*
 * Places the weights on their devices and allocates caches: the long step. Needed once before the first session; a second
 * call returns DS_OK at once. After a failure, which leaves no memory taken on a device, it may be called again.
 */
DS_API ds_status ds_engine_prepare(ds_engine *engine, ds_progress_fn progress, void *user, struct ds_error *err);

/* All sessions must be destroyed before. Accepts NULL. */
DS_API void ds_engine_destroy(ds_engine *engine);

typedef struct ds_engine_info {
    size_t size; /* set by the caller, for ds_engine_get_info */
    const char *architecture;         /* "qwen3"; strings live as long as the engine */
    const char *device, *draft_device; /* `device` of a target that is cut: "cuda:0=24,cpu=12"; final after ds_engine_prepare. draft_device is NULL without a
                                          drafter */
    const char *drafter;              /* "dspark"; NULL without a drafter */
    uint32_t vocabulary;              /* rows of the output head */
    uint32_t context;                 /* positions a session may hold */
    uint32_t block_size;              /* drafts a round proposes; 0 without a drafter */
    uint32_t hidden_size, layers;
    uint32_t threads;
    bool has_tokenizer;
    bool has_chat_template;
    uint64_t weight_bytes, kv_bytes, scratch_bytes; /* as planned, over all devices */
    uint64_t budget_bytes;
    const char *fast;                 /* what breaks the numerics contract on the first device where something does: variants in use, or what its self-test found; "": nothing */
} ds_engine_info;
DS_API void ds_engine_get_info(const ds_engine *engine, ds_engine_info *info);

/* --- text --- */

typedef int32_t ds_token;

enum {
    DS_TOKENIZE_SPECIAL = 1, /* special tokens written in the text become those tokens; without it they are plain text */
    DS_TOKENIZE_BOS = 2      /* put the begin token in front if the tokenizer says so */
};

/* *tokens is freed with ds_free. DS_ERROR_UNSUPPORTED when the checkpoint has no tokenizer. Invalid UTF-8 is accepted. */
DS_API ds_status ds_tokenize(const ds_engine *engine, const char *text, size_t length, unsigned flags, ds_token **tokens,
                             size_t *count, struct ds_error *err);

/*
 * Text of tokens as valid UTF-8 (what is not becomes U+FFFD), special tokens left out unless `special`. *text has a NUL
 * behind its *length bytes and is freed with ds_free.
 */
DS_API ds_status ds_detokenize(const ds_engine *engine, const ds_token *tokens, size_t count, bool special, char **text,
                               size_t *length, struct ds_error *err);

/*
 * The same as it is generated: tokens go in one by one, whole characters come out as early as possible. The pieces joined
 * are what ds_detokenize gives at once. A stream belongs to one thread at a time; the engine must outlive it.
 */
typedef struct ds_text_stream ds_text_stream;
/* DS_ERROR_UNSUPPORTED when the checkpoint has no tokenizer. */
DS_API ds_status ds_text_stream_create(const ds_engine *engine, bool special, ds_text_stream **out, struct ds_error *err);
/* The *length bytes of text that became complete with `token`, often none; valid until the next call with this stream. Allocates nothing. */
DS_API const char *ds_text_stream_push(ds_text_stream *stream, ds_token token, size_t *length);
/* What an incomplete character at the end becomes. The stream then starts anew. */
DS_API const char *ds_text_stream_finish(ds_text_stream *stream, size_t *length);
DS_API void ds_text_stream_destroy(ds_text_stream *stream); /* accepts NULL */

/*
 * A stream that ends in front of the first of `stops` (at most 64 strings of 1 to 1024 bytes of UTF-8; copied) that the text holds, wherever
 * tokens are divided. What may be the beginning of one is held back until it is none; ds_text_stream_finish gives what is held.
 */
DS_API ds_status ds_text_stream_create_until(const ds_engine *engine, bool special, const char *const *stops, size_t n_stops,
                                             ds_text_stream **out, struct ds_error *err);
/* Which of the stop strings was met; -1: none so far. */
DS_API int ds_text_stream_stopped(const ds_text_stream *stream);

typedef struct ds_message {
    const char *role;    /* "system", "user", "assistant" */
    const char *content; /* never parsed for special tokens */
    size_t length;
} ds_message;

/* The conversation as the model's chat template puts it, ending where the assistant's answer starts. Freed with ds_free. */
DS_API ds_status ds_chat_tokenize(const ds_engine *engine, const ds_message *messages, size_t count, ds_token **tokens,
                                  size_t *n_tokens, struct ds_error *err);

/* True for tokens that end a generation (generation_config.json, GGUF metadata). */
DS_API bool ds_is_stop_token(const ds_engine *engine, ds_token token);
DS_API void ds_free(void *data);

/* --- session --- */

typedef enum ds_spec_mode { DS_SPEC_OFF = 0, DS_SPEC_FIXED, DS_SPEC_AUTO } ds_spec_mode;

typedef struct ds_sampling {
    float temperature; /* 0: greedy */
    uint32_t top_k;    /* 0: off */
    float top_p;       /* 0 or 1: off */
    float min_p;       /* 0: off */
    uint64_t seed;
    uint32_t stream;   /* tells apart several answers to one request under one seed */
} ds_sampling;

/*
 * A bias per vocabulary entry and row, added to the logits before sampling; -INFINITY forbids a token. For grammars.
 * Called with the tokens drafted so far behind the session's own (`drafted`, `n_drafted` of them: 0 for the anchor's
 * row), so that the host can advance and roll back. `bias` has ds_engine_info.vocabulary entries set to 0. Return false
 * to leave the row without a bias.
 */
typedef bool (*ds_bias_fn)(void *user, const ds_token *drafted, size_t n_drafted, float *bias);

/*
 * How a draft is accepted above temperature 0. Either way tokens have the target's distribution.
 *
 *   DS_COUPLED    draft and target share their noise, and a draft is accepted where it is the target's own token: the stream is the same
 *                 with and without a drafter, at every length, on every device
 *   DS_REJECTION  the papers' rule, accept with probability min(1, p_target / p_draft), else draw from the residual: accepts somewhat
 *                 more (docs/speculation.md), but the stream depends on what is drafted and, with DS_SPEC_AUTO, on measured times
 */
typedef enum ds_acceptance { DS_COUPLED = 0, DS_REJECTION } ds_acceptance;

/*
 * Of tokens that appear c > 0 times in the sequence, prompt included: the logit is divided by `repetition` where it is above 0, else
 * multiplied; then lowered by presence, and by c * frequency. Drafts are penalised like the target's tokens: the stream does not
 * depend on the drafter.
 */
typedef struct ds_penalties {
    float repetition; /* 0.01 to 100; 0 or 1: off */
    float presence;   /* -100 to 100; 0: off */
    float frequency;  /* -100 to 100; 0: off */
    uint32_t window;  /* the last so many tokens count; 0: all */
} ds_penalties;

typedef struct ds_logit_bias {
    ds_token token;
    float bias; /* added after the penalties, before temperature and filters: -1000 to 1000, or -INFINITY, which forbids the token */
} ds_logit_bias;

/* Of the target itself: at temperature 1, before penalties, biases and filters. The same with and without a drafter. */
typedef struct ds_token_logprob {
    ds_token token; /* -1: the vocabulary has no more */
    float logprob;  /* natural */
} ds_token_logprob;
/* Called once for each committed token, in front of the ds_token_fn: its own, and the `n_top` likeliest in that order. */
typedef void (*ds_logprobs_fn)(void *user, const ds_token_logprob *chosen, const ds_token_logprob *top, size_t n_top);

typedef struct ds_session_params {
    size_t size;
    ds_sampling sampling;
    ds_spec_mode spec;     /* ignored without a drafter. DS_SPEC_AUTO: as many drafts as pay on this machine, none where none pay; the
                              first answer of an engine measures that, in seconds, or reads it from ds_engine_params.cache */
    uint32_t spec_length;  /* DS_SPEC_FIXED: drafts verified a round at most, 1..block_size */
    bool ignore_stop;      /* generate past stop tokens */
    uint32_t adapter;      /* reserved for adapters; must be 0 */
    ds_bias_fn bias;       /* NULL: none */
    void *bias_user;
    ds_acceptance acceptance;
    ds_penalties penalties;
    const ds_logit_bias *logit_bias; /* [n_logit_bias], each token once, at most 1024; copied. A target's and a draft's row get the same */
    size_t n_logit_bias;
    const char *const *stops; /* [n_stops] as in ds_text_stream_create_until; copied. DS_STOP_STRING: the text generated since the last append,
                                 rewind or stop holds one; the sequence ends with the token that completed it. Needs a tokenizer */
    size_t n_stops;
    ds_logprobs_fn logprobs_fn; /* NULL: no log-probabilities */
    void *logprobs_user;
    uint32_t logprobs;          /* likeliest tokens to tell of, 0 to 20 */
} ds_session_params;
DS_API ds_session_params ds_session_defaults(void);

/* The engine must be prepared. DS_ERROR_LIMIT when max_sessions are alive. */
DS_API ds_status ds_session_create(ds_engine *engine, const ds_session_params *params, ds_session **out, struct ds_error *err);
DS_API void ds_session_destroy(ds_session *session); /* accepts NULL */

/*
 * Appends tokens to the sequence. Nothing is computed yet. DS_ERROR_ARGUMENT for an id outside the vocabulary,
 * DS_ERROR_LIMIT when the context cannot hold them.
 */
DS_API ds_status ds_session_append(ds_session *session, const ds_token *tokens, size_t count, struct ds_error *err);

typedef enum ds_stop { DS_STOP_NONE = 0, DS_STOP_EOS, DS_STOP_LENGTH, DS_STOP_CALLBACK, DS_STOP_STRING /* of ds_session_params.stops */ } ds_stop;

/* Called once for each committed token, in order. Return false to stop after it. */
typedef bool (*ds_token_fn)(void *user, ds_token token);

/*
 * Generates at most `max_tokens` tokens behind the sequence; they become part of it. DS_STOP_LENGTH also when the context
 * is full. What a round overshoots beyond max_tokens, a stop token or the callback's stop is not part of the sequence.
 * On DS_ERROR_CANCELLED the tokens committed so far stay.
 */
DS_API ds_status ds_session_generate(ds_session *session, size_t max_tokens, ds_token_fn fn, void *user, ds_stop *stop,
                                     struct ds_error *err);

/*
 * Logits that predict the token after each of the last `rows` tokens of the sequence, f32 [rows, vocabulary] into
 * `logits`; computes what is missing. Rows whose cache entry exists are computed again.
 */
DS_API ds_status ds_session_logits(ds_session *session, size_t rows, float *logits, struct ds_error *err);

DS_API size_t ds_session_length(const ds_session *session);
/* The sequence; valid until the next call that changes the session. */
DS_API const ds_token *ds_session_tokens(const ds_session *session);
/* Cuts the sequence to `length` tokens (a rollback costs nothing; what was cut is computed again when appended again). */
DS_API ds_status ds_session_rewind(ds_session *session, size_t length, struct ds_error *err);
/* Replaces sampling, lengths and callbacks from the next token on. */
DS_API ds_status ds_session_configure(ds_session *session, const ds_session_params *params, struct ds_error *err);

/*
 * Asks the call running in the session to stop within one pass; sticky until the next ds_session_generate returns
 * DS_ERROR_CANCELLED. From any thread or a signal handler (async-signal-safe).
 */
DS_API void ds_cancel(ds_session *session);

/* Tokens, cache and drafter's context, in a file that only the same checkpoint accepts (DS_ERROR_MISMATCH else). */
DS_API ds_status ds_session_save(ds_session *session, const char *path, struct ds_error *err);
/* Replaces the sequence of the session. On failure it is empty. */
DS_API ds_status ds_session_load(ds_session *session, const char *path, struct ds_error *err);

/* What happened in one speculative round; pointers are valid during the callback. */
typedef struct ds_round {
    size_t position;          /* the anchor's: tokens whose target pass has run */
    ds_token anchor;
    const ds_token *draft;    /* n_draft drafted tokens */
    size_t n_draft;
    const float *confidence;  /* one a draft, of its own acceptance (never cumulative), calibrated where a calibration lies beside the
                                 drafter; NULL: nothing was drafted */
    size_t verified;          /* drafts that went through the target */
    size_t accepted;
    ds_token next;            /* the target's token behind the accepted ones: the next anchor */
    const float *confidence_logits; /* what the confidences are the sigmoids of, before calibration: the output of the drafter's confidence
                                       head or, without one, the log-odds of the greatest probability that the draft was drawn by (at
                                       temperature 1, after penalties and biases); NULL: nothing was drafted */
} ds_round;
typedef void (*ds_round_fn)(void *user, const ds_round *round);
/* Called after each round of ds_session_generate, on its thread. NULL: none. */
DS_API void ds_session_set_trace(ds_session *session, ds_round_fn fn, void *user);

typedef struct ds_stats {
    size_t size; /* set by the caller */
    uint64_t prompt_tokens;    /* run through the target as prompt */
    uint64_t generated;        /* tokens committed */
    uint64_t rounds, drafted, verified, accepted; /* sums over rounds */
    uint64_t committed_in_rounds; /* tau = committed_in_rounds / rounds; a round that ends on an accepted stop token counts its drafts alone */
    double prefill_seconds, draft_seconds, verify_seconds, decode_seconds; /* decode: everything after the prefill. In a batch: of the
                                                                              steps the session had a part in. Of rounds that are
                                                                              one submission (a GPU, fixed lengths) all is verify
                                                                              where the GPU has no clock of its own */
    uint64_t probes;           /* rounds of DS_SPEC_AUTO that drafted while parked, only to see whether speculation would pay */
    uint64_t cached_tokens;    /* of prompts, found in the prefix cache instead of being run */
} ds_stats;
DS_API void ds_session_get_stats(const ds_session *session, ds_stats *stats);
DS_API void ds_session_reset_stats(ds_session *session);

/* --- batch --- */

/*
 * Sessions of one engine that generate together. Each step runs one pass of the target (and one of the drafter) for all of them: the
 * sessions that decode have a round in it, and prompts go through it piece by piece beside them. A session's tokens are those it
 * generates alone, whoever else is there.
 *
 *   ds_batch_add(batch, session, &request, err);           any number, at any time
 *   while (left) ds_batch_step(batch, &left, err);         tokens come through the requests' callbacks
 *
 * Sessions run in the order they were added, as many at once as rows and pages allow; the others wait. A session begins when pages for its
 * whole answer are free or can be freed, so that one that has begun is never stopped for lack of them. All that run advance in every
 * step. What happens depends on the order of calls alone, not on time; with DS_SPEC_AUTO lengths depend on measured times, tokens do not.
 *
 * A batch belongs to one thread at a time; a session that is in it belongs to it, and calls that change the session are refused until it
 * has left. Other sessions of the engine may generate in other threads meanwhile. Callbacks are called from ds_batch_step, without a
 * lock; they may add and remove sessions, the one they serve included.
 */
typedef struct ds_batch ds_batch;

typedef struct ds_batch_params {
    size_t size;
    uint32_t max_sessions; /* in the batch at once, waiting ones included; 0: the engine's max_sessions */
    uint32_t max_running;  /* of them, with a part in one step; 0: as many as a pass can serve, at most 64 */
    uint32_t prefill_rows; /* most rows of prompts in a step in which others decode; 0: 64. When nobody decodes a pass is as wide as it can be */
} ds_batch_params;
DS_API ds_batch_params ds_batch_defaults(void);

/* The engine must be prepared, and outlive the batch. DS_ERROR_ARGUMENT for limits the engine does not have. */
DS_API ds_status ds_batch_create(ds_engine *engine, const ds_batch_params *params, ds_batch **out, struct ds_error *err);
/* Sessions in it leave as by ds_batch_remove. Not from a callback. Accepts NULL. */
DS_API void ds_batch_destroy(ds_batch *batch);

/*
 * The answer is complete, or has ended early: `status` is DS_OK with the reason in `stop`, or this session's own error with `err`:
 * DS_ERROR_CANCELLED, DS_ERROR_NUMERIC, DS_ERROR_LIMIT (more pages than the cache has, or than those who hold them will ever free), ..; the others
 * go on. The session has left the batch: it may be used, added again, or destroyed.
 */
typedef void (*ds_done_fn)(void *user, ds_session *session, ds_stop stop, ds_status status, const struct ds_error *err);

typedef struct ds_batch_request {
    size_t size;
    size_t max_tokens; /* as in ds_session_generate */
    ds_token_fn token; /* NULL: none. Returning false ends the answer after the token */
    ds_done_fn done;   /* NULL: none */
    void *user;        /* of both */
} ds_batch_request;

/*
 * Queues the session, which holds its prompt, for an answer. DS_ERROR_ARGUMENT for a session of another engine, in the middle of a call,
 * in a batch already, or empty; DS_ERROR_LIMIT when max_sessions are in the batch.
 */
DS_API ds_status ds_batch_add(ds_batch *batch, ds_session *session, const ds_batch_request *request, struct ds_error *err);
/*
 * Takes the session out at once, with the tokens committed so far; `done` is not called. DS_ERROR_ARGUMENT when it is not in the batch. Destroying a
 * session does the same. (ds_cancel, from any thread, ends it in the next step with DS_ERROR_CANCELLED and `done`.)
 */
DS_API ds_status ds_batch_remove(ds_batch *batch, ds_session *session, struct ds_error *err);

/*
 * One step. *left (may be NULL): sessions still in the batch, 0 when there is nothing more to do. An error is one that all share (a device that
 * fails): sessions that had a part in the step have ended with it.
 */
DS_API ds_status ds_batch_step(ds_batch *batch, size_t *left, struct ds_error *err);

typedef struct ds_batch_stats {
    size_t size; /* set by the caller */
    uint32_t running, waiting; /* sessions, now */
    uint64_t steps;            /* with a pass of the target */
    uint64_t rows;             /* of these passes */
    uint64_t prompt_rows;      /* of them, prompts' */
} ds_batch_stats;
DS_API void ds_batch_get_stats(const ds_batch *batch, ds_batch_stats *stats);

/* --- devices --- */

typedef struct ds_device_info {
    const char *name;        /* what --device takes; "cpu" */
    const char *description; /* "Intel(R) Xeon(R) ..., AVX-512 VNNI" */
    uint64_t memory_bytes;   /* 0: unknown */
    bool exact;              /* passed the self-test of the numerics contract */
    const char *note;        /* why not, or "" */
    const char *fast;        /* what DS_NUMERICS_FAST would use here that breaks the contract for speed, or "" */
} ds_device_info;
/* Calls `fn` for each device found, best first. `modules` as in ds_engine_params. */
DS_API ds_status ds_devices(const char *modules, void (*fn)(void *user, const ds_device_info *info), void *user, struct ds_error *err);

#ifdef __cplusplus
}
#endif

#endif
