/* check: whether a drafter belongs to a target, and how its file was understood. The checks are those of every load. */
#include "base/quote.h"
#include "ckpt/manifest.h"
#include "cli.h"
#include "cli_engine.h"
#include "cli_json.h"
#include "draft/draft.h"
#include "text/chat.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct check_options {
    const char *target, *drafter;
    bool json;
    struct ds_cli_trust trust;
};

#define AT(member) .offset = offsetof(struct check_options, member)
static const struct ds_cli_option check_options[] = {
    {.name = "model", .letter = 'm', .value = "PATH", .kind = DS_CLI_STRING, AT(target), .required = true, .help = "the target model"},
    {.name = "drafter", .letter = 'd', .value = "PATH", .kind = DS_CLI_STRING, AT(drafter), .help = "the drafter; without one the model alone is checked"},
    {.name = "json", .kind = DS_CLI_FLAG, AT(json), .help = "one JSON object on standard output"},
    {0}};
#undef AT
static const struct ds_cli_group check_groups[] = {
    {.options = check_options}, {.title = "Manifest", .options = ds_cli_trust_options, .base = offsetof(struct check_options, trust)}, {0}};

/* What is open; all may be NULL. */
struct pair {
    struct ds_ckpt *target_ckpt, *draft_ckpt;
    struct ds_guard *guards[2];
    struct ds_model *target;
    struct ds_draft_model *draft;
    struct ds_tokenizer *tokenizer, *draft_tokenizer;
    struct ds_device *device;
    struct ds_loader *loader;
};

static void close_pair(struct pair *p) {
    for (size_t i = 0; i < DS_COUNT(p->guards); i++) ds_guard_close(p->guards[i]);
    if (p->loader) ds_loader_destroy(p->loader);
    if (p->device) ds_device_destroy(p->device);
    ds_tokenizer_close(p->draft_tokenizer);
    ds_tokenizer_close(p->tokenizer);
    ds_draft_close(p->draft);
    ds_model_close(p->target);
    ds_ckpt_close(p->draft_ckpt);
    ds_ckpt_close(p->target_ckpt);
}

/* A drafter that brings a tokenizer must mean the same tokens by the same ids; rows without a token may differ. */
static ds_status compare_tokenizers(const struct pair *p, struct ds_error *err) {
    if (!p->tokenizer || !p->draft_tokenizer) return DS_OK;
    const uint32_t count = DS_MIN(ds_tokenizer_count(p->tokenizer), ds_tokenizer_count(p->draft_tokenizer));
    for (uint32_t id = 0; id < count; id++) {
        const struct ds_text a = ds_tokenizer_bytes(p->tokenizer, (int32_t)id), b = ds_tokenizer_bytes(p->draft_tokenizer, (int32_t)id);
        if (a.length == 0 || b.length == 0 || (a.length == b.length && memcmp(a.data, b.data, a.length) == 0)) continue;
        return ds_fail(err, DS_ERROR_MISMATCH, "%s: token %" PRIu32 " of its tokenizer is '%s', the target's is '%s'; this drafter was made for another tokenizer",
                       ds_ckpt_path(p->draft_ckpt), id, ds_quote(b.data, b.length).text, ds_quote(a.data, a.length).text);
    }
    return DS_OK;
}

/* Everything that loading checks, up to the reading of the weights: shapes and types of tensors are checked when they are asked for. */
static ds_status ask_for_weights(struct pair *p, struct ds_error *err) {
    enum { FEW_POSITIONS = 64 };
    DS_TRY(ds_device_create("ref", &(struct ds_device_params){0}, &p->device, err));
    DS_TRY(ds_loader_create(p->device, false, &p->loader, err));
    DS_TRY(ds_model_load(p->target, p->loader, FEW_POSITIONS, err));
    return p->draft ? ds_draft_load(p->draft, p->target, p->loader, FEW_POSITIONS, err) : DS_OK;
}

static ds_status check(const struct check_options *options, struct pair *p, struct ds_error *err) {
    const struct ds_manifest_trust trust = {.required = options->trust.require_manifest, .trust = options->trust.key};
    const struct ds_log log = {.fn = ds_cli_log, .level = DS_LOG_WARNING};
    DS_TRY(ds_ckpt_open(options->target, &p->target_ckpt, err));
    DS_TRY(ds_guard_open(p->target_ckpt, &trust, &log, &p->guards[0], err));
    DS_TRY(ds_model_open(p->target_ckpt, &p->target, err));
    DS_TRY(ds_tokenizer_open(p->target_ckpt, &p->tokenizer, err));
    if (options->drafter) {
        DS_TRY(ds_ckpt_open(options->drafter, &p->draft_ckpt, err));
        DS_TRY(ds_guard_open(p->draft_ckpt, &trust, &log, &p->guards[1], err));
        DS_TRY(ds_draft_open(p->draft_ckpt, p->target, &p->draft, err));
        DS_TRY(ds_tokenizer_open(p->draft_ckpt, &p->draft_tokenizer, err));
        DS_TRY(compare_tokenizers(p, err));
    }
    for (size_t i = 0; i < DS_COUNT(p->guards); i++) DS_TRY(ds_guard_begin(p->guards[i], 1, err));
    DS_TRY(ask_for_weights(p, err));
    for (size_t i = 0; i < DS_COUNT(p->guards); i++) DS_TRY(ds_guard_finish(p->guards[i], err));
    return DS_OK;
}

