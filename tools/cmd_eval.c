#include "eval.h"
#include "prompt_sets.h"
#include "svg_file.h"

#include <stddef.h>
#include <stdlib.h>

struct eval_options {
    struct ds_cli_engine engine;
    struct ds_cli_draft draft;
    struct ds_cli_sampling sampling;
    uint32_t tokens, limit;
    bool json, no_speed, deepspec;
    const char *svg;
};

#define AT(member) .offset = offsetof(struct eval_options, member)
static const struct ds_cli_option eval_options[] = {
    {.letter = 'n', .name = "max-tokens", .value = "N", .kind = DS_CLI_UINT, AT(tokens), .min = 1, .max = 65536,
     .help = "tokens an answer has at most (default: 128)"},
    {.name = "limit", .value = "N", .kind = DS_CLI_UINT, AT(limit), .min = 1, .max = 1000000,
     .help = "prompts taken from each file at most, spread over it (default: 20)"},
    {.name = "no-speed", .kind = DS_CLI_FLAG, AT(no_speed), .help = "do not answer again without the drafter, so that no speed-up is known"},
    {.name = "deepspec", .kind = DS_CLI_FLAG, AT(deepspec), .help = "the table as DeepSpec, the reference implementation, prints it"},
    {.name = "json", .kind = DS_CLI_FLAG, AT(json), .help = "one JSON object instead of the table"},
    {.name = "svg", .value = "FILE", .kind = DS_CLI_STRING, AT(svg), .help = "a drawing: the share of rounds that accept so many drafts, by set"},
    {0}};
#undef AT
static const struct ds_cli_group eval_groups[] = {
    {.title = "Model", .options = ds_cli_engine_options, .base = offsetof(struct eval_options, engine)},
    {.title = "Speculation", .options = ds_cli_draft_options, .base = offsetof(struct eval_options, draft)},
    {.title = "Sampling", .options = ds_cli_sampling_options, .base = offsetof(struct eval_options, sampling)},
    {.title = "Evaluation", .options = eval_options},
    {0}};

struct eval {
    struct eval_options options;
    const char *files[DS_EVAL_MOST_SETS];
    ds_engine *engine;
    ds_session_params params;
    ds_session *session;
    struct ds_svg_file svg;
    size_t at; /* the set that is being answered */
    struct ds_eval_result result;
};

/* --- measuring --- */

/* A stop token among the accepted drafts ends the block: what lies behind it is no proposal any more. */
static size_t before_stop(const struct eval *e, const ds_round *round) {
    for (size_t k = 0; k < round->accepted; k++)
        if (!e->params.ignore_stop && ds_is_stop_token(e->engine, round->draft[k])) return k + 1;
    return round->verified;
}

static void count_round(void *user, const ds_round *round) {
    struct eval *const e = user;
    struct ds_eval_set *const set = &e->result.sets[e->at];
    const size_t proposed = before_stop(e, round), accepted = round->accepted < proposed ? round->accepted : proposed;
    for (size_t k = 0; k < round->verified && k <= round->accepted; k++) set->reached[k]++;
    for (size_t k = 0; k < round->accepted; k++) set->accepted[k]++;
    for (size_t k = 0; k < proposed; k++) set->proposed_at[k]++;
    for (size_t k = 0; k < accepted; k++) set->kept_at[k]++;
    set->proposed += proposed;
    ds_dev_outcomes_add(set->outcomes, round);
}

static int answer_all(struct eval *e, const struct ds_prompt_set *prompts, ds_spec_mode spec, struct ds_eval_set *set, struct ds_cli_progress *progress) {
    ds_session_params params = e->params;
    struct ds_error err;
    if (spec == DS_SPEC_OFF) params.spec = DS_SPEC_OFF;
    if (ds_session_configure(e->session, &params, &err) != DS_OK) return ds_cli_fail(&err);
    ds_session_reset_stats(e->session);
    ds_session_set_trace(e->session, spec == DS_SPEC_OFF ? NULL : count_round, e);
    int code = DS_CLI_GO;
    size_t left_out = 0;
    for (size_t i = 0; code == DS_CLI_GO && i < prompts->count; i++) {
        ds_cli_progress(progress, i, prompts->count);
        ds_cli_watch(e->session);
        code = ds_prompt_answer(e->engine, e->session, prompts->prompts[i], e->options.tokens, &left_out);
        ds_cli_watch(NULL);
        if (ds_cli_interrupted()) code = DS_CLI_INTERRUPTED;
    }
    ds_stats *const stats = spec == DS_SPEC_OFF ? &set->plain : &set->spec;
    stats->size = sizeof *stats;
    ds_session_get_stats(e->session, stats);
    if (spec != DS_SPEC_OFF) set->left_out = left_out;
    return code;
}

/* Judged are confidences as the drafter gives them; those that are used may be scaled by a calibration beside it. */
static void judge(struct ds_eval_set *set) {
    static ds_dev_quality quality;
    if (ds_dev_calibration_quality(set->outcomes, NULL, &quality, NULL) != DS_OK) return;
    set->has_quality = true;
    set->ece = quality.all.ece;
    set->auc = quality.all.auc;
}

