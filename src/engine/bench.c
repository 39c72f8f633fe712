/* dspark_dev.h: measurements of passes, drafts and of the machine's limits. */
#include "dspark_dev.h"
#include "engine/engine_internal.h"
#include "engine/op_times.h"
#include "roofline.h"

#include <string.h>

/* --- passes --- */

/* The last token is the anchor of the next round, which computes it (again). */
static uint32_t anchor_of(const struct ds_sequence *sequence) { return sequence->length - 1; }

static ds_status require_anchor(const ds_session *session, struct ds_error *err) {
    DS_TRY(ds_session_require_idle(session, err));
    const struct ds_sequence *s = &session->sequence;
    if (s->computed > 0 && s->computed + 1 >= s->length) return DS_OK;
    return ds_fail(err, DS_ERROR_ARGUMENT, "the session has %u tokens, %u of them computed; expected one that has just generated", s->length,
                   s->computed);
}

static ds_status check_rows(const ds_session *session, uint32_t rows, uint32_t outputs, struct ds_error *err) {
    const struct ds_target_params *p = &session->engine->target.params;
    const uint32_t anchor = anchor_of(&session->sequence);
    const uint32_t most = DS_MIN(DS_MIN(p->rows, p->out_rows), session->engine->params.context - anchor);
    if (rows >= 1 && rows <= most && (outputs < 1 || outputs > rows))
        return ds_fail(err, DS_ERROR_ARGUMENT, "logits of %u rows of a pass of %u were asked for; expected 1 to %u", outputs, rows, rows);
    if (rows >= 1 && rows <= most) return DS_OK;
    return ds_fail(err, DS_ERROR_LIMIT, "a pass of %u rows behind %u positions was asked for; expected 1 to %u", rows, anchor, most);
}

/* The rows a verification would have; drafts are tokens of the sequence, whatever they mean. */
static ds_status fill_rows(ds_session *session, uint32_t n, uint32_t outputs, struct ds_error *err) {
    const struct ds_sequence *s = &session->sequence;
    struct ds_rows_buffer *rows = &session->engine->target.rows;
    const uint32_t anchor = anchor_of(s);
    DS_TRY(ds_sequence_reserve(&session->engine->spec, &session->sequence, anchor + n, err));
    for (uint32_t j = 0; j < n; j++) {
        const uint32_t position = anchor + j;
        rows->in_ids[j] = s->tokens[(anchor + j) % s->length]; /* the anchor, then the sequence from its start */
        rows->in_positions[j] = (int32_t)position;
        rows->in_sequences[j] = s->slot;
        rows->in_visible[j] = (int32_t)position + 1;
    }
    for (uint32_t i = 0; i < outputs; i++) {
        const uint32_t j = n - outputs + i;
        rows->in_out_index[i] = (int32_t)j;
        rows->in_sample[i] = ds_sample_row_of(&s->sampling, anchor + j + 1);
    }
    return DS_OK;
}

static ds_status timed_pass(ds_session *session, uint32_t rows, uint32_t outputs, double *seconds, struct ds_error *err) {
    DS_TRY(fill_rows(session, rows, outputs, err));
    const double start = ds_os_seconds();
    DS_TRY(ds_target_run(&session->engine->target, rows, outputs, false, err));
    *seconds = ds_os_seconds() - start;
    return DS_OK;
}

static ds_status timed_draft(ds_session *session, double *seconds, struct ds_error *err) {
    const struct ds_sequence *s = &session->sequence;
    struct ds_drafter *drafter = &session->engine->drafter;
    const uint32_t g = drafter->model->block_size, anchor = anchor_of(s);
    struct ds_sample_row sample[DS_MAX_BLOCK];
    for (uint32_t k = 0; k < g; k++) sample[k] = ds_sample_row_of(&s->sampling, anchor + 1 + k);
    DS_TRY(ds_sequence_reserve(&session->engine->spec, &session->sequence, anchor + drafter->model->block_rows, err));
    const double start = ds_os_seconds();
    DS_TRY(ds_drafter_block(drafter, s->slot, anchor, s->tokens[anchor], sample, g, err));
    *seconds = ds_os_seconds() - start;
    return DS_OK;
}

