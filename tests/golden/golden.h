/*
 * What the comparisons with the reference implementations share: vectors, engines opened for a test, differences held
 * against a tolerance. Every function fails the running test instead of returning an error.
 */
#ifndef DSPARK_TESTS_GOLDEN_H
#define DSPARK_TESTS_GOLDEN_H

#include "../unit/check.h"
#include "ckpt/checkpoint.h"
#include "dspark_dev.h"
#include "ops/ops.h"

#include <jansson.h>

/* Path of a file of the source tree, malloc'ed. */
char *golden_path(const char *format, ...) __attribute__((format(printf, 1, 2)));

/*
 * The path `<folder>/<name>`, malloc'ed, where a conversion of `input` to `type` now lies. `layout` (NULL: GGUF) and `target` (NULL: none) as in
 * ds_convert_params.
 */
char *golden_convert(const char *folder, const char *name, const char *input, const char *type, const char *layout, const char *target);

/* --- vectors --- */

struct golden {
    char name[64];
    json_t *json;         /* <stem>.json */
    json_t *tolerances;   /* of meta.json; NULL: there is none */
    struct ds_ckpt *arrays; /* <stem>.safetensors */
};
/* tests/golden/<name>/<stem>.{json,safetensors} */
void golden_open(struct golden *golden, const char *name, const char *stem);
void golden_close(struct golden *golden);

/* The f32 array of this name, which must have `count` elements; valid until golden_close. */
const float *golden_array(const struct golden *golden, size_t count, const char *format, ...) __attribute__((format(printf, 3, 4)));
double golden_tolerance(const struct golden *golden, const char *array);

json_t *golden_member(const json_t *object, const char *key); /* borrowed */
int64_t golden_int(const json_t *object, const char *key);
/* An array of whole numbers: ids, rows, lengths. Freed by the caller. */
ds_token *golden_ints(const json_t *object, const char *key, size_t *count);
float *golden_reals(const json_t *object, const char *key, size_t *count);

/* --- devices and engines --- */

enum { GOLDEN_MOST_DEVICES = 16 };
/* The folder to take modules from: what DSPARK_TEST_MODULES says; NULL: none is named. */
const char *golden_modules(void);
/*
 * Names of the devices that honour the numerics contract here; others refuse to open. DSPARK_TEST_DEVICES, "cpu,emu:0", names those that
 * are meant.
 */
size_t golden_devices(const char *names[GOLDEN_MOST_DEVICES]);
/* How many of `count` cases to run on the device: "ref" computes one number at a time and gets at most `few`. */
size_t golden_share(const char *device, size_t count, size_t few);

/* Opened and prepared. */
ds_engine *golden_engine(const ds_engine_params *params);
/* Target and drafter in f32, prepared; the drafter keeps what its blocks compute on their way (ds_drafter.block_outputs). */
ds_engine *golden_pair(const char *target, const char *drafter, const char *device);
/* The first rows of a view in the memory of the engine's first device, without gaps; malloc'ed. */
float *golden_read(const ds_engine *engine, struct ds_view view, size_t rows);
/* For comparisons: greedy, no drafting unless `spec` says so, past stop tokens. */
ds_session *golden_session(ds_engine *engine, ds_spec_mode spec);
/* Empties the session, appends the prompt and generates `count` tokens into `out`. */
void golden_generate(ds_session *session, const ds_token *prompt, size_t n_prompt, ds_token *out, size_t count);

/* --- comparison --- */

/* Fails with place and values when one of them is further away than `tolerance`; `what` names device, case and array. */
void golden_compare(const char *what, const float *got, const float *expected, size_t count, double tolerance);

/* The largest difference of each array compared so far, as a fraction of its tolerance; printed as a comment of TAP. */
struct golden_worst {
    const char *array; /* a literal */
    double fraction;
};
enum { GOLDEN_MOST_ARRAYS = 16 };
struct golden_report {
    char label[96]; /* "pair-dspark on cpu" */
    struct golden_worst worst[GOLDEN_MOST_ARRAYS];
    size_t count;
};
void golden_check(struct golden_report *report, const char *array, const float *got, const float *expected, size_t count, double tolerance);
void golden_print(const struct golden_report *report);

/* Index of the largest value; ties go to the lowest. */
ds_token golden_argmax(const float *row, size_t count);

#endif
