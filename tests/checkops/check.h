/*
 * checkops: every op on every device against the reference, bit for bit.
 *
 * A case builds a problem in host memory: parameters whose slices point into blocks. check_run places the blocks on the
 * reference and on the device under test, each inside a larger, poisoned buffer, and holds the device to these rules:
 *
 *   equal bits   every byte of every block is as the reference leaves it: results, gaps between rows, inputs, poison around
 *   again        a second run from the same start gives the same
 *   by rows      rows computed a few at a time give the same
 *   count        with a count below `rows` the other rows stay as they were; a count above changes nothing
 *   weights      the bytes of packed weights are only read
 *   parts        a fused op leaves what the device's own ops for its parts leave, one after the other
 *
 * The reference itself is held to: it writes only where ds_op_operands says so. Checking `ref` as a device compares it with
 * itself, which still means something for the last four rules.
 */
#ifndef DSPARK_CHECKOPS_CHECK_H
#define DSPARK_CHECKOPS_CHECK_H

#include "ops/device.h"

enum { CHECK_MAX_BLOCKS = 20 };

/* Host memory of one tensor. `base` is what slices of the problem point to; it is replaced when the problem is placed. */
struct block {
    struct ds_buffer base;
    uint8_t *data;
    const struct ds_weight *weight; /* not NULL: `data` is a matrix in file layout, written with weight_write */
};

struct check {
    /* the run */
    struct ds_device *ref, *device;
    struct ds_stream *ref_stream, *stream;
    const char *repeat; /* "--device cpu --isa avx2": how to ask for this device again */
    uint64_t seed;
    const char *only_op; /* NULL: all */
    int64_t only_case;   /* -1: all */
    bool list, bench, quiet;
    bool quick; /* leave large cases out: for emulators */
    uint64_t cases, skipped, failures;

    /* the case at hand */
    ds_op op;
    uint32_t index;
    char label[256];
    union ds_op_params params;
    struct block blocks[CHECK_MAX_BLOCKS];
    struct ds_weight weight; /* of the one block that is a matrix */
    uint32_t n_blocks;
    uint64_t random;   /* how many random words the case has used */
    uint32_t words[4]; /* the last of them, computed four at a time */
    double macs;     /* multiply-adds, for --bench; 0: unknown */
};

/* One per op, from ops.def: an op without its check_NAME.c does not link. */
struct check_op {
    void (*cases)(struct check *c);
    /* Makes `params` those of rows [first, first + n). */
    void (*slice)(union ds_op_params *params, uint32_t first, uint32_t n);
};
#define DS_OP(name, text) extern const struct check_op check_##name;
#include "ops/ops.def"
#undef DS_OP
const struct check_op *check_op_of(ds_op op);
/* Where the op's `count` lies. */
struct ds_slice *check_count_of(ds_op op, union ds_op_params *params);

/* --- building a case --- */

/* Starts a case with what distinguishes it. False: it was not asked for; build nothing. */
bool check_case(struct check *c, const char *format, ...) DS_PRINTF(2, 3);
/* False: a case of so many multiply-adds (or elements) is too large for --quick; build nothing. */
bool check_affordable(const struct check *c, uint64_t macs);
/* Runs the case and forgets it. `rows`: of the op. */
void check_run(struct check *c, uint32_t rows);

/* A block of poison to be filled by the caller through *data. */
struct ds_slice check_block(struct check *c, uint64_t bytes, void *data);
struct ds_slice check_words(struct check *c, const void *words, uint32_t n);

/* What random tensors hold. */
enum fill {
    FILL_POISON,    /* as allocated: for outputs */
    FILL_NORMAL,    /* about N(0, 1) */
    FILL_INTEGERS,  /* -3 .. 3: any order of summation gives the same bits */
    FILL_DENORMALS, /* denormals and the smallest normals */
    FILL_OUTLIERS,  /* N(0, 1), some thousands among them */
    FILL_ZEROS,     /* zeros of both signs */
    FILL_WILD,      /* any exponent within 2^-40 .. 2^40 */
    FILL_COUNT
};
const char *fill_name(enum fill fill);
void check_fill(struct check *c, enum fill fill, float *out, uint64_t n);

/* Views start anywhere and have a gap after each row, as the case's random numbers choose; the gaps hold poison. */
struct ds_view check_view(struct check *c, ds_elem elem, uint32_t rows, uint32_t cols, enum fill fill);
/* f32 values of a fill, quantised by the reference if `elem` asks for it. */
struct ds_view check_activations(struct check *c, ds_elem elem, uint32_t rows, uint32_t cols, enum fill fill);
struct ds_weight check_weight(struct check *c, ds_type type, uint32_t rows, uint32_t cols, enum fill fill);
struct ds_slice check_floats(struct check *c, uint32_t n, enum fill fill);
/* i32[n] of a random row each, below `limit`. */
struct ds_slice check_indices(struct check *c, uint32_t n, uint32_t limit);
/* i32[n], different from each other, below `limit`, in no order. */
struct ds_slice check_order(struct check *c, uint32_t n, uint32_t limit);

/* A cache of `sequences` x `pages_each` pages in random order, some pages spare. Its contents are the caller's. */
struct ds_paging check_paging(struct check *c, uint32_t sequences, uint32_t pages_each, uint32_t rows,
                              const int32_t *row_sequence, const int32_t *positions);
/* The same for rows that go round the sequences, each sequence's first at position `from`; row 3 has no position. *pages: of the cache. */
struct ds_paging check_paging_round(struct check *c, uint32_t sequences, uint32_t from, uint32_t rows, uint32_t *pages);
uint32_t check_pages(uint32_t sequences, uint32_t pages_each); /* that such a cache has */
uint32_t check_page_of(const struct check *c, const struct ds_paging *paging, uint32_t sequence, uint32_t position);

/* Draws row r of a case as `way` says: random numbers, a stream, and for two rows of three a row of biases. */
struct ds_sample_row check_draw(struct check *c, const struct ds_sample_row *way, uint32_t r, uint32_t bias_rows);
/* Biases [bias_rows, vocabulary] of which every third forbids; `first`: all of row 0. */
struct ds_slice check_biases(struct check *c, uint32_t bias_rows, uint32_t vocabulary, bool first);

uint32_t check_random(struct check *c);
uint32_t check_below(struct check *c, uint32_t limit);
void *check_at(const struct ds_slice *slice); /* the host memory of a problem's slice */

/* --- slicing --- */

void slice_view(struct ds_view *view, uint32_t first, uint32_t n);               /* absent: nothing */
void slice_rows(struct ds_slice *slice, uint32_t first, uint32_t bytes_per_row); /* absent: nothing */

/* --- other modes --- */

/* Times the case at hand on c->device and prints bandwidth and rate. */
void check_bench(struct check *c);
/* Runs the cases of all selected ops. */
void check_all(struct check *c);
/* Wrong devices of every kind must be caught. Returns the number that were not. */
uint64_t check_self_test(struct check *c);

/* A problem placed on a device: its blocks between poison. */
struct placed {
    struct ds_device *device;
    struct ds_stream *stream;
    struct ds_buffer *buffers[CHECK_MAX_BLOCKS];
    union ds_op_params params;
};
/* Exits the program with a message when the device cannot do that. */
void check_place(const struct check *c, struct ds_device *device, struct ds_stream *stream, struct placed *out);
void check_unplace(struct placed *placed);
void check_must(ds_status status, const struct ds_error *err);

#endif