/* Op by op, as profile() does it. Slots are those of the drafter's latest block. */
static ds_status time_vocabulary(ds_session *session, double *seconds, struct ds_error *err) {
    const ds_engine *engine = session->engine;
    const struct ds_drafter *drafter = &engine->drafter;
    const struct ds_graph *graph = drafter->block_graphs[0][drafter->n_lengths - 1];
    const struct ds_graph_node *nodes = ds_graph_nodes(graph);
    const uint32_t count = ds_graph_node_count(graph);
    double block, times[DS_OPS_TIMED];
    DS_TRY(timed_draft(session, &block, err));
    *seconds = 0;
    for (uint32_t i = 0; i < count; i++) {
        const uint32_t k = i % DS_OPS_TIMED;
        if (k == 0) DS_TRY(ds_time_ops(drafter->params.stream, drafter->params.device, nodes + i, DS_MIN(count - i, (uint32_t)DS_OPS_TIMED), times, err));
        if (nodes[i].op == DS_OP_top_linear || (nodes[i].op == DS_OP_linear && nodes[i].params.linear.weight.rows == drafter->model->draft_vocabulary))
            *seconds += times[k];
    }
    return DS_OK;
}

/* --- ops --- */

/* Where in the model a linear's weights belong. */
static const char *place_of(const struct ds_model *model, const struct ds_weight *weight) {
    static const struct {
        const char *name;
        size_t offset;
    } places[] = {{"q", offsetof(struct ds_layer, q)},       {"k", offsetof(struct ds_layer, k)},   {"v", offsetof(struct ds_layer, v)},
                  {"o", offsetof(struct ds_layer, o)},       {"gate", offsetof(struct ds_layer, gate)}, {"up", offsetof(struct ds_layer, up)},
                  {"down", offsetof(struct ds_layer, down)}};
    for (uint32_t l = 0; l < model->config.layers; l++) {
        for (size_t i = 0; i < DS_COUNT(places); i++) {
            const struct ds_weight *w = (const struct ds_weight *)(const void *)((const char *)&model->layers[l] + places[i].offset);
            if (w->at.buffer == weight->at.buffer && w->at.offset == weight->at.offset) return places[i].name;
        }
    }
    return weight->at.buffer == model->head.at.buffer && weight->at.offset == model->head.at.offset ? "head" : "linear";
}

/* What is known about an op before it runs; `rows` of the pass. */
static ds_dev_op_time describe(const ds_engine *engine, const struct ds_graph_node *node, uint32_t rows) {
    if (node->op != DS_OP_linear) return (ds_dev_op_time){.name = ds_op_name(node->op), .calls = 1};
    const struct ds_weight *weight = &node->params.linear.weight;
    const struct ds_device *device = weight->at.buffer->device;
    return (ds_dev_op_time){.name = place_of(engine->model, weight),
                            .type = ds_type_get(weight->type)->name,
                            .calls = 1,
                            .weight_bytes = device->fns->weight_bytes(device, weight->type, weight->rows, weight->cols),
                            .macs = (uint64_t)weight->rows * weight->cols * rows};
}

/* Names and types come from tables, so equal ones have equal addresses. */
static ds_status add_op(ds_dev_profile *profile, const ds_dev_op_time *op, struct ds_error *err) {
    size_t i = 0;
    while (i < profile->count && (profile->ops[i].name != op->name || profile->ops[i].type != op->type)) i++;
    if (i == DS_DEV_MOST_OPS)
        return ds_fail(err, DS_ERROR_UNSUPPORTED, "the model's graph has more than %d kinds of ops", DS_DEV_MOST_OPS);
    ds_dev_op_time *sum = &profile->ops[i];
    if (i == profile->count) profile->ops[profile->count++] = (ds_dev_op_time){.name = op->name, .type = op->type};
    sum->calls += op->calls;
    sum->seconds += op->seconds;
    sum->weight_bytes += op->weight_bytes;
    sum->macs += op->macs;
    return DS_OK;
}

