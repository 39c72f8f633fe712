#include "calibrate_shortlist.h"

#include <stdlib.h>

bool ds_shortlist_start(struct ds_shortlist *l, uint32_t vocabulary) {
    *l = (struct ds_shortlist){.vocabulary = vocabulary};
    l->said = calloc(vocabulary, sizeof *l->said);
    l->order = calloc(vocabulary, sizeof *l->order);
    l->rank = calloc(vocabulary, sizeof *l->rank);
    return l->said && l->order && l->rank;
}

void ds_shortlist_free(struct ds_shortlist *l) {
    free(l->said);
    free(l->order);
    free(l->rank);
    free(l->rounds);
    *l = (struct ds_shortlist){0};
}

void ds_shortlist_count(struct ds_shortlist *l, const ds_round *round) {
    for (size_t i = 0; i < round->accepted; i++) l->said[round->draft[i]]++;
    l->said[round->next]++;
}

static void push(struct ds_shortlist *l, ds_token token) {
    if (l->count == l->capacity) {
        const size_t capacity = 2 * l->capacity + 1024;
        ds_token *const grown = realloc(l->rounds, capacity * sizeof *grown);
        l->out_of_memory |= !grown;
        if (!grown) return;
        l->rounds = grown;
        l->capacity = capacity;
    }
    l->rounds[l->count++] = token;
}

void ds_shortlist_hold(struct ds_shortlist *l, const ds_round *round) {
    for (size_t i = 0; i < round->accepted; i++) push(l, round->draft[i]);
    push(l, -1);
    l->n_rounds++;
}

/* --- what it costs --- */

enum { TRIES = 7 };

static int by_value(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

ds_status ds_shortlist_measure(struct ds_shortlist *l, ds_session *session, uint32_t block, struct ds_error *err) {
    double pass[TRIES], draft[TRIES], grows[TRIES];
    for (int i = 0; i < TRIES; i++) {
        ds_status status = ds_dev_time_pass(session, 1 + block, 1 + block, &pass[i], err);
        if (status == DS_OK) status = ds_dev_time_draft(session, &draft[i], err);
        if (status == DS_OK) status = ds_dev_time_draft_vocabulary(session, &grows[i], err);
        if (status != DS_OK) return status;
    }
    qsort(pass, TRIES, sizeof *pass, by_value);
    qsort(draft, TRIES, sizeof *draft, by_value);
    qsort(grows, TRIES, sizeof *grows, by_value);
    l->pass = pass[TRIES / 2];
    l->draft = draft[TRIES / 2];
    l->grows = grows[TRIES / 2] < l->draft ? grows[TRIES / 2] : l->draft;
    return DS_OK;
}

/* --- ranking --- */

struct entry {
    uint64_t said;
    ds_token token;
};

static int by_frequency(const void *a, const void *b) {
    const struct entry *const x = a, *const y = b;
    if (x->said != y->said) return x->said < y->said ? 1 : -1;
    return (x->token > y->token) - (x->token < y->token);
}

/* A round goes on as far as its accepted drafts are in the list. What would be drafted in place of the others is not known: it is wrong. */
static double tau_of(const struct ds_shortlist *l, uint32_t size) {
    double tokens = (double)l->n_rounds;
    bool inside = true;
    for (size_t i = 0; i < l->count; i++) {
        if (l->rounds[i] < 0) inside = true;
        else tokens += inside = inside && l->rank[l->rounds[i]] < size;
    }
    return l->n_rounds ? tokens / (double)l->n_rounds : 1;
}

static void add_size(struct ds_shortlist *l, uint32_t size) {
    struct ds_shortlist_size *const s = &l->sizes[l->n_sizes++];
    *s = (struct ds_shortlist_size){.size = size, .tau = tau_of(l, size)};
    s->draft = l->draft - l->grows * (1 - (double)size / l->vocabulary);
}

void ds_shortlist_rank(struct ds_shortlist *l) {
    struct entry *const entries = malloc(l->vocabulary * sizeof *entries);
    l->out_of_memory |= !entries;
    for (uint32_t t = 0; entries && t < l->vocabulary; t++) entries[t] = (struct entry){l->said[t], (ds_token)t};
    if (entries) qsort(entries, l->vocabulary, sizeof *entries, by_frequency);
    for (uint32_t i = 0; entries && i < l->vocabulary; i++) {
        l->order[i] = entries[i].token;
        l->rank[entries[i].token] = i;
    }
    free(entries);
    l->n_sizes = 0;
    for (uint32_t size = 512; size < l->vocabulary && l->n_sizes + 1 < DS_SHORTLIST_SIZES; size *= 2) add_size(l, size);
    add_size(l, l->vocabulary);
    const struct ds_shortlist_size whole = l->sizes[l->n_sizes - 1];
    for (uint32_t i = 0; i < l->n_sizes; i++)
        l->sizes[i].speed = l->sizes[i].tau / (l->pass + l->sizes[i].draft) / (whole.tau / (l->pass + whole.draft));
}

uint32_t ds_shortlist_best(const struct ds_shortlist *l) {
    const struct ds_shortlist_size *best = &l->sizes[l->n_sizes - 1];
    for (uint32_t i = 0; i + 1 < l->n_sizes; i++)
        if (l->sizes[i].speed > best->speed && l->sizes[i].speed >= 1.01) best = &l->sizes[i];
    return best->size;
}
