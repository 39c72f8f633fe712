/*
 * A target cut by layers over several devices: no cut changes a bit, whatever else a session asks for; layers that a device has no room for go to the
 * next one, and nobody is left in the dark about it; what cannot be is said by name.
 */
#include "engine/engine_internal.h"
#include "streams.h"
#include "tiny_drafters.h"
#include "tiny_pair.h"

#include <math.h>

static char *eagle_folder, *flash_folder;

static int set_up(void **state) {
    struct tiny_model eagle = tiny_eagle3(), flash = tiny_dflash();
    eagle_folder = tiny_write(&eagle);
    flash_folder = tiny_write(&flash);
    return write_models(state);
}

static int tear_down(void **state) {
    check_remove_folder(eagle_folder);
    check_remove_folder(flash_folder);
    return remove_models(state);
}

static const char *const cuts[] = {"cpu=1,ref", "cpu=2,ref", "ref=1,cpu=2", "cpu=0,ref", "ref,cpu=1"};
static const ds_token prompt[] = {3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3, 2};
enum { LENGTH = 24 };

static ds_engine_params params_on(const char *device, const char *drafter) {
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

static bool forbid_some(void *user, const ds_token *drafted, size_t n_drafted, float *bias) {
    (void)user;
    (void)drafted;
    bias[(7 * n_drafted + 40) % TINY_VOCABULARY] = -INFINITY;
    bias[11] = 0.5f;
    return true;
}

static ds_session_params session_params(const struct asked *asked) {
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

static struct stream answer(ds_engine *engine, const struct asked *asked) {
    const ds_session_params params = session_params(asked);
    ds_session *session = new_session(engine, &params);
    append(session, prompt, DS_COUNT(prompt));
    generate(session, LENGTH);
    const struct stream stream = stream_of(session);
    ds_session_destroy(session);
    return stream;
}

static void check_answers(ds_engine *engine, const struct stream expected[DS_COUNT(all_asked)], const char *what) {
    for (size_t i = 0; i < DS_COUNT(all_asked); i++) {
        const struct stream got = answer(engine, &all_asked[i]);
        for (size_t t = 0; t < got.count; t++)
            if (got.tokens[t] != expected[i].tokens[t])
                fail_msg("%s, %s: token %zu is %d, expected %d", what, all_asked[i].name, t, (int)got.tokens[t], (int)expected[i].tokens[t]);
        assert_int_equal(got.count, expected[i].count);
    }
}

static void answers_of(const char *drafter, const char *draft_device, const char *const *devices, size_t n) {
    static struct stream expected[DS_COUNT(all_asked)];
    ds_engine_params params = params_on("cpu", drafter);
    ds_engine *engine = open_engine(&params);
    for (size_t i = 0; i < DS_COUNT(all_asked); i++) expected[i] = answer(engine, &all_asked[i]);
    ds_engine_destroy(engine);
    for (size_t i = 0; i < n; i++) {
        params = params_on(devices[i], drafter);
        params.draft_device = draft_device;
        engine = open_engine(&params);
        assert_int_equal(engine->target.n_stages, 2);
        check_answers(engine, expected, devices[i]);
        ds_engine_destroy(engine);
    }
}

static void no_cut_changes_a_token_whatever_is_asked_for(void **state) {
    (void)state;
    answers_of(drafter_folder, NULL, cuts, DS_COUNT(cuts));
}

static void taps_of_every_stage_reach_every_kind_of_drafter(void **state) {
    (void)state;
    static const char *const both[] = {"cpu=1,ref", "ref=2,cpu"};
    answers_of(eagle_folder, NULL, both, DS_COUNT(both));
    answers_of(flash_folder, NULL, both, DS_COUNT(both));
    answers_of(drafter_folder, "ref", both, DS_COUNT(both)); /* at home, or with the other stage */
}

/* Tokens would be right whatever a drafter gets to see: how many are accepted tells. */
static void a_drafter_sees_the_same_features_and_drafts_the_same(void **state) {
    (void)state;
    static const char *const devices[] = {"cpu", "cpu=0,ref", "cpu=1,ref", "cpu=2,ref", "ref=1,cpu"};
    char *const drafters[] = {drafter_folder, eagle_folder, flash_folder};
    for (size_t k = 0; k < DS_COUNT(drafters); k++) {
        struct ds_view taps = {.rows = 0};
        float expected[8 * 3 * TINY_HIDDEN], found[8 * 3 * TINY_HIDDEN];
        uint64_t accepted = 0;
        for (size_t i = 0; i < DS_COUNT(devices); i++) {
            struct ds_error err;
            const ds_engine_params params = params_on(devices[i], drafters[k]);
            const ds_session_params how = session_params(&all_asked[3]);
            ds_engine *engine = open_engine(&params);
            ds_session *session = new_session(engine, &how);
            append(session, prompt, 9);
            generate(session, 1); /* the prompt's last pass, of one row */
            append(session, prompt, 6);
            generate(session, 1);
            taps = engine->target.taps;
            assert_true(taps.cols * 6 <= DS_COUNT(found));
            check_ok(engine->target.params.device->fns->read(engine->target.params.stream, taps.at, i ? found : expected, 24 * (uint64_t)taps.cols, &err), &err);
            if (i) assert_memory_equal(found, expected, 24 * taps.cols);
            generate(session, 2 * LENGTH);
            ds_stats stats = {.size = sizeof stats};
            ds_session_get_stats(session, &stats);
            if (i) assert_int_equal(stats.accepted, accepted);
            accepted = stats.accepted;
            ds_session_destroy(session);
            ds_engine_destroy(engine);
        }
    }
}

/* --- several sessions --- */

static void run_batch(ds_engine *engine, struct stream out[2]) {
    struct ds_error err;
    const ds_batch_params params = ds_batch_defaults();
    const ds_batch_request request = {.size = sizeof request, .max_tokens = LENGTH};
    ds_batch *batch;
    ds_session *sessions[2];
    check_ok(ds_batch_create(engine, &params, &batch, &err), &err);
    for (size_t i = 0; i < 2; i++) {
        const ds_session_params how = session_params(&all_asked[i ? 5 : 1]);
        sessions[i] = new_session(engine, &how);
        append(sessions[i], prompt + i, DS_COUNT(prompt) - 4 * i);
        check_ok(ds_batch_add(batch, sessions[i], &request, &err), &err);
    }
    for (size_t left = 1; left;) check_ok(ds_batch_step(batch, &left, &err), &err);
    for (size_t i = 0; i < 2; i++) {
        out[i] = stream_of(sessions[i]);
        ds_session_destroy(sessions[i]);
    }
    ds_batch_destroy(batch);
}

static void sessions_of_a_batch_go_through_all_stages_together(void **state) {
    (void)state;
    static struct stream expected[2], found[2];
    for (size_t i = 0; i < 3; i++) {
        const ds_engine_params params = params_on(i ? cuts[i] : "cpu", drafter_folder);
        ds_engine *engine = open_engine(&params);
        run_batch(engine, i ? found : expected);
        for (size_t k = 0; i && k < 2; k++) same_stream(&found[k], &expected[k]);
        ds_engine_destroy(engine);
    }
}

/* The second session starts behind what the first one left, in pages that it has to copy before it writes them. */
static void beginnings_are_shared_on_every_device(void **state) {
    (void)state;
    static struct stream first, again;
    ds_engine_params params = params_on("cpu=1,ref", drafter_folder);
    params.prefix_positions = 128;
    ds_engine *engine = open_engine(&params);
    const ds_session_params how = session_params(&all_asked[3]);
    for (int i = 0; i < 2; i++) {
        ds_session *session = new_session(engine, &how);
        append(session, prompt, DS_COUNT(prompt));
        generate(session, LENGTH);
        *(i ? &again : &first) = stream_of(session);
        ds_stats stats = {.size = sizeof stats};
        ds_session_get_stats(session, &stats);
        assert_int_equal(stats.cached_tokens > 0, i);
        ds_session_destroy(session);
    }
    same_stream(&again, &first);
    ds_engine_destroy(engine);
}

/* --- a session that moves --- */

static void a_session_is_saved_by_one_placement_and_goes_on_in_another(void **state) {
    (void)state;
    static struct stream expected, found;
    static const char *const devices[] = {"cpu", "cpu=1,ref", "ref=2,cpu", "ref"};
    char *files = check_make_folder(), *path = ds_os_join(files, "session");
    const ds_session_params how = session_params(&all_asked[3]);
    struct ds_error err;
    for (size_t i = 0; i < DS_COUNT(devices); i++) {
        const ds_engine_params params = params_on(devices[i], drafter_folder);
        ds_engine *engine = open_engine(&params);
        ds_session *session = new_session(engine, &how);
        if (i) {
            check_ok(ds_session_load(session, path, &err), &err);
            generate(session, LENGTH);
            found = stream_of(session);
            same_stream(&found, &expected);
            check_ok(ds_session_rewind(session, 0, &err), &err);
        }
        append(session, prompt, DS_COUNT(prompt));
        generate(session, 70); /* more than a page */
        check_ok(ds_session_save(session, path, &err), &err);
        generate(session, LENGTH);
        expected = stream_of(session);
        ds_session_destroy(session);
        ds_engine_destroy(engine);
    }
    free(path);
    check_remove_folder(files);
}

/* --- models of all kinds --- */

/* Logits and all hidden states of a short prompt, as bytes. */
struct forward {
    float *logits, *hidden[DS_MOST_LAYERS + 1];
    size_t n_logits, n_hidden, states;
};

static ds_status try_forward(const char *target, const char *device, struct forward *f, struct ds_error *err) {
    enum { ROWS = 11 };
    ds_engine_params params = params_on(device, NULL);
    params.target = target;
    ds_engine *engine;
    DS_TRY(ds_engine_open(&params, &engine, err));
    check_ok(ds_engine_prepare(engine, NULL, NULL, err), err);
    ds_engine_info info = {.size = sizeof info};
    ds_engine_get_info(engine, &info);
    *f = (struct forward){.n_logits = ROWS * info.vocabulary, .n_hidden = ROWS * info.hidden_size, .states = info.layers + 1};
    f->logits = malloc(f->n_logits * sizeof *f->logits);
    for (size_t l = 0; l < f->states; l++) f->hidden[l] = malloc(f->n_hidden * sizeof *f->hidden[l]);
    const ds_session_params how = ds_session_defaults();
    ds_session *session = new_session(engine, &how);
    check_ok(ds_dev_forward(session, prompt, ROWS, false, f->logits, f->hidden, err), err);
    ds_session_destroy(session);
    ds_engine_destroy(engine);
    return DS_OK;
}

static void free_forward(struct forward *f) {
    free(f->logits);
    for (size_t l = 0; l < f->states; l++) free(f->hidden[l]);
}

/* Every cut of a model of the golden vectors gives the bits of one device, or is refused; returns how many were refused. */
static uint32_t check_cuts_of(const char *name) {
    char path[1024], device[64];
    struct ds_error err;
    static struct forward expected, found;
    snprintf(path, sizeof path, "%s/tests/golden/%s", DSPARK_SOURCE_ROOT, name);
    check_ok(try_forward(path, "cpu", &expected, &err), &err);
    const uint32_t layers = (uint32_t)expected.states - 1;
    uint32_t refused = 0;
    for (uint32_t cut = 0; cut < layers; cut++) {
        snprintf(device, sizeof device, "cpu=%u,ref", cut);
        if (try_forward(path, device, &found, &err) != DS_OK) {
            assert_int_equal(err.status, DS_ERROR_UNSUPPORTED);
            check_contains(err.message, "keys and values");
            refused++;
            continue;
        }
        assert_memory_equal(found.logits, expected.logits, found.n_logits * sizeof *found.logits);
        for (size_t l = 0; l < found.states; l++)
            if (memcmp(found.hidden[l], expected.hidden[l], found.n_hidden * sizeof **found.hidden) != 0)
                fail_msg("%s on %s: hidden state %zu differs", name, device, l);
        free_forward(&found);
    }
    free_forward(&expected);
    return refused;
}

static void every_family_can_be_cut_and_keeps_its_bits(void **state) {
    (void)state;
    static const char *const names[] = {"target-qwen2", "target-qwen3-moe", "target-gemma3-text", "target-gemma4-text", "target-gemma4-moe", "target-mistral-swa"};
    for (size_t i = 0; i < DS_COUNT(names); i++) assert_int_equal(check_cuts_of(names[i]), 0);
}

/* Its last layers read keys and values of earlier ones: they stay together. */
static void per_layer_inputs_are_carried_and_layers_that_share_keys_stay_together(void **state) {
    (void)state;
    const uint32_t refused = check_cuts_of("target-gemma4-ple");
    assert_true(refused >= 1);
}

/* --- memory --- */

static char told[4096];
static ds_log_level told_level;
static void keep_layers(void *user, ds_log_level level, const char *message) {
    (void)user;
    if (strncmp(message, "layers:", 7) != 0) return;
    snprintf(told, sizeof told, "%s", message);
    told_level = level;
}

static ds_engine_params telling(const char *device, const char *drafter) {
    ds_engine_params params = params_on(device, drafter);
    params.log = keep_layers;
    params.log_level = DS_LOG_INFO;
    told[0] = 0;
    return params;
}

static uint64_t bytes_on(const ds_engine *engine, uint32_t place) { return engine->placements[place].planned_bytes; }

static void layers_that_a_device_has_no_room_for_go_to_the_next_and_that_is_told(void **state) {
    (void)state;
    static struct stream expected, found;
    char device[64];
    ds_engine_params params = params_on("cpu", drafter_folder);
    ds_engine *engine = open_engine(&params);
    expected = answer(engine, &all_asked[3]);
    const uint64_t all = bytes_on(engine, 0);
    ds_engine_destroy(engine);
    params = params_on("cpu=0,ref", drafter_folder);
    engine = open_engine(&params);
    const uint64_t none = bytes_on(engine, 0);
    ds_engine_destroy(engine);
    uint32_t before = 0;
    bool some = false;
    for (uint64_t kib = none / 1024 + 1; kib <= all / 1024 + 2; kib += 8) {
        snprintf(device, sizeof device, "cpu=%uK,ref", (unsigned)kib);
        params = telling(device, drafter_folder);
        engine = open_engine(&params);
        const uint32_t here = engine->sharing.layers[0];
        assert_true(bytes_on(engine, 0) <= kib * 1024);
        assert_true(here >= before && here <= TINY_LAYERS);
        some |= here > 0 && here < TINY_LAYERS;
        before = here;
        if (here < TINY_LAYERS) {
            assert_int_equal(told_level, DS_LOG_WARNING);
            check_contains(told, "no room for more");
            check_contains(engine->sharing.text, ",ref=");
        }
        found = answer(engine, &all_asked[3]);
        same_stream(&found, &expected);
        ds_engine_destroy(engine);
    }
    assert_true(some);
    snprintf(device, sizeof device, "cpu=%uK,ref", (unsigned)(all / 1024 + 1));
    params = telling(device, drafter_folder);
    engine = open_engine(&params); /* all fits: the other device is let go */
    assert_int_equal(engine->target.n_stages, 1);
    assert_string_equal(engine->sharing.text, "cpu");
    assert_null(engine->placements[1].device);
    assert_int_equal(told_level, DS_LOG_INFO);
    ds_engine_destroy(engine);
}

/* A device that turns out to have less than was planned. */
static struct {
    const struct ds_device_fns *real;
    struct ds_device_fns fns;
    uint64_t left;
} small;

static ds_status small_create(struct ds_device *device, uint64_t bytes, struct ds_buffer **out, struct ds_error *err) {
    if (bytes > small.left) return ds_fail(err, DS_ERROR_MEMORY, "%llu bytes on a small device", (unsigned long long)bytes);
    DS_TRY(small.real->buffer_create(device, bytes, out, err));
    small.left -= bytes;
    return DS_OK;
}

static void small_destroy(struct ds_buffer *buffer) {
    if (buffer) small.left += buffer->bytes;
    small.real->buffer_destroy(buffer);
}

static void make_small(ds_engine *engine, uint64_t bytes) {
    struct ds_device *device = engine->placements[0].device;
    small.real = device->fns;
    small.fns = *small.real;
    small.fns.buffer_create = small_create;
    small.fns.buffer_destroy = small_destroy;
    small.left = bytes;
    device->fns = &small.fns;
}

static void memory_that_is_out_while_preparing_moves_layers_and_goes_on(void **state) {
    (void)state;
    static struct stream expected, found;
    ds_engine_params params = params_on("ref", drafter_folder);
    ds_engine *engine = open_engine(&params);
    expected = answer(engine, &all_asked[3]);
    const uint64_t all = bytes_on(engine, 0);
    ds_engine_destroy(engine);
    uint32_t fewest = TINY_LAYERS, most = 0;
    for (uint64_t bytes = all; bytes > all / 2; bytes -= all / 24) {
        struct ds_error err;
        params = telling("ref,cpu", drafter_folder);
        check_ok(ds_engine_open(&params, &engine, &err), &err);
        make_small(engine, bytes);
        const ds_status status = ds_engine_prepare(engine, NULL, NULL, &err);
        if (status != DS_OK) { /* not even embedding and head */
            assert_int_equal(status, DS_ERROR_MEMORY);
            assert_int_equal(engine->sharing.layers[0], 0);
            assert_int_equal(small.left, bytes); /* all was given back */
            ds_engine_destroy(engine);
            break;
        }
        fewest = DS_MIN(fewest, engine->sharing.layers[0]);
        most = DS_MAX(most, engine->sharing.layers[0]);
        if (bytes < all) assert_int_equal(told_level, DS_LOG_WARNING);
        ds_engine_info info = {.size = sizeof info};
        ds_engine_get_info(engine, &info);
        assert_string_equal(info.device, engine->sharing.text);
        found = answer(engine, &all_asked[3]);
        same_stream(&found, &expected);
        ds_engine_destroy(engine);
    }
    assert_int_equal(most, TINY_LAYERS);
    assert_true(fewest < TINY_LAYERS);
}

static void a_number_of_layers_is_kept_even_where_memory_is_out(void **state) {
    (void)state;
    static const char *const devices[] = {"ref=2,cpu", "ref"};
    for (size_t i = 0; i < DS_COUNT(devices); i++) {
        struct ds_error err;
        ds_engine *engine;
        const ds_engine_params params = params_on(devices[i], NULL);
        check_ok(ds_engine_open(&params, &engine, &err), &err);
        make_small(engine, 20000);
        assert_int_equal(ds_engine_prepare(engine, NULL, NULL, &err), DS_ERROR_MEMORY);
        assert_int_equal(small.left, 20000);
        small.left = UINT64_MAX / 2;
        check_ok(ds_engine_prepare(engine, NULL, NULL, &err), &err); /* once there is room again */
        ds_engine_destroy(engine);
    }
}

/* --- what cannot be --- */

static void refuse(const char *device, const char *draft_device, ds_status expected, const char *part) {
    ds_engine_params params = params_on(device, drafter_folder);
    params.draft_device = draft_device;
    ds_engine *engine = NULL;
    struct ds_error err;
    const ds_status status = ds_engine_open(&params, &engine, &err);
    if (status != expected) fail_msg("%s: expected %s, found %s", device, ds_status_name(expected), ds_status_name(status));
    assert_null(engine);
    check_contains(err.message, part);
}

static void a_list_that_makes_no_sense_is_refused_by_name(void **state) {
    (void)state;
    refuse("cpu,", NULL, DS_ERROR_ARGUMENT, "a name is missing");
    refuse(",cpu", NULL, DS_ERROR_ARGUMENT, "a name is missing");
    refuse("=2,cpu", NULL, DS_ERROR_ARGUMENT, "a name is missing");
    refuse("cpu=,ref", NULL, DS_ERROR_ARGUMENT, "neither a number of layers nor a size");
    refuse("cpu=-1,ref", NULL, DS_ERROR_ARGUMENT, "neither a number of layers nor a size");
    refuse("cpu=2x,ref", NULL, DS_ERROR_ARGUMENT, "neither a number of layers nor a size");
    refuse("cpu=0G,ref", NULL, DS_ERROR_ARGUMENT, "neither a number of layers nor a size");
    refuse("cpu=99999999999999999999,ref", NULL, DS_ERROR_ARGUMENT, "neither a number of layers nor a size");
    refuse("cpu=4294967295T,ref", NULL, DS_ERROR_ARGUMENT, "neither a number of layers nor a size");
    refuse("cpu=1=2,ref", NULL, DS_ERROR_ARGUMENT, "neither a number of layers nor a size");
    refuse("cpu,ref,cpu", NULL, DS_ERROR_ARGUMENT, "device 'cpu' is named twice");
    refuse("cpu,gpu9", NULL, DS_ERROR_DEVICE, "\"gpu9\"");
    refuse("cpu,a,b,c,d,e,f,g,h", NULL, DS_ERROR_ARGUMENT, "more than 8 devices");
    refuse("cpu,aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", NULL, DS_ERROR_ARGUMENT, "longer than any");
    refuse("cpu=4,ref", NULL, DS_ERROR_ARGUMENT, "asks for 4 layers; the model has 3");
    refuse("cpu=4294967297,ref", NULL, DS_ERROR_ARGUMENT, "layers; the model has 3");
    refuse("cpu=1,ref=1", NULL, DS_ERROR_ARGUMENT, "places 2 of the model's 3 layers");
    refuse("cpu=2", NULL, DS_ERROR_ARGUMENT, "places 2 of the model's 3 layers");
    refuse("cpu=1K,ref=2", NULL, DS_ERROR_MEMORY, "fewer layers there");
    refuse("cpu=8K", NULL, DS_ERROR_MEMORY, "a second device named behind it");
    refuse("cpu=1,ref", "cpu,ref", DS_ERROR_ARGUMENT, "a drafter lies on one device");
    refuse("cpu=1,ref", "cpu=1", DS_ERROR_ARGUMENT, "a drafter lies on one device");
}

static void a_device_without_layers_is_not_used(void **state) {
    (void)state;
    static const char *const devices[] = {"cpu=3,ref", "cpu=3", "cpu,ref=0"};
    for (size_t i = 0; i < DS_COUNT(devices); i++) {
        const ds_engine_params params = params_on(devices[i], NULL);
        ds_engine *engine = open_engine(&params);
        assert_int_equal(engine->target.n_stages, 1);
        assert_string_equal(engine->sharing.text, "cpu");
        ds_engine_destroy(engine);
    }
}

static void measured_costs_are_of_one_placement(void **state) {
    (void)state;
    char *files = check_make_folder();
    static const char *const devices[] = {"cpu", "cpu=1,ref", "cpu=2,ref"};
    for (size_t i = 0; i < DS_COUNT(devices); i++) {
        ds_engine_params params = params_on(devices[i], drafter_folder);
        params.cache = files;
        ds_engine *engine = open_engine(&params);
        struct ds_pace_learned learned;
        assert_false(ds_costs_load(engine, &learned)); /* another placement's are not taken */
        (void)answer(engine, &all_asked[2]);
        assert_true(ds_costs_load(engine, &learned));
        ds_engine_destroy(engine);
    }
    check_remove_folder(files);
}

static void a_pass_is_measured_op_by_op_over_all_devices(void **state) {
    (void)state;
    struct ds_error err;
    ds_dev_profile one, cut;
    static const char *const devices[] = {"cpu", "cpu=1,ref"};
    for (size_t i = 0; i < 2; i++) {
        const ds_engine_params params = params_on(devices[i], drafter_folder);
        ds_engine *engine = open_engine(&params);
        const ds_session_params how = session_params(&all_asked[1]);
        ds_session *session = new_session(engine, &how);
        append(session, prompt, DS_COUNT(prompt));
        generate(session, LENGTH);
        check_ok(ds_dev_profile_pass(session, 4, i ? &cut : &one, &err), &err);
        ds_dev_roofline limits;
        if (i) {
            assert_int_equal(ds_dev_measure_roofline(engine, &limits, &err), DS_ERROR_UNSUPPORTED);
            check_contains(err.message, "cpu=1,ref=2");
        }
        generate(session, LENGTH); /* and goes on */
        ds_session_destroy(session);
        ds_engine_destroy(engine);
    }
    uint64_t macs[2] = {0, 0};
    for (size_t i = 0; i < one.count; i++) macs[0] += one.ops[i].macs;
    for (size_t i = 0; i < cut.count; i++) macs[1] += cut.ops[i].macs;
    assert_true(macs[0] > 0 && macs[0] == macs[1]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_cut_changes_a_token_whatever_is_asked_for),
        cmocka_unit_test(taps_of_every_stage_reach_every_kind_of_drafter),
        cmocka_unit_test(a_drafter_sees_the_same_features_and_drafts_the_same),
        cmocka_unit_test(sessions_of_a_batch_go_through_all_stages_together),
        cmocka_unit_test(beginnings_are_shared_on_every_device),
        cmocka_unit_test(a_session_is_saved_by_one_placement_and_goes_on_in_another),
        cmocka_unit_test(every_family_can_be_cut_and_keeps_its_bits),
        cmocka_unit_test(per_layer_inputs_are_carried_and_layers_that_share_keys_stay_together),
        cmocka_unit_test(layers_that_a_device_has_no_room_for_go_to_the_next_and_that_is_told),
        cmocka_unit_test(memory_that_is_out_while_preparing_moves_layers_and_goes_on),
        cmocka_unit_test(a_number_of_layers_is_kept_even_where_memory_is_out),
        cmocka_unit_test(a_list_that_makes_no_sense_is_refused_by_name),
        cmocka_unit_test(a_device_without_layers_is_not_used),
        cmocka_unit_test(measured_costs_are_of_one_placement),
        cmocka_unit_test(a_pass_is_measured_op_by_op_over_all_devices),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