static ds_status profile_graph(const ds_engine *engine, const struct ds_target_graph *part, uint32_t rows, ds_dev_profile *out, struct ds_error *err) {
    const struct ds_graph_node *nodes = ds_graph_nodes(part->graph);
    const uint32_t count = ds_graph_node_count(part->graph);
    double times[DS_OPS_TIMED];
    for (uint32_t i = 0; i < count; i++) {
        const uint32_t k = i % DS_OPS_TIMED;
        if (k == 0) DS_TRY(ds_time_ops(part->stream, part->device, nodes + i, DS_MIN(count - i, (uint32_t)DS_OPS_TIMED), times, err));
        ds_dev_op_time op = describe(engine, &nodes[i], rows);
        op.seconds = times[k];
        DS_TRY(add_op(out, &op, err));
    }
    return DS_OK;
}

/* The pass leaves its inputs on the devices, so that its ops can be run once more, one by one. */
static ds_status profile(ds_session *session, uint32_t rows, ds_dev_profile *out, struct ds_error *err) {
    ds_engine *engine = session->engine;
    struct ds_target_graph graphs[DS_MOST_STAGES + 1];
    const uint32_t n = ds_target_graphs(&engine->target, rows, graphs);
    double unused;
    DS_TRY(timed_pass(session, rows, rows, &unused, err));
    for (uint32_t i = 0; i < n; i++) DS_TRY(profile_graph(engine, &graphs[i], rows, out, err));
    return DS_OK;
}

/* --- the machine's limits --- */

static ds_status measure_device(const ds_engine *engine, struct ds_cpu_roofline *out, struct ds_error *err) {
    const char *name = engine->sharing.text; /* several devices have no limits in common */
    if (strcmp(name, "cpu") == 0) return ds_cpu_roofline_measure(engine->threads, NULL, out, err);
    if (strcmp(name, "ref") == 0) return ds_cpu_roofline_measure(1, "base", out, err); /* one thread, whatever the compiler made */
    return ds_fail(err, DS_ERROR_UNSUPPORTED, "the limits of device '%s' cannot be measured; those of cpu and ref can", name);
}

static ds_status roofline(const ds_engine *engine, ds_dev_roofline *out, struct ds_error *err) {
    struct ds_cpu_roofline limits;
    DS_TRY(measure_device(engine, &limits, err));
    struct ds_target_graph graphs[DS_MOST_STAGES + 1];
    (void)ds_target_graphs(&engine->target, 1, graphs);
    const struct ds_graph *graph = graphs[0].graph;
    const struct ds_graph_node *nodes = ds_graph_nodes(graph);
    uint64_t of_type[DS_TYPE_COUNT] = {0}, most = 0;
    double seconds = 0; /* of a row's products, at the peak of the arithmetic of each */
    *out = (ds_dev_roofline){.isa = limits.isa, .type = "", .read = limits.read};
    for (uint32_t i = 0; i < ds_graph_node_count(graph); i++) {
        if (nodes[i].op != DS_OP_linear) continue;
        const ds_dev_op_time op = describe(engine, &nodes[i], 1);
        const ds_type type = nodes[i].params.linear.weight.type;
        of_type[type] += op.weight_bytes;
        out->weight_bytes += op.weight_bytes;
        out->macs += op.macs;
        seconds += (double)op.macs / limits.macs[type];
        if (of_type[type] <= most) continue;
        most = of_type[type];
        out->type = op.type;
    }
    out->peak = (double)out->macs / seconds;
    return DS_OK;
}

/* --- the calls --- */

/* Device work as the contract wants it: alone on the device, in the contract's float state. */
struct guard {
    ds_engine *engine;
    struct ds_float_state host;
};

static struct guard enter(ds_engine *engine) {
    const struct guard guard = {engine, ds_os_float_begin()};
    ds_os_mutex_lock(engine->lock);
    return guard;
}

static void leave(struct guard guard) {
    ds_os_mutex_unlock(guard.engine->lock);
    ds_os_float_restore(guard.host);
}

ds_status ds_dev_time_pass(ds_session *session, uint32_t rows, uint32_t outputs, double *seconds, struct ds_error *err) {
    DS_PUBLIC_ERROR(err);
    *seconds = 0;
    DS_TRY(require_anchor(session, err));
    DS_TRY(check_rows(session, rows, outputs, err));
    const struct guard guard = enter(session->engine);
    const ds_status status = timed_pass(session, rows, outputs, seconds, err);
    leave(guard);
    return status;
}

