/*
 * Which devices the models lie on, and how many layers of the target each of them gets.
 *
 *   DEVICE[=SHARE][,DEVICE[=SHARE]]...     SHARE: layers (24), or memory that may be used (6G)
 *
 * The first device is home: embedding, head and sampling lie there, with the first layers. A device that was given a number of layers keeps it; each
 * of the others, in their order, takes as many of the layers that are left as its memory has room for.
 */
#include "engine/engine_internal.h"

#include "base/quote.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- what the user wrote --- */

enum { MOST_NAME = 64 };

struct wish {
    char name[MOST_NAME];
    bool has_layers;
    uint32_t layers;
    uint64_t bytes; /* 0: what the device has */
};

static ds_status bad_list(const char *text, const char *what, struct ds_error *err) {
    return ds_fail(err, DS_ERROR_ARGUMENT, "device list '%s': %s; expected names divided by commas, each perhaps with a share: cuda:0=24,cpu (24 layers) or "
                   "cuda:0=6G,cpu (what fits into 6 GiB)", ds_quote_name(text).text, what);
}

/* "24" or "6G". */
static bool read_share(const char *text, size_t length, struct wish *wish) {
    static const char units[] = "KMGT";
    uint64_t value = 0;
    size_t i = 0;
    for (; i < length && text[i] >= '0' && text[i] <= '9'; i++) {
        if (value > UINT32_MAX) return false;
        value = 10 * value + (uint64_t)(text[i] - '0');
    }
    if (i == 0 || i + 1 < length) return false;
    if (i == length) {
        wish->has_layers = true;
        wish->layers = (uint32_t)DS_MIN(value, (uint64_t)UINT32_MAX);
        return true;
    }
    const char *unit = strchr(units, text[i]);
    if (!unit || !*unit || !value) return false;
    return ds_mul_u64(value, UINT64_C(1) << 10 * (unit - units + 1), &wish->bytes);
}

static ds_status read_wish(const char *list, const char *text, size_t length, struct wish *wish, struct ds_error *err) {
    const char *equals = memchr(text, '=', length);
    const size_t n = equals ? (size_t)(equals - text) : length;
    *wish = (struct wish){.has_layers = false};
    if (n == 0) return bad_list(list, "a name is missing", err);
    if (n >= sizeof wish->name) return bad_list(list, "a name is longer than any device's", err);
    memcpy(wish->name, text, n);
    if (equals && !read_share(equals + 1, length - n - 1, wish)) return bad_list(list, "a share is neither a number of layers nor a size such as 6G", err);
    return DS_OK;
}

static ds_status read_wishes(const char *list, struct wish wishes[DS_MOST_STAGES], uint32_t *n, struct ds_error *err) {
    *n = 0;
    for (const char *text = list;; text++) {
        const size_t length = strcspn(text, ",");
        if (*n == DS_MOST_STAGES)
            return ds_fail(err, DS_ERROR_ARGUMENT, "device list '%s' has more than %d devices", ds_quote_name(list).text, DS_MOST_STAGES);
        DS_TRY(read_wish(list, text, length, &wishes[(*n)++], err));
        text += length;
        if (!*text) return DS_OK;
    }
}

/* --- devices --- */

/* A device whose tokens would differ is used only by those who said that they may. */
static ds_status require_exact(const ds_engine *engine, const struct ds_device_limits *limits, struct ds_error *err) {
    if (limits->exact) return DS_OK;
    if (engine->params.numerics != DS_NUMERICS_FAST)
        return ds_fail(err, DS_ERROR_DEVICE, "device '%s' fails the self-test of the numerics contract (%s): its tokens would differ; choose another device, "
                       "or fast numerics (--numerics fast) to use it nevertheless", limits->name, limits->note);
    ds_logf(&engine->log, DS_LOG_WARNING, "device %s fails the self-test of the numerics contract (%s): tokens may differ from those of other devices",
            limits->name, limits->note);
    return DS_OK;
}

static void tell_of_variants(const ds_engine *engine, const struct ds_device_limits *limits) {
    if (engine->params.numerics != DS_NUMERICS_FAST) return;
    if (limits->fast)
        ds_logf(&engine->log, DS_LOG_WARNING, "device %s: fast numerics: %s: tokens may differ from those of other devices, and with the number of rows in a pass",
                limits->name, limits->fast);
    else if (limits->exact) ds_logf(&engine->log, DS_LOG_INFO, "device %s has no fast variants: it is exact", limits->name);
}

