/* What commands that run a model share: the options of an engine, a drafter and a sampler, opening, and Ctrl-C. */
#ifndef DSPARK_TOOLS_CLI_ENGINE_H
#define DSPARK_TOOLS_CLI_ENGINE_H

#include "cli.h"

/* --- options; a zeroed struct holds the defaults, but for `log`: use DS_CLI_ENGINE_DEFAULTS --- */

struct ds_cli_engine {
    const char *target, *device, *modules;
    uint32_t threads, context, chunk;
    int kv, weights, numerics, log; /* ds_kv_type, ds_weights, ds_numerics, ds_log_level */
    uint64_t memory;
    struct ds_cli_trust {
        bool require_manifest;
        const char *key;
    } trust;
    const char *chat_template;
};
extern const char ds_cli_device_help[]; /* of --device */
#define DS_CLI_ENGINE_DEFAULTS {.log = DS_LOG_WARNING}
extern const char *const ds_cli_numerics_names[]; /* choices of --numerics */
extern const struct ds_cli_option ds_cli_engine_options[];
extern const struct ds_cli_option ds_cli_template_options[]; /* of the same struct: for commands that write a conversation */
extern const struct ds_cli_option ds_cli_trust_options[]; /* of struct ds_cli_trust */

struct ds_cli_spec {
    bool given; /* not given: off without a drafter, auto with one */
    ds_spec_mode mode;
    uint32_t length; /* of "fixed:K" */
};
struct ds_cli_draft {
    const char *drafter, *device;
    uint32_t top_k; /* ds_engine_params.draft_top_k */
    struct ds_cli_spec spec;
};
extern const struct ds_cli_option ds_cli_draft_options[];

enum { DS_CLI_MOST_BIASES = 1024 };
struct ds_cli_sampling {
    int method; /* ds_acceptance */
    ds_penalties penalties;
    struct ds_cli_biases {
        size_t count;
        ds_logit_bias list[DS_CLI_MOST_BIASES];
    } biases;
    float temperature, top_p, min_p;
    bool seed_given;
    uint32_t top_k;
    uint64_t seed;
};
extern const struct ds_cli_option ds_cli_sampling_options[];

enum { DS_CLI_MOST_STOPS = 64 };
struct ds_cli_stops {
    size_t count;
    const char *list[DS_CLI_MOST_STOPS]; /* point into argv */
};
extern const struct ds_cli_option ds_cli_stop_options[]; /* of struct ds_cli_stops: for commands that write text */

/* --- running; these explain failures and return DS_CLI_GO or an exit code --- */

/* Opens the files. `draft` may be NULL. On success the caller destroys *out; `info` is filled. */
int ds_cli_open(const struct ds_cli_command *command, const struct ds_cli_engine *options, const struct ds_cli_draft *draft,
                ds_engine **out, ds_engine_info *info);

/* Places the weights, with a progress bar. Ctrl-C gives up. *bytes (NULL: not wanted) are those of the files' matrices that were placed. */
int ds_cli_prepare(ds_engine *engine, uint64_t *bytes);

/* Fills sampling and speculation (its lists are those of the options); checks fixed:K against the drafter's block. Draws the seed when none was given and it matters. */
int ds_cli_session_params(const struct ds_cli_command *command, const struct ds_cli_draft *draft,
                          const struct ds_cli_sampling *sampling, const ds_engine_info *info, ds_session_params *out);

/* Checks ids from the command line against the vocabulary. */
int ds_cli_check_tokens(const struct ds_cli_command *command, const struct ds_cli_tokens *tokens, const ds_engine_info *info);

/* --- Ctrl-C --- */

/*
 * From now on the first Ctrl-C is remembered, and cancels the call that runs in the session set by ds_cli_watch; the second one
 * ends the program. Forgets an earlier one.
 */
void ds_cli_catch_interrupt(void);
void ds_cli_watch(ds_session *session); /* NULL: none. Call it before the session is destroyed. */
bool ds_cli_interrupted(void);
/* Ctrl-C ends the program again. */
void ds_cli_release_interrupt(void);

#endif
