/* Untrusted text in messages: names from files may hold control characters, broken UTF-8, or a megabyte. */
#ifndef DSPARK_BASE_QUOTE_H
#define DSPARK_BASE_QUOTE_H

#include <stddef.h>

/*
 * Printable, valid UTF-8, NUL-terminated; longer text is cut and ends in "...". Returned by value, so that a message can
 * say  ds_quote(name, length).text  without a buffer of its own.
 */
struct ds_quoted {
    char text[160];
};
struct ds_quoted ds_quote(const char *text, size_t length);
struct ds_quoted ds_quote_name(const char *name); /* of a NUL-terminated string */

#endif