/* --- what was understood --- */

static const char *rope_name(const struct ds_rope_config *rope) {
    switch (rope->kind) {
    case DS_ROPE_LINEAR: return "linear";
    case DS_ROPE_YARN: return "yarn";
    case DS_ROPE_LLAMA3: return "llama3";
    case DS_ROPE_PROPORTIONAL: return "proportional";
    default: return "none";
    }
}

static const char *head_name(const struct ds_draft_model *draft) {
    static const char *const names[] = {"none", "vanilla", "gated", "rnn"};
    return (size_t)draft->markov < DS_COUNT(names) ? names[draft->markov] : "?";
}

static const char *tokenizer_verdict(const struct pair *p) {
    if (!p->tokenizer) return "the target has none";
    return p->draft_tokenizer ? "the same as the target's" : "the target's";
}

static const char *dialect_name(const struct ds_draft_model *draft) {
    static const char *const names[] = {[DS_DIALECT_DEEPSPEC] = "deepspec", [DS_DIALECT_DFLASH] = "dflash", [DS_DIALECT_SPECULATORS] = "speculators",
                                        [DS_DIALECT_GGUF] = "gguf"};
    return (size_t)draft->dialect < DS_COUNT(names) ? names[draft->dialect] : "?";
}

/* A block has a row more than drafts where the anchor's slot predicts nothing. */
static bool samples_from_anchor(const struct ds_draft_model *draft) { return draft->block_rows == draft->block_size; }

static const char *anchor_text(const struct ds_draft_model *draft) {
    if (draft->arch->steps) return "drafts come one after the other, from the feature in front of the anchor";
    return samples_from_anchor(draft) ? "its slot predicts the first draft (sample_from_anchor: true)" : "its slot predicts nothing (sample_from_anchor: false)";
}

static void print_windows(const struct ds_model_config *c) {
    uint32_t sliding = 0;
    for (uint32_t l = 0; l < c->layers; l++) sliding += ds_config_window(c, l) > 0;
    if (sliding) printf("%-14s  %" PRIu32 " positions in %" PRIu32 " of %" PRIu32 " layers\n", "  window", c->window, sliding, c->layers);
}

static void print_taps(const struct ds_draft_model *draft, const char *between) {
    for (uint32_t i = 0; i < draft->n_taps; i++) printf("%s%" PRId32, i ? between : "", draft->tap_layers[i]);
}

static void print_rope(const char *label, const struct ds_model_config *c) {
    printf("%-14s  theta %g, %s pairs, scaling %s", label, c->rope.theta, c->interleaved ? "interleaved" : "half-split (NeoX)", rope_name(&c->rope));
    if (c->rope.kind != DS_ROPE_NONE) printf(" by %g from %" PRIu32 " positions", c->rope.factor, c->rope.original_context);
    putchar('\n');
}

static void print_text(const struct pair *p) {
    const struct ds_model_config *c = &p->target->config;
    const struct ds_draft_model *d = p->draft;
    const struct ds_chat_template *chat = p->tokenizer ? ds_chat_recognise(p->tokenizer) : NULL;
    printf("%-14s  %s, hidden size %" PRIu32 ", %" PRIu32 " layers, vocabulary %" PRIu32 ", %s\n", "target", p->target->arch->name, c->hidden, c->layers,
           c->vocabulary, c->tied ? "head tied to the embedding" : "head of its own");
    print_rope("  rope", c);
    printf("%-14s  %s\n", "  tokenizer", p->tokenizer ? "there" : "none: only token ids can be used");
    printf("%-14s  %s\n", "  template", chat ? ds_chat_name(chat) : p->tokenizer && ds_tokenizer_chat_template(p->tokenizer) ? "not known here: name one with --template" : "none");
    if (d) {
        printf("%-14s  %s, %" PRIu32 " layer%s, as %s writes it\n", "drafter", d->arch->name, d->config.layers, d->config.layers == 1 ? "" : "s", dialect_name(d));
        printf("%-14s  ", "  taps");
        print_taps(d, ", ");
        puts(" (outputs of decoder layers counted from 0; -1 is the embedding)");
        printf("%-14s  %" PRIu32 " drafts a round", "  block", d->block_size);
        if (d->arch->steps) putchar('\n');
        else printf(", mask token %" PRId32 "\n", d->mask_token);
        printf("%-14s  %s\n", "  anchor", anchor_text(d));
        printf("%-14s  ", "  head");
        if (d->markov == DS_MARKOV_NONE) puts("no sequential head");
        else printf("%s Markov head of rank %" PRIu32 "\n", head_name(d), d->markov_rank);
        printf("%-14s  %s\n", "  confidence", !d->has_confidence ? "no head: the drafts' own probabilities are taken" : d->confidence_with_markov && d->markov != DS_MARKOV_NONE ? "a head with Markov features" : "a head without Markov features");
        if (d->vocabulary_map) printf("%-14s  %" PRIu32 " of the target's %" PRIu32 " tokens (d2t)\n", "  vocabulary", d->draft_vocabulary, d->config.vocabulary);
        else printf("%-14s  %" PRIu32 " tokens, all of the target's\n", "  vocabulary", d->config.vocabulary);
        print_windows(&d->config);
        print_rope("  rope", &d->config);
        printf("%-14s  %s\n", "  tokenizer", tokenizer_verdict(p));
        puts("The drafter fits the target.");
    }
}

