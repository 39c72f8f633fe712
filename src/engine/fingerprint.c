/* Telling checkpoints apart, cheaply. */
#include "engine/engine_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

uint64_t ds_fingerprint(const struct ds_ckpt *ckpt) {
    enum { SAMPLE = 64 };
    if (!ckpt) return 0;
    uint64_t hash = DS_HASH_START;
    for (size_t i = 0; i < ds_ckpt_tensor_count(ckpt); i++) {
        const struct ds_ckpt_tensor *t = ds_ckpt_tensor_at(ckpt, i);
        hash = ds_hash_mix(hash, t->name, strlen(t->name));
        hash = ds_hash_mix(hash, &t->type, sizeof t->type);
        hash = ds_hash_mix(hash, t->shape, sizeof t->shape);
        const size_t n = (size_t)DS_MIN(t->bytes, (uint64_t)SAMPLE);
        hash = ds_hash_mix(hash, t->data, n);
        hash = ds_hash_mix(hash, t->data + (t->bytes - n), n);
    }
    return hash ? hash : 1;
}

void ds_fingerprint_text(uint64_t fingerprint, char text[DS_FINGERPRINT_TEXT]) { snprintf(text, DS_FINGERPRINT_TEXT, "%016" PRIx64, fingerprint); }