static int run_set(struct eval *e, size_t index) {
    struct ds_eval_set *const set = &e->result.sets[index];
    struct ds_prompt_set prompts;
    e->at = index;
    int code = ds_prompt_set_read(e->files[index], e->options.limit, &prompts);
    struct ds_cli_progress progress = {.what = prompts.name};
    if (code == DS_CLI_GO) {
        struct ds_error err;
        if (ds_dev_outcomes_create(e->engine, &set->outcomes, &err) != DS_OK) code = ds_cli_fail(&err);
    }
    if (code == DS_CLI_GO) {
        ds_cli_progress(&progress, 0, 0);
        code = answer_all(e, &prompts, e->params.spec, set, &progress);
        if (code == DS_CLI_GO && !e->options.no_speed) code = answer_all(e, &prompts, DS_SPEC_OFF, set, &progress);
        ds_cli_progress_end(&progress);
        if (set->left_out) ds_prompts_left_out(e->files[index], set->left_out, e->result.info.context);
        judge(set);
    }
    set->prompts = prompts.count;
    set->name = prompts.name;
    prompts.name = NULL;
    ds_prompt_set_free(&prompts);
    return code;
}

/* --- the command --- */

static int start(struct eval *e) {
    struct ds_error err;
    int code = ds_cli_session_params(&ds_command_eval, &e->options.draft, &e->options.sampling, &e->result.info, &e->params);
    if (code == DS_CLI_GO && e->params.spec == DS_SPEC_OFF) code = ds_cli_usage(&ds_command_eval, "--spec off leaves nothing to evaluate");
    if (code == DS_CLI_GO && !e->options.draft.spec.given) {
        e->params.spec = DS_SPEC_FIXED; /* tau is comparable with others' where blocks are verified whole */
        e->params.spec_length = e->result.info.block_size;
    }
    if (code == DS_CLI_GO) code = ds_cli_prepare(e->engine, NULL);
    if (code != DS_CLI_GO) return code;
    return ds_session_create(e->engine, &e->params, &e->session, &err) == DS_OK ? DS_CLI_GO : ds_cli_fail(&err);
}

static int eval(struct eval *e) {
    while (e->result.n_sets < DS_EVAL_MOST_SETS && e->files[e->result.n_sets]) e->result.n_sets++;
    if (!e->options.draft.drafter) return ds_cli_usage(&ds_command_eval, "a drafter is missing: give one with --drafter PATH");
    if (e->options.json && e->options.deepspec) return ds_cli_usage(&ds_command_eval, "--json and --deepspec: expected one of them");
    ds_cli_catch_interrupt();
    int code = ds_svg_open(&e->svg, e->options.svg);
    if (code == DS_CLI_GO) code = ds_cli_open(&ds_command_eval, &e->options.engine, &e->options.draft, &e->engine, &e->result.info);
    if (code == DS_CLI_GO) code = start(e);
    for (size_t i = 0; code == DS_CLI_GO && i < e->result.n_sets; i++) code = run_set(e, i);
    if (code != DS_CLI_GO) return code;
    struct ds_eval_result *const r = &e->result;
    r->target = e->options.engine.target;
    r->drafter = e->options.draft.drafter;
    r->temperature = e->params.sampling.temperature;
    if (e->options.json) ds_eval_print_json(r);
    else if (e->options.deepspec) ds_eval_print_deepspec(r);
    else ds_eval_print_table(r);
    if (e->svg.out) ds_eval_put_drawing(e->svg.out, r);
    code = ds_svg_commit(&e->svg);
    return code == DS_CLI_GO ? DS_CLI_DONE : code;
}

static int eval_main(int argc, char **argv) {
    static struct eval e; /* large, and there is one */
    e = (struct eval){.options = {.engine = DS_CLI_ENGINE_DEFAULTS, .tokens = 128, .limit = 20}};
    int code = ds_cli_parse(&ds_command_eval, argc, argv, &e.options, e.files);
    if (code == DS_CLI_GO) code = eval(&e);
    for (size_t i = 0; i < DS_EVAL_MOST_SETS; i++) {
        free(e.result.sets[i].name);
        ds_dev_outcomes_destroy(e.result.sets[i].outcomes);
    }
    ds_svg_close(&e.svg);
    ds_session_destroy(e.session);
    ds_engine_destroy(e.engine);
    return ds_cli_finish(code);
}

const struct ds_cli_command ds_command_eval = {
    .name = "eval",
    .summary = "accepted length and speed-up over sets of prompts",
    .synopsis = "-m MODEL -d DRAFTER [options] FILE...",
    .details = "Answers the prompts of each file (JSONL: one `{\"turns\": [\"..\"]}` a line) with the drafter and once more without it, and prints, "
               "by set, the mean number of tokens a round commits (`tau`, the target's own token counted), tokens a second both ways, the "
               "calibration error and AUC of the drafter's confidences as they come from its confidence head (without one: from the probability it "
               "gives its own drafts), and the rate at which drafts of each position "
               "are accepted, those before them having been. Blocks are verified whole unless --spec says otherwise.",
    .examples = "dspark eval -m models/tiny/target -d models/tiny/dspark --limit 10 maths.jsonl code.jsonl\n"
                "dspark eval -m models/tiny/target -d models/tiny/dspark --spec auto --temp 1 --seed 1 --json chat.jsonl",
    .groups = eval_groups,
    .min_operands = 1,
    .max_operands = DS_EVAL_MOST_SETS,
    .operand = "FILE",
    .main = eval_main,
};