static ds_status place(ds_engine *engine, const char *name, struct ds_error *err) {
    const struct ds_device_params device_params = {.threads = engine->threads, .modules = engine->params.modules,
                                                   .cache = engine->params.cache, .log = engine->log,
                                                   .fast = engine->params.numerics == DS_NUMERICS_FAST};
    struct ds_placement *out = &engine->placements[engine->n_placements++];
    DS_TRY(ds_device_create(name, &device_params, &out->device, err));
    struct ds_device_limits limits;
    out->device->fns->limits(out->device, &limits);
    out->name = malloc(strlen(limits.name) + 1);
    if (!out->name) return ds_fail_memory(err, strlen(limits.name) + 1, "a device's name");
    strcpy(out->name, limits.name);
    if (!limits.host_memory) out->most_bytes = limits.memory_bytes; /* host memory is shared: the budget's business */
    DS_TRY(require_exact(engine, &limits, err));
    tell_of_variants(engine, &limits);
    return out->device->fns->stream_create(out->device, &out->stream, err);
}

void ds_placement_close(struct ds_placement *p) {
    ds_loader_destroy(p->loader);
    ds_buffer_drop(&p->scratch);
    if (p->stream) p->device->fns->stream_destroy(p->stream);
    ds_device_destroy(p->device);
    free(p->name);
    *p = (struct ds_placement){0};
}

static bool is_host(const struct ds_placement *p) {
    struct ds_device_limits limits;
    p->device->fns->limits(p->device, &limits);
    return limits.host_memory;
}

static ds_status place_wishes(ds_engine *engine, const struct wish *wishes, uint32_t n, struct ds_error *err) {
    for (uint32_t i = 0; i < n; i++) {
        DS_TRY(place(engine, wishes[i].name, err));
        struct ds_placement *p = &engine->placements[i];
        for (uint32_t k = 0; k < i; k++)
            if (strcmp(engine->placements[k].name, p->name) == 0)
                return ds_fail(err, DS_ERROR_ARGUMENT, "device '%s' is named twice: the layers of one device lie together, so name it once", p->name);
        if (wishes[i].bytes) p->most_bytes = p->most_bytes ? DS_MIN(p->most_bytes, wishes[i].bytes) : wishes[i].bytes;
    }
    return DS_OK;
}

/* Unasked, the best device is taken; what it has no room for may lie with the processor. */
static ds_status place_best(ds_engine *engine, uint32_t *n, struct ds_error *err) {
    DS_TRY(place(engine, NULL, err));
    *n = 1;
    if (is_host(&engine->placements[0])) return DS_OK;
    *n = 2;
    return place(engine, "cpu", err);
}

static ds_status place_drafter(ds_engine *engine, struct ds_error *err) {
    const char *name = engine->params.draft_device;
    if (!engine->draft_model || !name) return DS_OK;
    if (strpbrk(name, ",="))
        return ds_fail(err, DS_ERROR_ARGUMENT, "draft device '%s': a drafter lies on one device; expected one name", ds_quote_name(name).text);
    for (uint32_t i = 0; i < engine->n_placements; i++) {
        engine->draft_place = i;
        if (strcmp(engine->placements[i].name, name) == 0) return DS_OK;
    }
    engine->draft_place = engine->n_placements;
    DS_TRY(place(engine, name, err));
    for (uint32_t i = 0; i < engine->draft_place; i++) /* by another name, such as "cuda" for "cuda:0" */
        if (strcmp(engine->placements[i].name, engine->placements[engine->draft_place].name) == 0) {
            ds_placement_close(&engine->placements[--engine->n_placements]);
            engine->draft_place = i;
        }
    return DS_OK;
}

/* --- shares --- */

static ds_status check_given(const ds_engine *engine, const char *list, uint64_t sum, bool all, struct ds_error *err) {
    const uint32_t layers = engine->model->config.layers;
    if (sum > layers)
        return ds_fail(err, DS_ERROR_ARGUMENT, "device list '%s' asks for %llu layers; the model has %u", ds_quote_name(list).text, (unsigned long long)sum, layers);
    if (!all || sum == layers) return DS_OK;
    return ds_fail(err, DS_ERROR_ARGUMENT, "device list '%s' places %llu of the model's %u layers; numbers that add up to %u, or one device without a number, "
                   "place them all", ds_quote_name(list).text, (unsigned long long)sum, layers, layers);
}

