/*
 * Pre-tokenizers that GGUF files name (`tokenizer.ggml.pre`) instead of describing them: what the models' own tokenizer.json
 * says, so that a model gives the same ids from either container.
 */
#ifndef DSPARK_TEXT_KNOWN_PRE_H
#define DSPARK_TEXT_KNOWN_PRE_H

#include "ckpt/checkpoint.h"
#include "text/normalize.h"
#include "text/pretokenize.h"

struct ds_known_pre {
    const char *names[4];    /* ended by NULL */
    const char *patterns[8]; /* isolating splits in this order, ended by NULL */
    ds_normal_form form;
    bool whole_words; /* a piece that is a token is taken whole */
    bool adds_bos;    /* when the file does not say */
};

const struct ds_known_pre *ds_known_pre_find(const char *name); /* NULL: unknown */
/*
 * The one that does just this: these isolating splits in this order, this form, these whole words. NULL: none is known to.
 * Patterns are compared as texts, so a NULL does not mean that none behaves alike.
 */
const struct ds_known_pre *ds_known_pre_match(const struct ds_text *patterns, size_t count, ds_normal_form form, bool whole_words);
/* The names, joined by ", ", for messages; aliases left out. */
void ds_known_pre_list(char *out, size_t size);

#endif
