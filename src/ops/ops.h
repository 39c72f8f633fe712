/*
 * Parameters of every op. All of a graph's parameters are fixed when it is built; what changes from pass to pass (token
 * ids, positions, lengths, page tables, how many rows are active) lies in device buffers.
 *
 * Common rules, checked once by ops.c, trusted by backends:
 *   - A view is [rows, cols] with `stride` elements between rows; offsets are multiples of the element size.
 *   - `count` (optional, buffer NULL: all rows) points to a u32: only rows below min(rows, count) are computed, the others
 *     are neither read nor written.
 *   - Outputs overlap no input, unless "in place" is said, and then only as the very same view.
 *   - "Row r of sequence s" data: positions i32[rows] (absolute, -1: the row is padding and is skipped), sequences i32[rows]
 *     (a row of the page table), page_table i32[n_sequences][pages_per_sequence].
 *   - Values read from device data (ids, positions, pages) are the engine's own and are in range.
 */
#ifndef DSPARK_OPS_OPS_H
#define DSPARK_OPS_OPS_H

#include "ckpt/blocks.h"
#include "ops/layout.h"

struct ds_device;
struct ds_stream;

/* Device memory. Backends put this first in a struct of their own. */
struct ds_buffer {
    struct ds_device *device; /* NULL: a graph's planned tensor, not yet placed */
    uint64_t bytes;
};

/* A place in device memory; buffer NULL where an operand is optional and absent. */
struct ds_slice {
    struct ds_buffer *buffer;
    uint64_t offset; /* bytes */
};

typedef enum ds_elem {
    DS_ELEM_F32,
    DS_ELEM_I32,
    DS_ELEM_BF16,
    DS_ELEM_Q8,    /* int8 with one scale for DS_RUN inputs: layout.h; stride is unused */
    DS_ELEM_Q8_32, /* int8 with one scale for DS_Q8_BLOCK inputs; likewise */
    DS_ELEM_COUNT
} ds_elem;

struct ds_view {
    struct ds_slice at;
    ds_elem elem;
    uint32_t rows, cols;
    uint32_t stride; /* elements; >= cols; unused for DS_ELEM_Q8 and DS_ELEM_Q8_32 */
};

/* Rows of int8 and scales: as long as their columns ask for, never apart, and not to be cut between columns. */
static inline bool ds_elem_is_q8(ds_elem elem) { return elem == DS_ELEM_Q8 || elem == DS_ELEM_Q8_32; }

/* Bytes from one row of a view to the next. */
static inline uint64_t ds_view_pitch(const struct ds_view *view) {
    switch (view->elem) {
    case DS_ELEM_Q8: return ds_q8_row_bytes(view->cols);
    case DS_ELEM_Q8_32: return ds_q8_32_row_bytes(view->cols);
    case DS_ELEM_BF16: return (uint64_t)view->stride * 2;
    default: return (uint64_t)view->stride * 4;
    }
}

/* A matrix [rows, cols] in the device's own layout, written by weight_write (device.h). */
struct ds_weight {
    struct ds_slice at;
    ds_type type; /* of the values; the layout is the device's business */
    uint32_t rows, cols;
};

/* What a linear with weights of this type reads: F32 for F32 and F16, BF16 for BF16, Q8_32 for Q8_0, Q8 for the other block types. */
ds_elem ds_linear_input(ds_type weight_type);

/* Rows that an expert of `outputs` outputs takes in the matrix of all experts. */
static inline uint32_t ds_expert_rows(uint32_t outputs) { return (outputs + DS_WEIGHT_ROWS - 1) / DS_WEIGHT_ROWS * DS_WEIGHT_ROWS; }

/* out[r, :] = table[ids[r], :] * scale (exactly the row where scale is 1); +0 where ids[r] is below 0: `sample` found no token there */
struct ds_op_embed {
    struct ds_weight table;
    struct ds_slice ids;   /* i32[rows] */
    struct ds_view out;    /* f32 [rows, table.cols] */
    float scale;
    struct ds_slice count;
};