typedef ds_status (*draft_timer)(ds_session *session, double *seconds, struct ds_error *err);

static ds_status time_drafting(ds_session *session, draft_timer timer, double *seconds, struct ds_error *err) {
    *seconds = 0;
    DS_TRY(require_anchor(session, err));
    if (!session->engine->draft_model || session->sequence.drafted_context < anchor_of(&session->sequence))
        return ds_fail(err, DS_ERROR_ARGUMENT, "the session does not speculate, so that there is no draft to measure");
    const struct guard guard = enter(session->engine);
    const ds_status status = timer(session, seconds, err);
    leave(guard);
    return status;
}

ds_status ds_dev_time_draft(ds_session *session, double *seconds, struct ds_error *err) {
    DS_PUBLIC_ERROR(err);
    return time_drafting(session, timed_draft, seconds, err);
}

ds_status ds_dev_time_draft_vocabulary(ds_session *session, double *seconds, struct ds_error *err) {
    DS_PUBLIC_ERROR(err);
    return time_drafting(session, time_vocabulary, seconds, err);
}

/* Slots that there are graphs for, when so many are wanted. */
static double draft_of(const ds_engine *engine, const struct ds_costs *costs, uint32_t slots, uint32_t context) {
    return ds_cost_draft(costs, ds_drafter_length(&engine->drafter, slots), context);
}

ds_status ds_dev_measure_costs(ds_session *session, ds_dev_costs *out, struct ds_error *err) {
    DS_PUBLIC_ERROR(err);
    *out = (ds_dev_costs){0};
    DS_TRY(require_anchor(session, err));
    ds_engine *engine = session->engine;
    if (!engine->draft_model) return ds_fail(err, DS_ERROR_ARGUMENT, "there is no drafter, so that nothing is scheduled");
    const struct ds_float_state host = ds_os_float_begin();
    const ds_status status = ds_engine_know_costs(engine, &session->sequence, err);
    ds_os_float_restore(host);
    DS_TRY(status);
    ds_os_mutex_lock(engine->lock);
    const bool known = engine->scheduling.known;
    const struct ds_pace_learned learned = engine->scheduling.learned;
    ds_os_mutex_unlock(engine->lock);
    if (!known) return ds_fail(err, DS_ERROR_LIMIT, "the context has no room to measure behind %u positions", session->sequence.computed);
    out->context = session->sequence.computed;
    out->rows = DS_MIN(engine->draft_model->block_size + 1, 64);
    out->spread = learned.costs.table.spread;
    out->parked = learned.parked;
    for (uint32_t r = 1; r <= out->rows; r++) {
        out->pass[r] = ds_cost_pass(&learned.costs, r, out->context);
        out->feed[r] = ds_cost_feed(&learned.costs, r);
        if (r < out->rows) out->draft[r] = draft_of(engine, &learned.costs, r, out->context);
    }
    return DS_OK;
}

ds_status ds_dev_profile_pass(ds_session *session, uint32_t rows, ds_dev_profile *out, struct ds_error *err) {
    DS_PUBLIC_ERROR(err);
    out->count = 0;
    DS_TRY(require_anchor(session, err));
    DS_TRY(check_rows(session, rows, rows, err));
    const struct guard guard = enter(session->engine);
    const ds_status status = profile(session, rows, out, err);
    leave(guard);
    if (status != DS_OK) out->count = 0;
    return status;
}

ds_status ds_dev_measure_roofline(ds_engine *engine, ds_dev_roofline *out, struct ds_error *err) {
    DS_PUBLIC_ERROR(err);
    *out = (ds_dev_roofline){0};
    const struct guard guard = enter(engine); /* nothing else runs on the device meanwhile */
    const ds_status status = engine->state == DS_ENGINE_PREPARED
                                 ? roofline(engine, out, err)
                                 : ds_fail(err, DS_ERROR_ARGUMENT, "the engine is not prepared: call ds_engine_prepare first");
    leave(guard);
    return status;
}

uint64_t ds_dev_peak_rss(void) { return ds_os_peak_rss(); }
