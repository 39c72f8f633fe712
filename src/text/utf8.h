/*
 * UTF-8 as the Unicode standard defines it (chapter 3, table 3-7): no overlong forms, no surrogates, nothing above
 * U+10FFFF. What is not valid falls into *maximal subparts*: the longest prefix of a valid character, or else one byte.
 */
#ifndef DSPARK_TEXT_UTF8_H
#define DSPARK_TEXT_UTF8_H

#include <stddef.h>
#include <stdint.h>

typedef enum ds_utf8_kind {
    DS_UTF8_VALID,     /* a whole character of `length` bytes */
    DS_UTF8_INVALID,   /* a maximal subpart of `length` bytes that no continuation can repair */
    DS_UTF8_INCOMPLETE /* all `n` bytes are the beginning of a character */
} ds_utf8_kind;

struct ds_utf8_part {
    ds_utf8_kind kind;
    uint32_t length; /* 1..4 */
};

/* What lies at the start of `n` > 0 bytes. */
struct ds_utf8_part ds_utf8_classify(const char *text, size_t n);

/* Length of the longest prefix that is whole valid characters. */
size_t ds_utf8_valid_prefix(const char *text, size_t n);

/* The code point of the valid character at `text`. */
uint32_t ds_utf8_decode(const char *text);

/* The start of the valid character that ends at `end` > `text`. */
const char *ds_utf8_previous(const char *text, const char *end);

#endif
