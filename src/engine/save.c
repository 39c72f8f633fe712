/*
 * A session in a file: tokens and the caches behind them, so that it goes on without a prefill.
 *
 *   header | tokens i32[length] | target pages | drafter pages
 *
 * Pages are those of the positions computed, in order, each layer's keys then values, as they lie in the cache; the layout is
 * the same on every device. The header names the checkpoints by what decides the cache: shapes and a fingerprint of the
 * weights. Everything read is checked; on any doubt the file is refused and the session left empty.
 */
#include "engine/engine_internal.h"

#include <stdlib.h>
#include <string.h>

struct header {
    char magic[8];
    uint32_t version, header_bytes;
    uint64_t target_print, draft_print; /* 0: no drafter */
    uint32_t kv_f16, weights;
    uint32_t length, computed, drafted_context;
    uint32_t reserved; /* 0 */
    uint64_t check;    /* over the header with 0 here and the tokens: sizes that fit by chance are not enough */
};
enum { VERSION = 1 };
static const char MAGIC[8] = {'d', 's', 'p', 'a', 'r', 'k', 's', '1'};

static uint64_t checksum(struct header header, const void *tokens) {
    header.check = 0;
    return ds_hash_mix(ds_hash_mix(DS_HASH_START, &header, sizeof header), tokens, header.length * sizeof(ds_token));
}

static struct header header_of(const ds_session *session) {
    const ds_engine *e = session->engine;
    struct header h = {.version = VERSION, .header_bytes = sizeof h, .target_print = ds_fingerprint(e->target_ckpt),
                       .draft_print = ds_fingerprint(e->draft_ckpt), .kv_f16 = e->params.kv == DS_KV_F16, .weights = e->params.weights,
                       .length = session->sequence.length, .computed = session->sequence.computed,
                       .drafted_context = session->sequence.drafted_context};
    memcpy(h.magic, MAGIC, sizeof h.magic);
    return h;
}

/* --- pages, either way --- */

struct page_io {
    void *page; /* staging, of the largest page */
    struct ds_os_writer *writer; /* saving */
    const uint8_t *from;         /* loading: the next page in the file */
};

static ds_status move_page(struct page_io *io, struct ds_stream *stream, struct ds_slice place, uint64_t bytes, struct ds_error *err) {
    const struct ds_device_fns *fns = place.buffer->device->fns;
    if (io->writer) {
        DS_TRY(fns->read(stream, place, io->page, bytes, err));
        return ds_os_write(io->writer, io->page, (size_t)bytes, err);
    }
    DS_TRY(fns->write(stream, place, io->from, bytes, err));
    io->from += bytes;
    return DS_OK;
}

/* The layers that a cache has of one page. */
static ds_status move_layers(struct page_io *io, const struct ds_cache_memory *cache, struct ds_stream *stream, int32_t page, struct ds_error *err) {
    for (uint32_t l = 0; l < cache->n; l++) {
        const uint64_t bytes = ds_cache_page_bytes(&cache->layers[l]);
        if (cache->sources[l] != l || !bytes) continue; /* an earlier layer's page, or on another device */
        DS_TRY(move_page(io, stream, ds_slice_add(cache->layers[l].k, (uint64_t)page * bytes), bytes, err));
        DS_TRY(move_page(io, stream, ds_slice_add(cache->layers[l].v, (uint64_t)page * bytes), bytes, err));
    }
    return DS_OK;
}

static uint32_t pages_of(uint32_t positions) { return (positions + DS_PAGE - 1) / DS_PAGE; }

/* Page by page, so that the file does not tell where layers lie. */
static ds_status move_pages(struct page_io *io, ds_session *session, struct ds_error *err) {
    const ds_engine *e = session->engine;
    const struct ds_sequence *s = &session->sequence;
    const int32_t *table = e->pager.table + (size_t)s->slot * e->pager.pages_per_sequence;
    for (uint32_t p = 0; p < pages_of(s->computed); p++)
        for (uint32_t i = 0; i < e->target.n_stages; i++)
            DS_TRY(move_layers(io, &e->target.stages[i].cache, e->target.stages[i].stream, table[p], err));
    for (uint32_t p = 0; p < pages_of(s->drafted_context); p++)
        DS_TRY(move_layers(io, &e->drafter.cache, e->drafter.params.stream, table[p], err));
    return DS_OK;
}

/* Both caches. `io` says which way; staging is filled here. */
static ds_status move_caches(struct page_io *io, ds_session *session, struct ds_error *err) {
    const ds_engine *e = session->engine;
    const uint64_t target = ds_target_pages_bytes(&e->target), drafter = ds_cache_pages_bytes(&e->drafter.cache); /* more than any one page */
    io->page = malloc((size_t)DS_MAX(target, drafter));
    if (!io->page) return ds_fail_memory(err, (size_t)DS_MAX(target, drafter), "a page of the cache");
    const ds_status status = move_pages(io, session, err);
    free(io->page);
    return status;
}

/* --- saving --- */

static ds_status save(ds_session *session, struct ds_os_writer *writer, struct ds_error *err) {
    struct header header = header_of(session);
    header.check = checksum(header, session->sequence.tokens);
    DS_TRY(ds_os_write(writer, &header, sizeof header, err));
    DS_TRY(ds_os_write(writer, session->sequence.tokens, header.length * sizeof *session->sequence.tokens, err));
    struct page_io io = {.writer = writer};
    return move_caches(&io, session, err);
}

