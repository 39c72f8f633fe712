/* src/spec/accept.h: which drafts the target's tokens accept. */
#include "check.h"

#include "spec/accept.h"

enum { N = 3 };
struct example {
    int32_t tokens[N + 1];
    uint32_t flags[N + 1], flags_rows[N + 1];
    ds_token draft[N];
};

static ds_status accept(const struct example *e, uint32_t *accepted, ds_token *next, struct ds_error *err) {
    const struct ds_verified_rows rows = {.tokens = e->tokens, .flags = e->flags, .flags_rows = e->flags_rows, .draft = e->draft, .n_draft = N,
                                          .position = 10};
    return ds_accept(&rows, accepted, next, err);
}

static void the_longest_equal_prefix_is_accepted(void **state) {
    (void)state;
    struct ds_error err;
    for (uint32_t equal = 0; equal <= N; equal++) {
        struct example e = {.tokens = {5, 6, 7, 8}, .draft = {5, 6, 7}};
        if (equal < N) e.draft[equal] = 99;
        uint32_t accepted;
        ds_token next;
        assert_int_equal(accept(&e, &accepted, &next, &err), DS_OK);
        assert_int_equal(accepted, equal);
        assert_int_equal(next, 5 + equal);
    }
}

static void a_flagged_row_ends_the_round_in_front_of_it(void **state) {
    (void)state;
    struct ds_error err;
    struct example e = {.tokens = {5, 6, -1, 8}, .flags = {0, 0, DS_FLAG_LOGIT, 0}, .draft = {5, 6, 7}};
    uint32_t accepted;
    ds_token next;
    assert_int_equal(accept(&e, &accepted, &next, &err), DS_OK);
    assert_int_equal(accepted, 1);
    assert_int_equal(next, 6);
}

static void a_flag_behind_a_rejection_is_not_looked_at(void **state) {
    (void)state;
    struct ds_error err;
    struct example e = {.tokens = {5, 9, -1, 8}, .flags_rows = {0, 0, DS_FLAG_ACTIVATION, 0}, .draft = {5, 6, 7}};
    uint32_t accepted;
    ds_token next;
    assert_int_equal(accept(&e, &accepted, &next, &err), DS_OK);
    assert_int_equal(accepted, 1);
    assert_int_equal(next, 9);
}

static void the_anchors_own_flags_are_errors_that_name_the_position(void **state) {
    (void)state;
    struct ds_error err;
    uint32_t accepted;
    ds_token next;
    struct example e = {.flags = {DS_FLAG_LOGIT}};
    assert_int_equal(accept(&e, &accepted, &next, &err), DS_ERROR_NUMERIC);
    assert_non_null(strstr(err.message, "logit at position 10"));
    e = (struct example){.flags = {DS_FLAG_MASKED}};
    assert_int_equal(accept(&e, &accepted, &next, &err), DS_ERROR_ARGUMENT);
    assert_non_null(strstr(err.message, "position 11"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_longest_equal_prefix_is_accepted),
        cmocka_unit_test(a_flagged_row_ends_the_round_in_front_of_it),
        cmocka_unit_test(a_flag_behind_a_rejection_is_not_looked_at),
        cmocka_unit_test(the_anchors_own_flags_are_errors_that_name_the_position),
    };
    return cmocka_run_group_tests_name("accept", tests, NULL, NULL);
}
