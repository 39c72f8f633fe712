#include "calibrate.h"
#include "prompt_sets.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define AT(member) .offset = offsetof(struct ds_calibrate_options, member)
static const struct ds_cli_option calibrate_options[] = {
    {.letter = 'n', .name = "max-tokens", .value = "N", .kind = DS_CLI_UINT, AT(tokens), .min = 8, .max = 65536,
     .help = "tokens an answer has at most (default: 128)"},
    {.name = "limit", .value = "N", .kind = DS_CLI_UINT, AT(limit), .min = 2, .max = 1000000,
     .help = "prompts taken from each file at most, spread over it (default: 40)"},
    {.name = "recorded", .value = "FILE", .kind = DS_CLI_STRING, AT(recorded),
     .help = "also fit to what `--record` of `run` and `chat` has kept of real use; FILEs of prompts may then be left out"},
    {.name = "dry-run", .kind = DS_CLI_FLAG, AT(dry), .help = "fit and report, but write no calibration"},
    {.name = "json", .kind = DS_CLI_FLAG, AT(json), .help = "one JSON object instead of the table"},
    {.name = "svg", .value = "FILE", .kind = DS_CLI_STRING, AT(svg), .help = "a reliability diagram, before and after"},
    {.name = "shortlist", .value = "N", .kind = DS_CLI_STRING, AT(shortlist),
     .help = "also write a list of the N tokens said most often: only they are drafted; `auto`: as many as are fastest here"},
    {0}};
#undef AT
static const struct ds_cli_group calibrate_groups[] = {
    {.title = "Model", .options = ds_cli_engine_options, .base = offsetof(struct ds_calibrate_options, engine)},
    {.title = "Drafter", .options = ds_cli_draft_options, .base = offsetof(struct ds_calibrate_options, draft)},
    {.title = "Sampling", .options = ds_cli_sampling_options, .base = offsetof(struct ds_calibrate_options, sampling)},
    {.title = "Calibration", .options = calibrate_options},
    {0}};

/* --- collecting --- */

static void count_round(void *user, const ds_round *round) {
    struct ds_calibrate *const c = user;
    ds_dev_outcomes_add(c->fit, round);
    ds_shortlist_count(&c->shortlist, round);
}

static void hold_round(void *user, const ds_round *round) {
    struct ds_calibrate *const c = user;
    ds_dev_outcomes_add(c->held, round);
    ds_shortlist_hold(&c->shortlist, round);
}

static int collect_set(struct ds_calibrate *c, const char *file, struct ds_cli_progress *progress, size_t index) {
    struct ds_prompt_set set;
    size_t left_out = 0;
    int code = ds_prompt_set_read(file, c->options.limit, &set);
    for (size_t i = 0; code == DS_CLI_GO && i < set.count; i++) {
        ds_cli_progress(progress, index * 1000 + i * 1000 / set.count, c->n_files * 1000);
        ds_session_set_trace(c->session, i % 2 ? hold_round : count_round, c);
        ds_cli_watch(c->session);
        code = ds_prompt_answer(c->engine, c->session, set.prompts[i], c->options.tokens, &left_out);
        ds_cli_watch(NULL);
        if (ds_cli_interrupted()) code = DS_CLI_INTERRUPTED;
    }
    if (code == DS_CLI_GO && left_out) ds_prompts_left_out(file, left_out, c->info.context);
    ds_prompt_set_free(&set);
    return code;
}

static int start(struct ds_calibrate *c) {
    struct ds_error err;
    ds_session_params params;
    int code = ds_cli_session_params(&ds_command_calibrate, &c->options.draft, &c->options.sampling, &c->info, &params);
    if (code == DS_CLI_GO && (ds_dev_outcomes_create(c->engine, &c->fit, &err) != DS_OK || ds_dev_outcomes_create(c->engine, &c->held, &err) != DS_OK))
        return ds_cli_fail(&err);
    if (code == DS_CLI_GO && !ds_shortlist_start(&c->shortlist, c->info.vocabulary)) return ds_cli_failf("out of memory");
    if (code == DS_CLI_GO) code = ds_cli_prepare(c->engine, NULL);
    if (code != DS_CLI_GO) return code;
    params.spec = DS_SPEC_FIXED; /* whole blocks, so that every slot's fate is known */
    params.spec_length = c->info.block_size;
    return ds_session_create(c->engine, &params, &c->session, &err) == DS_OK ? DS_CLI_GO : ds_cli_fail(&err);
}