/*
 * For each group g of `dim` columns: out = (x * (1 / sqrt(mean(x^2) + eps))) * weight, and residual added to that where there
 * is one. In place allowed: x or the residual may be out itself.
 */
struct ds_op_rms_norm {
    struct ds_view x, out;  /* f32 [rows, groups * dim] */
    uint32_t dim;
    struct ds_slice weight; /* f32[dim], or absent: 1 */
    float eps;
    struct ds_view residual; /* f32 [rows, groups * dim]; at.buffer NULL: none */
    struct ds_slice count;
};

/*
 * x in the form that linears of some type read. Inputs that share a scale become zeros where their largest magnitude is 0 or not finite,
 * the latter with DS_FLAG_ACTIVATION. A row of x may hold several rows of out side by side (the experts' activations): group g of row r
 * becomes row r * groups + g of out, its flags are those of row r.
 */
struct ds_op_quantize {
    struct ds_view x;       /* f32 [rows, groups * cols] */
    struct ds_view out;     /* BF16, Q8 or Q8_32 [rows * groups, cols] */
    uint32_t groups;        /* 0: 1 */
    struct ds_slice flags;  /* u32[rows], or absent */
    struct ds_slice count;
};

/* y[r, o] = ((sum over i, in runs, of x[r, i] * w[o, i]) + bias[o]) + residual[r, o], absent terms left out. residual may be y itself. */
struct ds_op_linear {
    struct ds_weight weight;  /* [outputs, inputs] */
    struct ds_view x;         /* [rows, inputs] in ds_linear_input(weight.type) */
    struct ds_view y;         /* f32 [rows, outputs] */
    struct ds_slice bias;     /* f32[outputs] */
    struct ds_view residual;  /* f32 [rows, outputs]; at.buffer NULL: none */
    struct ds_slice count;
};

/*
 * Rotates the first n_rot of each head's head_dim columns. neox: pairs (i, i + n_rot/2); else (2i, 2i+1).
 * (a, b) -> (a * cos - b * sin, b * cos + a * sin) with cos, sin = tables[position][i]; each product rounded, then the sum.
 */
struct ds_op_rope {
    struct ds_view x;         /* f32 [rows, heads * head_dim], in place */
    uint32_t head_dim, n_rot;
    bool neox;
    struct ds_slice cos, sin; /* f32[table_positions][n_rot / 2] */
    uint32_t table_positions;
    struct ds_slice positions;
    struct ds_slice count;
};

/* The cache of one layer: layout.h. */
struct ds_kv {
    struct ds_slice k, v;
    bool f16;                 /* elements: f16 (written with saturation) or f32 */
    uint32_t pages, kv_heads, head_dim;
};
struct ds_paging {
    struct ds_slice page_table; /* i32[sequences][pages_per_sequence] */
    uint32_t sequences, pages_per_sequence;
    struct ds_slice row_sequence; /* i32[rows] */
    struct ds_slice positions;    /* i32[rows] */
};

struct ds_op_kv_store {
    struct ds_view k, v;      /* f32 [rows, kv_heads * head_dim] */
    struct ds_kv kv;
    struct ds_paging paging;
    struct ds_slice count;
};

/*
 * Row r sees positions j with j < visible[r] and, where window > 0, j > positions[r] - window. Query head h reads kv head
 * h / (heads / kv_heads). Chunks, f16 rounding and the order of sums: docs/numerics.md. A row that sees nothing gives zeros.
 */
struct ds_op_attention {
    struct ds_view q, out;    /* f32 [rows, heads * head_dim] */
    uint32_t heads;
    struct ds_kv kv;
    struct ds_paging paging;
    struct ds_slice visible;  /* i32[rows] */
    uint32_t window;          /* 0: all */
    float scale;
    float softcap;            /* 0: none */
    struct ds_slice count;
};

