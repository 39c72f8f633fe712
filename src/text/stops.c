#include "text/stops.h"

#include "base/status.h"
#include "text/utf8.h"

#include <stdlib.h>
#include <string.h>

static ds_status check(const char *const *stops, size_t count, struct ds_error *err) {
    if (count > DS_MOST_STOPS) return ds_fail(err, DS_ERROR_ARGUMENT, "%zu stop strings; at most %d are possible", count, DS_MOST_STOPS);
    if (count && !stops) return ds_fail(err, DS_ERROR_ARGUMENT, "there are %zu stop strings, but their list is NULL", count);
    for (size_t i = 0; i < count; i++) {
        const size_t length = stops[i] ? strlen(stops[i]) : 0;
        if (length == 0) return ds_fail(err, DS_ERROR_ARGUMENT, "stop string %zu is empty; expected 1 to %d bytes", i, DS_MOST_STOP_BYTES);
        if (length > DS_MOST_STOP_BYTES)
            return ds_fail(err, DS_ERROR_ARGUMENT, "stop string %zu has %zu bytes; expected 1 to %d", i, length, DS_MOST_STOP_BYTES);
        if (ds_utf8_valid_prefix(stops[i], length) != length)
            return ds_fail(err, DS_ERROR_ARGUMENT, "stop string %zu is not UTF-8; generated text always is, so it would never be met", i);
    }
    return DS_OK;
}

ds_status ds_stops_create(const char *const *stops, size_t count, size_t most_piece, struct ds_stops **out, struct ds_error *err) {
    *out = NULL;
    DS_TRY(check(stops, count, err));
    size_t all = 0, longest = 0;
    for (size_t i = 0; i < count; i++) {
        all += strlen(stops[i]) + 1;
        longest = DS_MAX(longest, strlen(stops[i]));
    }
    const size_t room = longest + most_piece, bytes = sizeof **out + all + room;
    struct ds_stops *s = malloc(bytes);
    if (!s) return ds_fail_memory(err, bytes, "stop strings");
    *s = (struct ds_stops){.count = count, .room = room, .met = -1};
    char *at = (char *)(s + 1);
    for (size_t i = 0; i < count; i++) {
        s->lengths[i] = strlen(stops[i]);
        s->text[i] = memcpy(at, stops[i], s->lengths[i]);
        at += s->lengths[i];
    }
    s->held = at;
    *out = s;
    return DS_OK;
}

void ds_stops_destroy(struct ds_stops *s) { free(s); }

void ds_stops_begin(struct ds_stops *s) {
    s->n_held = 0;
    s->met = -1;
}

/* Whether the first n bytes of a stop string lie at `at`. */
static bool begins(const struct ds_stops *s, size_t i, const char *at, size_t n) { return memcmp(s->text[i], at, n) == 0; }

/* The place of the first stop string that is complete, and among those that begin there the first of the list; n_held: none. */
static size_t find(struct ds_stops *s) {
    for (size_t at = 0; at < s->n_held; at++)
        for (size_t i = 0; i < s->count; i++)
            if (s->lengths[i] <= s->n_held - at && begins(s, i, s->held + at, s->lengths[i])) {
                s->met = (int)i;
                return at;
            }
    return s->n_held;
}

/* The first place from which on all may be the beginning of a stop string. */
static size_t first_open(const struct ds_stops *s) {
    for (size_t at = 0; at < s->n_held; at++)
        for (size_t i = 0; i < s->count; i++)
            if (s->n_held - at < s->lengths[i] && begins(s, i, s->held + at, s->n_held - at)) return at;
    return s->n_held;
}

size_t ds_stops_push(struct ds_stops *s, const char *piece, size_t n, char *out) {
    if (s->met >= 0) return 0;
    memcpy(s->held + s->n_held, piece, n);
    s->n_held += n;
    const size_t complete = find(s), through = s->met >= 0 ? complete : first_open(s);
    memcpy(out, s->held, through);
    s->n_held = s->met >= 0 ? 0 : s->n_held - through;
    memmove(s->held, s->held + through, s->n_held);
    return through;
}

size_t ds_stops_finish(struct ds_stops *s, char *out) {
    const size_t n = s->n_held;
    memcpy(out, s->held, n);
    s->n_held = 0;
    return n;
}