static int take_recorded(struct ds_calibrate *c) {
    struct ds_error err;
    return ds_dev_outcomes_load(c->fit, c->held, c->options.recorded, &err) == DS_OK ? DS_CLI_GO : ds_cli_fail(&err);
}

static int collect(struct ds_calibrate *c) {
    struct ds_cli_progress progress = {.what = "answering"};
    int code = DS_CLI_GO;
    ds_cli_progress(&progress, 0, 0);
    for (size_t i = 0; code == DS_CLI_GO && i < c->n_files; i++) code = collect_set(c, c->files[i], &progress, i);
    ds_cli_progress_end(&progress);
    if (code == DS_CLI_GO && c->options.recorded) code = take_recorded(c);
    const size_t fit = ds_dev_outcomes_count(c->fit), held = ds_dev_outcomes_count(c->held);
    if (code != DS_CLI_GO || (fit && held)) return code;
    return ds_cli_failf("%zu rounds to fit to and %zu held out: expected some of both; every other prompt of a file is held out, and every other recorded "
                        "answer, so give at least two, with answers of more than one token",
                        fit, held);
}

/* How many tokens the list has: what --shortlist says. */
static int read_size(struct ds_calibrate *c) {
    const char *const text = c->options.shortlist;
    char *end;
    if (!text || strcmp(text, "auto") == 0) return DS_CLI_GO;
    const unsigned long size = strtoul(text, &end, 10);
    if (*end || end == text || size < 1 || size >= c->info.vocabulary)
        return ds_cli_usage(&ds_command_calibrate, "--shortlist: '%s' is neither `auto` nor a number from 1 to %" PRIu32, text, c->info.vocabulary - 1);
    c->listed = (uint32_t)size;
    return DS_CLI_GO;
}

/* Stop tokens end answers, so they are said once an answer at most: without them no draft could end one. */
static void keep_stops(struct ds_calibrate *c) {
    struct ds_shortlist *const l = &c->shortlist;
    for (uint32_t t = 0; t < l->vocabulary; t++)
        if (ds_is_stop_token(c->engine, (ds_token)t)) l->said[t] += UINT32_MAX;
}

static int shorten(struct ds_calibrate *c) {
    struct ds_error err;
    if (!c->options.shortlist) return DS_CLI_GO;
    if (ds_shortlist_measure(&c->shortlist, c->session, c->info.block_size, &err) != DS_OK) return ds_cli_fail(&err);
    keep_stops(c);
    ds_shortlist_rank(&c->shortlist);
    if (c->shortlist.out_of_memory) return ds_cli_failf("out of memory");
    if (!c->listed) c->listed = ds_shortlist_best(&c->shortlist);
    if (c->listed == c->info.vocabulary) c->listed = 0;
    if (!c->listed || c->options.dry) return DS_CLI_GO;
    return ds_dev_shortlist_save(c->engine, c->shortlist.order, c->listed, &c->list_path, &err) == DS_OK ? DS_CLI_GO : ds_cli_fail(&err);
}

static int fit(struct ds_calibrate *c) {
    struct ds_error err;
    /* They are measured behind the last answer. */
    if (c->n_files && ds_dev_measure_costs(c->session, &c->costs, &err) != DS_OK && err.status != DS_ERROR_LIMIT) return ds_cli_fail(&err);
    if (ds_dev_calibration_fit(c->fit, c->temperatures, &err) != DS_OK ||
        ds_dev_calibration_quality(c->held, NULL, &c->before, &err) != DS_OK ||
        ds_dev_calibration_quality(c->held, c->temperatures, &c->after, &err) != DS_OK)
        return ds_cli_fail(&err);
    if (c->options.dry || !ds_dev_outcomes_from_head(c->fit)) return DS_CLI_GO;
    const ds_status status = ds_dev_calibration_save(c->engine, c->temperatures, ds_dev_outcomes_count(c->fit), &c->path, &err);
    return status == DS_OK ? DS_CLI_GO : ds_cli_fail(&err);
}

