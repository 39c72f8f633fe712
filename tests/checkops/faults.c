/*
 * Does checkops notice? Devices that are the reference but for one fault, each of a kind that a real kernel may have. A test
 * that passes them cannot fail, and is a defect.
 */
#include "check.h"

#include "ops/numerics.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum fault {
    NO_FAULT,        /* must pass */
    WRONG_BIT,       /* one bit of a result */
    WRONG_LAST_BIT,  /* the same at the end of the result */
    WRITES_BEFORE,   /* a byte before a result */
    WRITES_BEHIND,   /* a byte behind a result */
    WRITES_INPUT,    /* a bit of an operand that is only read */
    CHANGES_AGAIN,   /* right the first time only */
    DEPENDS_ON_ROWS, /* right unless there is a single row */
    IGNORES_COUNT,   /* computes all rows */
    FAULT_COUNT
};

static const char *const fault_names[FAULT_COUNT] = {
    "no fault",         "a wrong bit",     "a wrong last bit",       "a write before",
    "a write behind",   "a changed input", "a different second run", "a different single row",
    "an ignored count",
};

/* The state of the one faulty device; checkops is single-threaded. */
static struct {
    struct ds_device base;
    struct ds_device_fns fns;
    const struct ds_device_fns *ref;
    enum fault fault;
    uint32_t runs; /* of the case at hand */
} faulty;

static uint8_t *bytes_of(const union ds_op_params *params, const struct ds_operand *operand) {
    const struct ds_slice *slice = (const struct ds_slice *)(const void *)((const char *)params + operand->offset);
    return (uint8_t *)faulty.ref->host(slice->buffer) + slice->offset;
}

static const struct ds_operand *find(const struct ds_operand *operands, uint32_t n, bool written) {
    for (uint32_t i = 0; i < n; i++)
        if (written == ((operands[i].access & DS_WRITE) != 0)) return &operands[i];
    return NULL;
}

static ds_status run_faulty(ds_op op, struct ds_stream *stream, const union ds_op_params *given, struct ds_error *err) {
    union ds_op_params params = *given;
    if (faulty.fault == IGNORES_COUNT) *check_count_of(op, &params) = (struct ds_slice){0};
    DS_TRY(faulty.ref->op[op](stream, &params, err));
    faulty.runs++;

    struct ds_operand operands[DS_MAX_OPERANDS];
    const uint32_t n = ds_op_operands(op, given, operands);
    const struct ds_operand *output = find(operands, n, true), *input = find(operands, n, false);
    uint8_t *out = bytes_of(given, output);
    switch (faulty.fault) {
    case WRONG_BIT:
        out[0] ^= 1;
        break;
    case WRONG_LAST_BIT:
        out[output->bytes - 1] ^= 1;
        break;
    case WRITES_BEFORE:
        out[-1] ^= 1;
        break;
    case WRITES_BEHIND:
        out[output->bytes] ^= 1;
        break;
    case WRITES_INPUT:
        bytes_of(given, input)[input->bytes - 1] ^= 1;
        break;
    case CHANGES_AGAIN:
        out[0] ^= faulty.runs > 1;
        break;
    case DEPENDS_ON_ROWS:
        out[0] ^= faulty.runs > 2;
        break; /* the third run is the first by rows */
    default:
        break;
    }
    return DS_OK;
}

#define DS_OP(name, text)                                                                                                      \
    static ds_status run_##name(struct ds_stream *stream, const union ds_op_params *params, struct ds_error *err) {            \
        return run_faulty(DS_OP_##name, stream, params, err);                                                                  \
    }
#include "ops/ops.def"
#undef DS_OP

static ds_status (*const faulty_ops[])(struct ds_stream *stream, const union ds_op_params *params, struct ds_error *err) = {
#define DS_OP(name, text) [DS_OP_##name] = run_##name,
#include "ops/ops.def"
#undef DS_OP
};

/* Whether one of the first cases of `op` tells the faulty device from the reference. */
static bool noticed(struct check *c, ds_op op, enum fault fault) {
    enum { CASES = 4 };
    const uint64_t cases_before = c->cases, failures_before = c->failures;
    faulty.fault = fault;
    for (c->only_case = 1; c->only_case <= CASES && c->failures == failures_before; c->only_case++) {
        faulty.runs = 0;
        c->op = op;
        c->index = 0;
        check_op_of(op)->cases(c);
    }
    const bool found = c->failures > failures_before, ran = c->cases > cases_before;
    c->failures = failures_before;
    return found || !ran; /* an op without cases fails at NO_FAULT */
}

uint64_t check_self_test(struct check *c) {
    uint64_t wrong = 0, right = 0;
    faulty.ref = c->ref->fns;
    faulty.fns = *c->ref->fns;
    memcpy(faulty.fns.op, faulty_ops, sizeof faulty.fns.op);
    faulty.base.fns = &faulty.fns;
    c->device = &faulty.base;
    c->stream = c->ref_stream;
    c->quiet = true;
    for (ds_op op = 0; op < DS_OP_COUNT; op++) {
        for (enum fault fault = 0; fault < FAULT_COUNT; fault++) {
            if (noticed(c, op, fault) == (fault != NO_FAULT)) {
                right++;
                continue;
            }
            printf("FAIL self-test: %s with %s was %s\n", ds_op_name(op), fault_names[fault],
                   fault ? "not noticed" : "refused");
            wrong++;
        }
    }
    c->quiet = false;
    printf("self-test: %" PRIu64 " devices told right from wrong, %" PRIu64 " not\n", right, wrong);
    return wrong;
}
