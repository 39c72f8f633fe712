/*
 * Stop strings over text that comes piece by piece: what cannot be the beginning of one any more is let through, and the first that is
 * complete ends the text in front of it.
 */
#ifndef DSPARK_TEXT_STOPS_H
#define DSPARK_TEXT_STOPS_H

#include "dspark.h"

enum { DS_MOST_STOPS = 64, DS_MOST_STOP_BYTES = 1024 };

struct ds_stops {
    size_t count;
    char *text[DS_MOST_STOPS]; /* owned, each of its length */
    size_t lengths[DS_MOST_STOPS];
    char *held;          /* owned: what may be the beginning of a stop string, and the piece that came last */
    size_t n_held, room; /* room: what `held` holds at most */
    int met;             /* -1: none so far */
};

/* At most DS_MOST_STOPS strings of 1 to DS_MOST_STOP_BYTES bytes of UTF-8. Pieces have at most `most_piece` bytes. DS_ERROR_ARGUMENT. */
ds_status ds_stops_create(const char *const *stops, size_t count, size_t most_piece, struct ds_stops **out, struct ds_error *err);
void ds_stops_destroy(struct ds_stops *stops); /* accepts NULL */

/* Takes whole characters in; `out` gets what is let through, ds_stops_most(stops) bytes at most. Nothing once a string was met. Allocates nothing. */
size_t ds_stops_push(struct ds_stops *stops, const char *piece, size_t n, char *out);
/* The text is over: what was held comes through. */
size_t ds_stops_finish(struct ds_stops *stops, char *out);
void ds_stops_begin(struct ds_stops *stops);
static inline size_t ds_stops_most(const struct ds_stops *stops) { return stops->room; }

#endif