/* All that is left begins with the first device that takes what is left. */
static ds_status share_out(ds_engine *engine, const char *list, const struct wish *wishes, struct ds_error *err) {
    struct ds_sharing *s = &engine->sharing;
    uint64_t sum = 0;
    bool all = true;
    for (uint32_t i = 0; i < s->n; i++) {
        s->given[i] = wishes && wishes[i].has_layers;
        s->layers[i] = s->given[i] ? wishes[i].layers : 0;
        sum += s->layers[i];
        all &= s->given[i];
    }
    DS_TRY(check_given(engine, list, sum, all, err));
    for (uint32_t i = 0; i < s->n; i++) {
        if (s->given[i]) continue;
        s->layers[i] = engine->model->config.layers - (uint32_t)sum;
        break;
    }
    return DS_OK;
}

ds_status ds_place_models(ds_engine *engine, struct ds_error *err) {
    const char *list = engine->params.device;
    struct wish wishes[DS_MOST_STAGES];
    uint32_t *n = &engine->sharing.n;
    const bool named = list && *list;
    if (named) DS_TRY(read_wishes(list, wishes, n, err));
    if (named) DS_TRY(place_wishes(engine, wishes, *n, err));
    else DS_TRY(place_best(engine, n, err));
    DS_TRY(place_drafter(engine, err));
    return share_out(engine, list, named ? wishes : NULL, err);
}

bool ds_sharing_move(ds_engine *engine, uint32_t place, uint32_t layers) {
    struct ds_sharing *s = &engine->sharing;
    if (place >= s->n || s->given[place] || !s->layers[place]) return false;
    for (uint32_t i = place + 1; i < s->n; i++) {
        if (s->given[i]) continue;
        layers = DS_MIN(layers, s->layers[place]);
        s->layers[place] -= layers;
        s->layers[i] += layers;
        return true;
    }
    return false;
}

/* Ends of stages at which layers may be parted. */
static ds_status settle_ends(ds_engine *engine, struct ds_error *err) {
    const struct ds_model_config *c = &engine->model->config;
    const struct ds_sharing *s = &engine->sharing;
    uint32_t end = 0;
    for (uint32_t i = 0; i < s->n; i++) {
        const uint32_t first = end;
        end += s->layers[i];
        if (ds_config_may_cut(c, end)) continue; /* the model's own end always may be one */
        uint32_t most = end;
        while (!ds_config_may_cut(c, most)) most--;
        if (most < first || !ds_sharing_move(engine, i, end - most))
            return ds_fail(err, DS_ERROR_UNSUPPORTED, "%s: a cut in front of layer %u parts layers from those whose keys and values they read; the last place "
                           "before it where this model can be cut is in front of layer %u", ds_ckpt_path(engine->target_ckpt), end, most);
        end = most;
    }
    return DS_OK;
}

static void write_text(ds_engine *engine) {
    struct ds_sharing *s = &engine->sharing;
    size_t used = 0;
    for (uint32_t i = 0; i < s->n_stages && used < sizeof s->text; i++) {
        const uint32_t place = s->places[i];
        const char *name = engine->placements[place].name;
        const int n = s->n_stages == 1 ? snprintf(s->text, sizeof s->text, "%s", name)
                                       : snprintf(s->text + used, sizeof s->text - used, "%s%s=%u", i ? "," : "", name, s->layers[place]);
        used += n > 0 ? (size_t)n : 0;
    }
}

ds_status ds_sharing_settle(ds_engine *engine, struct ds_error *err) {
    struct ds_sharing *s = &engine->sharing;
    DS_TRY(settle_ends(engine, err));
    s->n_stages = 0;
    for (uint32_t i = 0; i < s->n; i++)
        if (!i || s->layers[i]) s->places[s->n_stages++] = i;
    write_text(engine);
    return DS_OK;
}

bool ds_placement_is_used(const ds_engine *engine, uint32_t place) {
    if (engine->draft_model && engine->draft_place == place) return true;
    return !place || (place < engine->sharing.n && engine->sharing.layers[place]);
}