typedef enum ds_activation { DS_ACT_SILU, DS_ACT_GELU_TANH, DS_ACT_SIGMOID } ds_activation;

struct ds_op_glu {
    struct ds_view gate, up, out; /* f32 [rows, cols]; out may be gate or up in place */
    ds_activation activation;
    struct ds_slice count;
};

/* out[r, :] = x[index[r], :], or x[r, :] without index. Bits are copied. */
struct ds_op_copy {
    struct ds_view x, out;    /* both F32 or both I32, same cols */
    struct ds_slice index;    /* i32[out.rows], or absent */
    struct ds_slice count;    /* rows of out */
};

/* tokens[r] from logits[r]: struct ds_sample_row says how. A row with a non-finite logit gives -1 and DS_FLAG_LOGIT; all masked: -1 and DS_FLAG_MASKED. */
struct ds_op_sample {
    struct ds_view logits;    /* f32 [rows, vocabulary] */
    struct ds_slice rows;     /* struct ds_sample_row[rows] */
    struct ds_slice bias;     /* f32 [bias_rows][vocabulary], or absent; -infinity forbids a token, other values are finite */
    uint32_t bias_rows;
    struct ds_slice tokens;   /* i32[rows], out */
    struct ds_slice flags;    /* u32[rows], or absent */
    struct ds_slice count;
};

/* out = x * scale, then cap * tanh(out / cap) where softcap > 0. In place allowed. */
struct ds_op_scale {
    struct ds_view x, out;    /* f32 [rows, cols] */
    float scale;
    float softcap;            /* 0: none */
    struct ds_slice count;
};

/*
 * The experts of each row: those with the `slots` greatest logits, ties to the lowest id, listed by ascending id. The weight of
 * expert e is exp(l_e - max) / sum, the sum over all experts or, `normalise`, over the chosen ones; times scale[e].
 */
struct ds_op_route {
    struct ds_view logits;    /* f32 [rows, experts] */
    struct ds_view ids;       /* i32 [rows, slots], out */
    struct ds_view weights;   /* f32 [rows, slots], out */
    bool normalise;
    struct ds_slice scale;    /* f32[experts], or absent: 1 */
    struct ds_slice count;
};

/*
 * y[r, s * outputs + o] = sum over i, in runs, of x[r or r * slots + s, i] * w[e, o, i] with e = ids[r, s]: a linear (same formats,
 * same order of sums) whose weights each (row, slot) picks. The experts' matrices lie in one, each padded to whole groups of
 * DS_WEIGHT_ROWS rows: expert e begins at row e * ds_expert_rows(outputs).
 */
struct ds_op_expert_linear {
    struct ds_weight weight;  /* [experts * ds_expert_rows(outputs), inputs] */
    uint32_t experts, outputs;
    struct ds_view x;         /* [rows, inputs], or [rows * slots, inputs], in ds_linear_input(weight.type) */
    struct ds_view ids;       /* i32 [rows, slots] */
    struct ds_view y;         /* f32 [rows, slots * outputs] */
    struct ds_slice count;    /* rows of ids */
};

/* y[r, c] = (sum over slots s, ascending from +0, of weights[r, s] * x[r, s * cols + c]) + residual[r, c]. residual may be y itself. */
struct ds_op_expert_sum {
    struct ds_view x;         /* f32 [rows, slots * cols] */
    struct ds_view weights;   /* f32 [rows, slots] */
    struct ds_view y;         /* f32 [rows, cols] */
    struct ds_view residual;  /* f32 [rows, cols]; at.buffer NULL: none */
    struct ds_slice count;
};

/*
 * With gates = [gate | candidate | output], three groups of as many columns as the state:
 *   next = sigmoid(gate) * state + (1 - sigmoid(gate)) * tanh(candidate),   out = tanh(output)
 */