/* --- the command --- */

static int calibrate(struct ds_calibrate *c) {
    while (c->n_files < DS_CALIBRATE_MOST_SETS && c->files[c->n_files]) c->n_files++;
    if (!c->n_files && !c->options.recorded) return ds_cli_usage(&ds_command_calibrate, "no FILE of prompts is given; expected one, or --recorded");
    if (!c->n_files && c->options.shortlist) return ds_cli_usage(&ds_command_calibrate, "--shortlist needs FILEs of prompts: what is recorded has no tokens");
    if (!c->options.draft.drafter) return ds_cli_usage(&ds_command_calibrate, "a drafter is missing: give one with --drafter PATH");
    ds_cli_catch_interrupt();
    int code = ds_svg_open(&c->svg, c->options.svg);
    if (code == DS_CLI_GO) code = ds_cli_open(&ds_command_calibrate, &c->options.engine, &c->options.draft, &c->engine, &c->info);
    if (code == DS_CLI_GO) code = read_size(c);
    if (code == DS_CLI_GO) code = start(c);
    if (code == DS_CLI_GO) code = collect(c);
    if (code == DS_CLI_GO) code = fit(c);
    if (code == DS_CLI_GO) code = shorten(c);
    if (code != DS_CLI_GO) return code;
    if (c->options.json) ds_calibrate_print_json(c);
    else ds_calibrate_print_table(c);
    if (c->svg.out) ds_calibrate_put_diagram(c->svg.out, c);
    code = ds_svg_commit(&c->svg);
    return code == DS_CLI_GO ? DS_CLI_DONE : code;
}

static int calibrate_main(int argc, char **argv) {
    static struct ds_calibrate c; /* large, and there is one */
    c = (struct ds_calibrate){.options = {.engine = DS_CLI_ENGINE_DEFAULTS, .tokens = 128, .limit = 40}};
    int code = ds_cli_parse(&ds_command_calibrate, argc, argv, &c.options, c.files);
    if (code == DS_CLI_GO) code = calibrate(&c);
    ds_free(c.path);
    ds_free(c.list_path);
    ds_shortlist_free(&c.shortlist);
    ds_svg_close(&c.svg);
    ds_session_destroy(c.session);
    ds_dev_outcomes_destroy(c.fit);
    ds_dev_outcomes_destroy(c.held);
    ds_engine_destroy(c.engine);
    return ds_cli_finish(code);
}

const struct ds_cli_command ds_command_calibrate = {
    .name = "calibrate",
    .summary = "fits a drafter's confidences to what is accepted, and says what drafting costs here",
    .synopsis = "-m MODEL -d DRAFTER [options] [FILE...]",
    .details = "Answers the prompts of the files (JSONL: one `{\"turns\": [\"..\"]}` a line), drafting and verifying whole blocks, and fits one "
               "temperature for each slot of the block by sequential temperature scaling, to the outputs of the drafter's confidence head "
               "or, where it has none, to the probabilities that it gives its own drafts. Every other prompt is held out, and the errors "
               "are those on them. Only confidences and outcomes are looked at. Also printed: what passes and drafts cost on this machine, "
               "and what `auto` makes of it.\n\n"
               "The result is written beside the drafter, as `calibration.json` in its folder or `FILE.gguf.calibration.json`, and is used "
               "from then on; a calibration of another drafter is not. Of a drafter without a confidence head none is written: `auto` learns from outcomes "
               "how far its own probability can be believed, a slope and a shift for each slot, which temperatures cannot say. --shortlist writes `shortlist.json` or `FILE.gguf.shortlist.json` in the same way; "
               "remove an earlier list first, since only what it has was drafted. Both change speed, never tokens.\n\n"
               "--recorded fits to one's own use: what `dspark run --record FILE` and `dspark chat --record FILE` have kept, every other answer or "
               "conversation being held out. Costs are told where prompts were answered.",
    .examples = "dspark calibrate -m models/tiny/target -d models/tiny/dspark --temp 1 --svg reliability.svg prompts.jsonl",
    .groups = calibrate_groups,
    .min_operands = 0,
    .max_operands = DS_CALIBRATE_MOST_SETS,
    .operand = "FILE",
    .main = calibrate_main,
};
