/*
 * Constants and memory layouts that every backend shares. The constants belong to the numerics contract (docs/numerics.md):
 * changing one changes bits everywhere.
 */
#ifndef DSPARK_OPS_LAYOUT_H
#define DSPARK_OPS_LAYOUT_H

#include <stdint.h>

/* Kernels of GPUs lay memory out by the same text. */
#if defined(__CUDACC__) || defined(__HIPCC__)
#define DS_LAYOUT_FN static __host__ __device__ __forceinline__
#else
#define DS_LAYOUT_FN static inline
#endif

enum {
    DS_RUN = 256,       /* inputs summed on their own before runs are added */
    DS_LANES = 32,      /* lanes of a row reduction */
    DS_PAGE = 64,       /* positions in a page of the KV cache */
    DS_CHUNK = 256,     /* positions of an attention chunk: four pages */
    DS_SUM_GROUP = 16,  /* int8 activations per stored partial sum */
    DS_Q8_BLOCK = 32,   /* int8 activations per scale where the weights have 8 bits (DS_ELEM_Q8_32) */
    DS_ALIGN = 64,      /* bytes: of every tensor in a buffer */
    DS_WEIGHT_ROWS = 64, /* rows of a matrix that weight_write stores at once, and a multiple of which an expert takes */
    DS_MOST_EXPERTS = 1024, DS_MOST_SLOTS = 64 /* of a mixture of experts; slots: experts a row uses */
};

/*
 * Quantised activations: one row of `cols` inputs, padded to K = cols rounded up to DS_RUN, is
 *     int8  q[K]                  padding is 0
 *     f32   d[K / W]              scale of W inputs: DS_RUN (DS_ELEM_Q8) or DS_Q8_BLOCK (DS_ELEM_Q8_32); 0 where all are zeros
 *     int16 s[K / DS_SUM_GROUP]   sum of 16 consecutive q
 * and its size is rounded up to DS_ALIGN. x ~ q * d. ds_q8_32_* are those of DS_ELEM_Q8_32.
 */
DS_LAYOUT_FN uint32_t ds_q8_padded(uint32_t cols) { return (cols + DS_RUN - 1) / DS_RUN * DS_RUN; }
DS_LAYOUT_FN uint32_t ds_q8_scale_offset(uint32_t cols) { return ds_q8_padded(cols); }
DS_LAYOUT_FN uint32_t ds_q8_sum_offset(uint32_t cols) { return ds_q8_padded(cols) + ds_q8_padded(cols) / DS_RUN * 4; }
DS_LAYOUT_FN uint32_t ds_q8_row_bytes(uint32_t cols) {
    const uint32_t bytes = ds_q8_sum_offset(cols) + ds_q8_padded(cols) / DS_SUM_GROUP * 2;
    return (bytes + DS_ALIGN - 1) / DS_ALIGN * DS_ALIGN;
}
DS_LAYOUT_FN uint32_t ds_q8_32_scale_offset(uint32_t cols) { return ds_q8_padded(cols); }
DS_LAYOUT_FN uint32_t ds_q8_32_sum_offset(uint32_t cols) { return ds_q8_padded(cols) + ds_q8_padded(cols) / DS_Q8_BLOCK * 4; }
DS_LAYOUT_FN uint32_t ds_q8_32_row_bytes(uint32_t cols) {
    const uint32_t bytes = ds_q8_32_sum_offset(cols) + ds_q8_padded(cols) / DS_SUM_GROUP * 2;
    return (bytes + DS_ALIGN - 1) / DS_ALIGN * DS_ALIGN;
}

/*
 * KV cache of one layer, elements f16 or f32. Keys: [page][kv_head][dim][DS_PAGE], so that neighbouring lanes are
 * neighbouring positions. Values: [page][kv_head][DS_PAGE][dim]. Both functions give element indices.
 */
DS_LAYOUT_FN uint64_t ds_kv_key_index(uint32_t page, uint32_t head, uint32_t slot, uint32_t dim, uint32_t kv_heads, uint32_t head_dim) {
    return (((uint64_t)page * kv_heads + head) * head_dim + dim) * DS_PAGE + slot;
}
DS_LAYOUT_FN uint64_t ds_kv_value_index(uint32_t page, uint32_t head, uint32_t slot, uint32_t dim, uint32_t kv_heads, uint32_t head_dim) {
    return (((uint64_t)page * kv_heads + head) * DS_PAGE + slot) * head_dim + dim;
}

/*
 * How one row of logits becomes a token; device data, 64 bytes, little-endian. Probabilities are integer masses
 * (numerics.h): filters apply in the order bias, temperature, top-k, top-p, min-p.
 */
struct ds_sample_row {
    float inverse_temperature; /* 0: greedy, everything below is then unused except bias_row */
    uint32_t top_k;            /* 0: off; the k largest biased logits, ties to the lowest id */
    float top_p;               /* 0 or >= 1: off */
    float min_p;               /* 0: off */
    uint32_t seed_low, seed_high;
    uint32_t position;         /* absolute position of the token that is drawn */
    uint32_t stream;
    uint32_t purpose;          /* DS_PURPOSE_*: 0, the target and the coupled draft */
    int32_t bias_row;          /* row of the bias matrix; -1: none */
    uint32_t method;           /* enum ds_draw_method */
    int32_t draft;             /* DS_DRAW_REJECTION: the drafted token */
    uint32_t draft_row;        /* and the row of `drafted` that it was drawn from */
    uint32_t reserved[3];      /* 0 */
};

/* How a row above temperature 0 is drawn: the op `sample` draws all as the first says, `reject` then those of the others. */
enum ds_draw_method {
    DS_DRAW_GUMBEL = 0,
    DS_DRAW_MASS,      /* by integer masses, with the row's purpose */
    DS_DRAW_REJECTION, /* the draft if it is accepted, else a token of the residual */
};

/* How the logits of one row are changed before a token is drawn from them; device data, 48 bytes, little-endian. */
struct ds_adjust_row {
    int32_t sequence;      /* row of the histories and of the biases; -1: the row stays as it is */
    uint32_t first, end;   /* tokens at these positions are penalised: first <= position < end */
    uint32_t drafted_from; /* those at this position and behind it are not in the history but in `drafted`, ... */
    uint32_t drafted_at, drafted_stride; /* ... at these indices */
    float repetition;      /* 1: none */
    float presence, frequency;
    uint32_t biases;       /* of the sequence's list, from its beginning */
    uint32_t reserved[2];  /* 0 */
};

/* Bits of a row's flags: what ends its sequence with an error. Ops only ever set bits. */
enum {
    DS_FLAG_ACTIVATION = 1, /* an activation to be quantised was not finite */
    DS_FLAG_LOGIT = 2,      /* a logit was not finite */
    DS_FLAG_MASKED = 4      /* the bias forbids every token */
};

#endif