struct ds_op_rnn_cell {
    struct ds_view gates;     /* f32 [rows, 3 * size] */
    struct ds_view state;     /* f32 [rows, size]; at.buffer NULL: all +0 */
    struct ds_view next, out; /* f32 [rows, size]; next or out may be state in place */
    struct ds_slice count;
};

/* out[r, ids[c]] = x[r, c], and `fill` in every other column of out. Bits are copied. */
struct ds_op_scatter {
    struct ds_view x;         /* f32 [rows, cols] */
    struct ds_slice ids;      /* i32[cols], different from each other, below out.cols */
    struct ds_view out;       /* f32 [rows, at least cols] */
    float fill;               /* finite */
    struct ds_slice count;
};

/*
 * out = x, except, in this order,
 *   for tokens that appear c > 0 times in the row's stretch of its history: x / repetition where x > 0, else x * repetition; then
 *   less presence, then less c * frequency;
 *   for the first `biases` tokens of the sequence's list: their bias added.
 * After either step infinities become the largest finite number of their sign: a bias of -infinity leaves a token that is drawn only
 * where all others are like it. What is not finite in x stays as it is. Ids outside the vocabulary count as no token.
 */
struct ds_op_adjust {
    struct ds_view x, out;       /* f32 [rows, vocabulary]; out may be x in place */
    struct ds_slice rows;        /* struct ds_adjust_row[rows] */
    struct ds_view history;      /* i32 [sequences, positions]: tokens by position */
    struct ds_slice drafted;     /* i32[n_drafted]: tokens that are not yet part of a sequence; or absent */
    uint32_t n_drafted;
    struct ds_view bias_ids;     /* i32 [sequences, any]; different from each other in a row */
    struct ds_view bias_values;  /* f32, likewise; finite or -infinity */
    struct ds_slice count;
};

/*
 * tokens[r] for rows whose method is not DS_DRAW_GUMBEL; the others keep theirs. Masses and filters as in `sample`, from the row's own
 * logits and from those its draft was drawn from; how they are compared: ref/reject.c. Flags as in `sample`.
 */
struct ds_op_reject {
    struct ds_view logits;    /* f32 [rows, vocabulary] */
    struct ds_slice rows;     /* struct ds_sample_row[rows] */
    struct ds_view drafted;   /* f32 [any, vocabulary]; at.buffer NULL: no row has the method DS_DRAW_REJECTION */
    struct ds_slice bias;     /* f32 [bias_rows][vocabulary], of `logits` alone; or absent */
    uint32_t bias_rows;
    struct ds_slice tokens;   /* i32[rows], in and out */
    struct ds_slice flags;    /* u32[rows], or absent */
    struct ds_slice count;
};

/*
 * Fused ops: by definition the ops they are made of, one after the other, every byte of what these leave included. They save launches
 * and passes over memory.
 */

/* rms_norm of x into normed, one group a row, then quantize of that. */
struct ds_op_norm_quantize {
    struct ds_view x;         /* f32 [rows, cols] */
    struct ds_slice weight;   /* f32[cols], or absent: 1 */
    float eps;
    struct ds_view normed;    /* f32 [rows, cols], out */
    struct ds_view out;       /* BF16, Q8 or Q8_32 [rows, cols] */
    struct ds_slice flags;    /* u32[rows], or absent */
    struct ds_slice count;
};

/* glu of gate and up into gated, then quantize of that. */
struct ds_op_glu_quantize {
    struct ds_view gate, up;  /* f32 [rows, groups * cols] */
    ds_activation activation;
    struct ds_view gated;     /* f32 [rows, groups * cols], out */
    struct ds_view out;       /* BF16, Q8 or Q8_32 [rows * groups, cols] */
    uint32_t groups;          /* 0: 1 */
    struct ds_slice flags;    /* u32[rows], or absent */
    struct ds_slice count;
};

/*
 * What stands between the projections and attention: rms_norm of each head of q and of k in place, where it has a weight; rope of both in
 * place; kv_store of k and v. Positions are those of `paging`, heads have kv.head_dim columns.
 */
