/* A pair of models cut by layers over several devices. */
#ifndef DSPARK_TESTS_CUTS_H
#define DSPARK_TESTS_CUTS_H

#include "engine/engine_internal.h"
#include "streams.h"
#include "tiny_drafters.h"
#include "tiny_pair.h"

#include <math.h>

static char *eagle_folder, *flash_folder;

static inline int set_up(void **state) {
    struct tiny_model eagle = tiny_eagle3(), flash = tiny_dflash();
    eagle_folder = tiny_write(&eagle);
    flash_folder = tiny_write(&flash);
    return write_models(state);
}

static inline int tear_down(void **state) {
    check_remove_folder(eagle_folder);
    check_remove_folder(flash_folder);
    return remove_models(state);
}

static const char *const cuts[] = {"cpu=1,ref", "cpu=2,ref", "ref=1,cpu=2", "cpu=0,ref", "ref,cpu=1"};
static const ds_token prompt[] = {3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3, 2};
enum { LENGTH = 24 };

static inline ds_engine_params params_on(const char *device, const char *drafter) {
    ds_engine_params params = ds_engine_defaults();
    params.target = target_folder;
    params.drafter = drafter;
    params.device = device;
    params.context = 256;
    params.max_sessions = 2;
    params.max_rows = 8; /* the prompt takes several passes */
    params.threads = 1;
    return params;
}

/* --- tokens --- */

/* What a session may ask for. */
struct asked {
    const char *name;
    float temperature;
    bool rejection, penalties, bias, probabilities;
    ds_spec_mode spec;
};
static const struct asked all_asked[] = {
    {.name = "no speculation"},
    {.name = "greedy", .spec = DS_SPEC_FIXED},
    {.name = "lengths by cost", .temperature = 0.8f, .spec = DS_SPEC_AUTO},
    {.name = "coupled", .temperature = 0.9f, .spec = DS_SPEC_FIXED},
    {.name = "by rejection", .temperature = 0.9f, .rejection = true, .spec = DS_SPEC_FIXED},
    {.name = "penalties", .temperature = 0.9f, .penalties = true, .spec = DS_SPEC_FIXED},
    {.name = "bias", .bias = true, .spec = DS_SPEC_FIXED},
};

static inline bool forbid_some(void *user, const ds_token *drafted, size_t n_drafted, float *bias) {
    (void)user;
    (void)drafted;
    bias[(7 * n_drafted + 40) % TINY_VOCABULARY] = -INFINITY;
    bias[11] = 0.5f;
    return true;
}

static inline ds_session_params session_params(const struct asked *asked) {
    static const ds_logit_bias biases[] = {{3, 1.5f}, {4, -INFINITY}};
    ds_session_params params = ds_session_defaults();
    params.ignore_stop = true;
    params.sampling = (ds_sampling){.temperature = asked->temperature, .seed = 7};
    params.spec = asked->spec;
    params.spec_length = asked->spec == DS_SPEC_FIXED ? 3 : 0;
    params.acceptance = asked->rejection ? DS_REJECTION : DS_COUPLED;
    if (asked->bias) params.bias = forbid_some;
    if (!asked->penalties) return params;
    params.penalties = (ds_penalties){.repetition = 1.2f, .frequency = 0.1f};
    params.logit_bias = biases;
    params.n_logit_bias = DS_COUNT(biases);
    return params;
}

static inline struct stream answer(ds_engine *engine, const struct asked *asked) {
    const ds_session_params params = session_params(asked);
    ds_session *session = new_session(engine, &params);
    append(session, prompt, DS_COUNT(prompt));
    generate(session, LENGTH);
    const struct stream stream = stream_of(session);
    ds_session_destroy(session);
    return stream;
}

#endif