static void print_json(const struct pair *p) {
    const struct ds_model_config *c = &p->target->config;
    const struct ds_draft_model *d = p->draft;
    const struct ds_chat_template *chat = p->tokenizer ? ds_chat_recognise(p->tokenizer) : NULL;
    printf("{\"good\": true, \"target\": {\"architecture\": \"%s\", \"hidden_size\": %" PRIu32 ", \"layers\": %" PRIu32 ", \"vocabulary\": %" PRIu32
           ", \"rope\": {\"theta\": ", p->target->arch->name, c->hidden, c->layers, c->vocabulary);
    ds_cli_json_double(stdout, c->rope.theta);
    printf(", \"interleaved\": %s, \"scaling\": \"%s\"}, \"tokenizer\": %s, \"template\": ", c->interleaved ? "true" : "false", rope_name(&c->rope),
           p->tokenizer ? "true" : "false");
    ds_cli_json_text(stdout, chat ? ds_chat_name(chat) : NULL);
    putchar('}');
    if (d) {
        printf(", \"drafter\": {\"kind\": \"%s\", \"layers\": %" PRIu32 ", \"taps\": [", d->arch->name, d->config.layers);
        print_taps(d, ", ");
        printf("], \"dialect\": \"%s\", \"block_size\": %" PRIu32 ", \"mask_token\": %" PRId32 ", \"sample_from_anchor\": %s, \"markov_head\": \"%s\", \"markov_rank\": %" PRIu32
               ", \"confidence_head\": %s, \"confidence_with_markov\": %s, \"vocabulary\": %" PRIu32 ", \"rope\": {\"theta\": ",
               dialect_name(d), d->block_size, d->mask_token, d->arch->steps ? "null" : samples_from_anchor(d) ? "true" : "false", head_name(d), d->markov_rank, d->has_confidence ? "true" : "false",
               d->has_confidence && d->confidence_with_markov && d->markov != DS_MARKOV_NONE ? "true" : "false", d->draft_vocabulary);
        ds_cli_json_double(stdout, d->config.rope.theta);
        printf(", \"interleaved\": %s, \"scaling\": \"%s\"}, \"tokenizer\": ", d->config.interleaved ? "true" : "false", rope_name(&d->config.rope));
        ds_cli_json_text(stdout, tokenizer_verdict(p));
        putchar('}');
    }
    puts("}");
}

static int check_main(int argc, char **argv) {
    struct check_options options = {0};
    const int code = ds_cli_parse(&ds_command_check, argc, argv, &options, NULL);
    if (code != DS_CLI_GO) return code;
    struct pair pair = {0};
    struct ds_error err;
    const ds_status status = check(&options, &pair, &err);
    if (status == DS_OK && options.json) print_json(&pair);
    else if (status == DS_OK) print_text(&pair);
    else if (options.json) {
        printf("{\"good\": false, \"status\": \"%s\", \"message\": ", ds_status_name(status));
        ds_cli_json_text(stdout, err.message);
        puts("}");
    }
    close_pair(&pair);
    return ds_cli_finish(status == DS_OK ? DS_CLI_DONE : ds_cli_fail(&err));
}

const struct ds_cli_command ds_command_check = {
    .name = "check",
    .summary = "whether a drafter belongs to a model, and how their files were understood",
    .synopsis = "-m MODEL [-d DRAFTER] [--json]",
    .details = "Opens both as every command does that loads them, up to the point where weights would be read, and says what it understood: which layers are tapped, what "
               "predicts the first draft, which heads there are, the rotary embedding, the tokenizer. What does not fit, or could mean two things, is refused "
               "with the key, the expected and the found value, and exit code 1.\n\n"
               "`dspark inspect` shows what is in one file, understood or not.",
    .examples = "dspark check -m models/tiny/target -d models/tiny/dspark",
    .groups = check_groups,
    .main = check_main};
