#include "model/prefix.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { ROOT = 0 };

/* --- pages that can be given back --- */

static uint32_t spare(const void *keeper) {
    const struct ds_prefix *p = keeper;
    uint32_t n = 0;
    for (uint32_t i = 1; i <= p->capacity; i++) n += p->nodes[i].taken && p->pager->references[p->nodes[i].page] == 1;
    return n;
}

static void unlink_node(struct ds_prefix *p, uint32_t index) {
    uint32_t *link = &p->nodes[p->nodes[index].parent].child;
    while (*link != index) link = &p->nodes[*link].next;
    *link = p->nodes[index].next;
}

static void evict(struct ds_prefix *p, uint32_t index) {
    assert(!p->nodes[index].child);
    unlink_node(p, index);
    ds_pager_drop(p->pager, p->nodes[index].page);
    p->nodes[index].taken = false;
    p->count--;
}

/* The leaf that has been of no use for longest, of those last used before `before`; 0: none. */
static uint32_t oldest_leaf(const struct ds_prefix *p, uint64_t before) {
    uint32_t oldest = 0;
    for (uint32_t i = 1; i <= p->capacity; i++) {
        const struct ds_prefix_node *n = &p->nodes[i];
        if (!n->taken || n->child || n->used >= before) continue;
        if (!oldest || n->used < p->nodes[oldest].used) oldest = i;
    }
    return oldest;
}

static bool give_back(void *keeper) {
    struct ds_prefix *p = keeper;
    const uint32_t leaf = oldest_leaf(p, UINT64_MAX);
    if (leaf) evict(p, leaf);
    return leaf != 0;
}

ds_status ds_prefix_create(struct ds_pager *pager, uint32_t capacity, struct ds_prefix *out, struct ds_error *err) {
    *out = (struct ds_prefix){.pager = pager, .capacity = capacity};
    if (!capacity) return DS_OK;
    const size_t bytes = ((size_t)capacity + 1) * sizeof *out->nodes;
    out->nodes = calloc((size_t)capacity + 1, sizeof *out->nodes);
    out->path = malloc(pager->pages_per_sequence * sizeof *out->path);
    if (!out->nodes || !out->path) {
        ds_prefix_free(out);
        return ds_fail_memory(err, bytes, "the prefix cache");
    }
    pager->spare = spare;
    pager->give_back = give_back;
    pager->keeper = out;
    return DS_OK;
}

void ds_prefix_free(struct ds_prefix *p) {
    while (p->count) (void)give_back(p);
    if (p->pager && p->pager->keeper == p) {
        p->pager->spare = NULL;
        p->pager->give_back = NULL;
        p->pager->keeper = NULL;
    }
    free(p->nodes);
    free(p->path);
    *p = (struct ds_prefix){0};
}

/* --- looking up --- */

static uint32_t common(const struct ds_prefix_node *node, const int32_t *tokens, uint32_t n) {
    uint32_t i = 0;
    for (const uint32_t most = DS_MIN(node->count, n); i < most && node->tokens[i] == tokens[i];) i++;
    return i;
}

/* The child with most tokens in common; ties to one that is drafted. */
static uint32_t best_child(const struct ds_prefix *p, uint32_t parent, const int32_t *tokens, uint32_t n, bool drafted, uint32_t *shared) {
    uint32_t best = 0;
    *shared = 0;
    for (uint32_t c = p->nodes[parent].child; c; c = p->nodes[c].next) {
        if (drafted && !p->nodes[c].drafted) continue;
        const uint32_t here = common(&p->nodes[c], tokens, n);
        if (here <= *shared) continue;
        *shared = here;
        best = c;
    }
    return best;
}

uint32_t ds_prefix_match(struct ds_prefix *p, const int32_t *tokens, uint32_t n, bool drafted) {
    if (!p->capacity) return 0;
    uint32_t matched = 0, at = ROOT;
    p->clock++;
    while (matched < n && matched / DS_PAGE < p->pager->pages_per_sequence) {
        uint32_t shared;
        const uint32_t child = best_child(p, at, tokens + matched, n - matched, drafted, &shared);
        if (!child) break;
        p->path[matched / DS_PAGE] = p->nodes[child].page;
        p->nodes[child].used = p->clock;
        matched += shared;
        if (shared < DS_PAGE) break;
        at = child;
    }
    return matched;
}

/* --- keeping --- */

static void set_content(struct ds_prefix *p, struct ds_prefix_node *node, int32_t page, const int32_t *tokens, uint32_t count, bool drafted) {
    ds_pager_hold(p->pager, page);
    node->page = page;
    node->count = count;
    node->drafted = drafted;
    memcpy(node->tokens, tokens, count * sizeof *tokens);
}

/* 0: there is no room, and nothing older to make some. */
static uint32_t new_node(struct ds_prefix *p, uint32_t parent) {
    if (p->count == p->capacity) {
        const uint32_t leaf = oldest_leaf(p, p->clock);
        if (!leaf) return 0;
        evict(p, leaf);
    }
    uint32_t i = 1;
    while (p->nodes[i].taken) i++;
    p->nodes[i] = (struct ds_prefix_node){.taken = true, .parent = parent, .next = p->nodes[parent].child};
    p->nodes[parent].child = i;
    p->count++;
    return i;
}

/* The node that holds these tokens and no others behind them, or fewer of them: to be used as it is, or filled up. */
static uint32_t same_node(const struct ds_prefix *p, uint32_t parent, const int32_t *tokens, uint32_t n) {
    uint32_t best = 0, most = 0;
    for (uint32_t c = p->nodes[parent].child; c; c = p->nodes[c].next) {
        const uint32_t here = common(&p->nodes[c], tokens, n);
        if (here != DS_MIN(p->nodes[c].count, n) || here <= most) continue;
        best = c;
        most = here;
    }
    return best;
}

void ds_prefix_insert(struct ds_prefix *p, int32_t sequence, const int32_t *tokens, uint32_t n, bool drafted, bool partial) {
    if (!p->capacity) return;
    const int32_t *pages = p->pager->table + (size_t)sequence * p->pager->pages_per_sequence;
    uint32_t at = ROOT;
    p->clock++;
    for (uint32_t first = 0; first < n; first += DS_PAGE) {
        const uint32_t count = DS_MIN(n - first, (uint32_t)DS_PAGE);
        if (count < DS_PAGE && !partial) return;
        uint32_t node = same_node(p, at, tokens + first, count);
        const bool fresh = node == 0;
        if (fresh) node = new_node(p, at);
        if (!node) return;
        struct ds_prefix_node *here = &p->nodes[node];
        here->used = p->clock;
        const bool fuller = here->count < count && (drafted || !here->drafted);
        const bool better = drafted && !here->drafted && here->count <= count;
        if (fresh || fuller || better) {
            const int32_t before = here->page;
            set_content(p, here, pages[first / DS_PAGE], tokens + first, count, drafted);
            if (!fresh) ds_pager_drop(p->pager, before);
        }
        if (here->count < DS_PAGE) return;
        at = node;
    }
}