ds_status ds_session_save(ds_session *session, const char *path, struct ds_error *err) {
    DS_PUBLIC_ERROR(err);
    DS_TRY(ds_session_require_idle(session, err));
    DS_TRY(ds_spec_catch_up(&session->engine->spec, &session->sequence, err)); /* what waits is not saved */
    struct ds_os_writer writer;
    DS_TRY(ds_os_write_begin(path, &writer, err));
    ds_os_mutex_lock(session->engine->lock);
    ds_status status = save(session, &writer, err);
    ds_os_mutex_unlock(session->engine->lock);
    if (status == DS_OK) status = ds_os_write_commit(&writer, err);
    if (status != DS_OK) ds_os_write_abort(&writer);
    return status;
}

/* --- loading --- */

static ds_status check_header(const ds_session *session, const char *path, const struct header *h, struct ds_error *err) {
    const struct header mine = header_of(session);
    if (memcmp(h->magic, MAGIC, sizeof MAGIC) != 0) return ds_fail(err, DS_ERROR_FORMAT, "%s is not a saved session", path);
    if (h->version != VERSION || h->header_bytes != sizeof *h)
        return ds_fail(err, DS_ERROR_FORMAT, "%s: saved as version %u; this library reads version %d", path, h->version, VERSION);
    if (h->target_print != mine.target_print)
        return ds_fail(err, DS_ERROR_MISMATCH, "%s was saved with another target checkpoint", path);
    if (h->draft_print != mine.draft_print)
        return ds_fail(err, DS_ERROR_MISMATCH, "%s was saved with %s drafter; open the engine with the same one", path,
                       h->draft_print ? "another" : "no");
    if (h->kv_f16 != mine.kv_f16 || h->weights != mine.weights)
        return ds_fail(err, DS_ERROR_MISMATCH, "%s was saved with an %s cache and weights %s; this engine has %s and %s", path,
                       h->kv_f16 ? "f16" : "f32", h->weights ? "f32" : "as stored", mine.kv_f16 ? "f16" : "f32",
                       mine.weights ? "f32" : "as stored");
    if (h->length > session->sequence.capacity)
        return ds_fail(err, DS_ERROR_LIMIT, "%s holds %u tokens; the context of this engine holds %u", path, h->length, session->sequence.capacity);
    if (h->computed > h->length || h->drafted_context > h->computed || (h->drafted_context && !session->engine->draft_model))
        return ds_fail(err, DS_ERROR_FORMAT, "%s contradicts itself: %u tokens, %u computed, %u with drafter's context", path, h->length,
                       h->computed, h->drafted_context);
    return DS_OK;
}

static ds_status check_tokens(const ds_session *session, const char *path, const uint8_t *data, uint32_t length, struct ds_error *err) {
    for (uint32_t i = 0; i < length; i++) {
        ds_token token;
        memcpy(&token, data + (size_t)i * sizeof token, sizeof token);
        if (token < 0 || (uint32_t)token >= session->engine->model->config.vocabulary)
            return ds_fail(err, DS_ERROR_FORMAT, "%s: token %u is %d; the vocabulary has ids 0 to %u", path, i, (int)token,
                           session->engine->model->config.vocabulary - 1);
    }
    return DS_OK;
}

static ds_status load(ds_session *session, const char *path, const struct ds_mapping *file, struct ds_error *err) {
    struct ds_sequence *s = &session->sequence;
    struct header h;
    if (file->size < sizeof h) return ds_fail(err, DS_ERROR_FORMAT, "%s is not a saved session: it has %llu bytes", path, (unsigned long long)file->size);
    memcpy(&h, file->data, sizeof h);
    DS_TRY(check_header(session, path, &h, err));
    const uint64_t tokens_bytes = (uint64_t)h.length * sizeof(ds_token);
    const uint64_t expected = sizeof h + tokens_bytes + pages_of(h.computed) * ds_target_pages_bytes(&session->engine->target) +
                              pages_of(h.drafted_context) * ds_cache_pages_bytes(&session->engine->drafter.cache);
    if (file->size != expected)
        return ds_fail(err, DS_ERROR_FORMAT, "%s has %llu bytes; its header asks for %llu", path, (unsigned long long)file->size,
                       (unsigned long long)expected);
    if (h.check != checksum(h, file->data + sizeof h))
        return ds_fail(err, DS_ERROR_FORMAT, "%s is damaged: its header and tokens do not have the checksum they were saved with", path);
    DS_TRY(check_tokens(session, path, file->data + sizeof h, h.length, err));
    DS_TRY(ds_pager_reserve(&session->engine->pager, s->slot, h.computed, err));
    if (h.length) memcpy(s->tokens, file->data + sizeof h, (size_t)tokens_bytes);
    s->length = h.length;
    s->computed = h.computed;
    s->drafted_context = h.drafted_context;
    struct page_io io = {.from = file->data + sizeof h + tokens_bytes};
    DS_TRY(move_caches(&io, session, err));
    if (s->paired && s->drafted_context) s->drafted_context--; /* the feature that drafting goes on from is not in the file */
    return DS_OK;
}

ds_status ds_session_load(ds_session *session, const char *path, struct ds_error *err) {
    DS_PUBLIC_ERROR(err);
    DS_TRY(ds_session_rewind(session, 0, err));
    struct ds_mapping file;
    DS_TRY(ds_os_map(path, &file, err));
    ds_os_mutex_lock(session->engine->lock);
    const ds_status status = load(session, path, &file, err);
    ds_os_mutex_unlock(session->engine->lock);
    ds_os_unmap(&file);
    if (status != DS_OK) {
        struct ds_error unused;
        (void)ds_session_rewind(session, 0, &unused); /* to 0 cannot fail */
    }
    return status;
}
