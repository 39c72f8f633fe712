/* Conversions into a folder of the test's own. */
#ifndef DSPARK_TESTS_CONVERSIONS_H
#define DSPARK_TESTS_CONVERSIONS_H

#include "dspark_dev.h"
#include "tiny_model.h"

static const char target_folder[] = DSPARK_SOURCE_ROOT "/models/tiny/target", drafter_folder[] = DSPARK_SOURCE_ROOT "/models/tiny/dspark";

struct scratch {
    char *folder, *path, *other;
};

static inline int set_up(void **state) {
    struct scratch *s = calloc(1, sizeof *s);
    assert_non_null(s);
    s->folder = check_make_folder();
    s->path = ds_os_join(s->folder, "out.gguf");
    s->other = ds_os_join(s->folder, "other.gguf");
    *state = s;
    return 0;
}

static inline int tear_down(void **state) {
    struct scratch *s = *state;
    check_remove_folder(s->folder);
    free(s->path);
    free(s->other);
    free(s);
    return 0;
}

static inline ds_convert_params params_of(const char *input, const char *output, const char *type) {
    ds_convert_params params = ds_convert_defaults();
    params.input = input;
    params.output = output;
    params.type = type;
    return params;
}

static inline void convert(const ds_convert_params *params) {
    struct ds_error err;
    check_ok(ds_convert(params, NULL, NULL, NULL, &err), &err);
}

static inline void convert_simply(const char *input, const char *output, const char *type) {
    const ds_convert_params params = params_of(input, output, type);
    convert(&params);
}

static inline struct ds_ckpt *open_ckpt(const char *path) {
    struct ds_ckpt *ckpt;
    struct ds_error err;
    check_ok(ds_ckpt_open(path, &ckpt, &err), &err);
    return ckpt;
}

static inline void assert_same_files(const char *a, const char *b) {
    struct ds_error err;
    char *x, *y;
    size_t n, m;
    check_ok(ds_os_read_file(a, 1 << 28, &x, &n, &err), &err);
    check_ok(ds_os_read_file(b, 1 << 28, &y, &m, &err), &err);
    assert_int_equal(n, m);
    assert_true(memcmp(x, y, n) == 0);
    free(x);
    free(y);
}

static inline void assert_nothing_written(const struct scratch *s) {
    struct ds_error err;
    char **names;
    size_t count;
    check_ok(ds_os_list_folder(s->folder, &names, &count, &err), &err);
    ds_os_free_names(names, count);
    assert_int_equal(count, 0);
}

static inline void widened(const struct ds_ckpt_tensor *tensor, float **out, uint64_t *count) {
    *count = tensor->shape[0] * tensor->shape[1] * tensor->shape[2] * tensor->shape[3];
    *out = malloc((size_t)*count * sizeof **out);
    assert_non_null(*out);
    ds_dequantize_row(tensor->type, tensor->data, *count, *out);
}

static inline void assert_same_values(const struct ds_ckpt *a, const char *name_a, const struct ds_ckpt *b, const char *name_b) {
    const struct ds_ckpt_tensor *x = ds_ckpt_find(a, name_a), *y = ds_ckpt_find(b, name_b);
    if (!x || !y) fail_msg("%s or %s is missing", name_a, name_b);
    float *u, *v;
    uint64_t n, m;
    widened(x, &u, &n);
    widened(y, &v, &m);
    assert_int_equal(n, m);
    if (memcmp(u, v, (size_t)n * sizeof *u) != 0) fail_msg("%s differs from %s", name_a, name_b);
    free(u);
    free(v);
}

#endif