struct ds_op_heads {
    struct ds_view q;         /* f32 [rows, any heads * head_dim], in place; at.buffer NULL: keys and values only */
    struct ds_view k, v;      /* f32 [rows, kv_heads * head_dim]; k in place */
    struct ds_slice q_norm, k_norm; /* f32[head_dim], or absent: no norm */
    float eps;
    uint32_t n_rot;           /* as in rope */
    bool neox;
    struct ds_slice cos, sin; /* f32[table_positions][n_rot / 2] */
    uint32_t table_positions;
    struct ds_kv kv;
    struct ds_paging paging;
    struct ds_slice count;
};

/*
 * A linear for a few of its outputs: y[r, o] = (sum over i, in runs, of x[r, i] * w[o, i]) + residual[r, o] for the `top` first outputs in
 * the order (residual descending, o ascending; a NaN before any number, the two zeros being one), `fill` for all others.
 */
struct ds_op_top_linear {
    struct ds_weight weight;  /* [outputs, inputs] */
    struct ds_view x;         /* [rows, inputs] in ds_linear_input(weight.type) */
    struct ds_view residual;  /* f32 [rows, outputs] */
    struct ds_view y;         /* f32 [rows, outputs] */
    uint32_t top;             /* 1..outputs */
    float fill;               /* finite */
    struct ds_slice count;
};

/*
 * The maximum softmax probability (Hendrycks and Gimpel 2017), p = max over i of softmax(logits[r])[i], as log_odds[r] = log(p / (1 - p)): of
 * integer masses at temperature 1 (ref/max_prob.c), so that no order of sums is in it. Between -log(vocabulary) and 22.2; -infinity where a logit is
 * not finite. It depends on what a token is drawn from, never on which one is.
 */
struct ds_op_max_prob {
    struct ds_view logits;    /* f32 [rows, vocabulary] */
    struct ds_view log_odds;  /* f32 [rows, 1], out */
    struct ds_slice count;
};

typedef enum ds_op {
#define DS_OP(name, text) DS_OP_##name,
#include "ops/ops.def"
#undef DS_OP
    DS_OP_COUNT
} ds_op;

const char *ds_op_name(ds_op op);

union ds_op_params {
#define DS_OP(name, text) struct ds_op_##name name;
#include "ops/ops.def"
#undef DS_OP
};

/*
 * A fused op as the ops it is made of, in their order: fills `ops` and `parts` and returns how many, 0 for any other op. What it does
 * is what they do.
 */
enum { DS_MOST_PARTS = 5 };
uint32_t ds_op_parts(ds_op op, const union ds_op_params *params, ds_op ops[DS_MOST_PARTS], union ds_op_params parts[DS_MOST_PARTS]);

/*
 * What an op reads and writes, for planning and for tests. `offset` is that of a struct ds_slice in the parameters; `bytes`
 * is how many the op may touch there.
 */
typedef enum ds_access { DS_READ = 1, DS_WRITE = 2, DS_READ_WRITE = 3 } ds_access;
struct ds_operand {
    const char *name;
    size_t offset; /* of the slice in union ds_op_params */
    ds_access access;
    uint64_t bytes; /* touched from slice.offset on */
};
enum { DS_MAX_OPERANDS = 16 };
/* Fills `out` with the operands that are present (buffer not NULL) and returns how many. */
uint32_t ds_op_operands(ds_op op, const union ds_op_params *params, struct ds_operand out[DS_MAX_OPERANDS]);

/* Shapes, types, bounds, alignment, overlaps. The message names op, operand, expected and found. A graph calls it once a node. */
ds_status ds_op_check(ds_op op, const union ds_op_params *params, struct ds_error *err);

/* Bytes of `rows` rows of a view from its offset on. */
uint64_t ds_view_bytes(const struct ds_view *view);

#endif
