/*
 * Drafters without a confidence head are believed by the greatest probability of what each draft is drawn from (DS_OP_max_prob): they draft here, and
 * are as sure, to the last bit, as on the processor.
 */
#include "vulkan.h"

#include "../unit/tiny_drafters.h"

enum { LENGTH = 3 };

/* Of every draft of an answer, in order. */
struct beliefs {
    float log_odds[TINY_LENGTH * TINY_STEPS];
    size_t n;
};

static void note(void *user, const ds_round *round) {
    struct beliefs *b = user;
    assert_true(b->n + round->n_draft <= DS_COUNT(b->log_odds));
    for (size_t k = 0; k < round->n_draft; k++) b->log_odds[b->n++] = round->confidence_logits[k];
}

static void draft(const struct vulkan_engine *e, ds_token out[TINY_LENGTH], struct beliefs *beliefs) {
    struct ds_error err;
    ds_engine *engine = open_engine(e);
    ds_session *session = open_session(engine, 0.8f, LENGTH);
    beliefs->n = 0;
    ds_session_set_trace(session, note, beliefs);
    check_ok(ds_session_generate(session, TINY_LENGTH, NULL, NULL, NULL, &err), &err);
    memcpy(out, ds_session_tokens(session) + DS_COUNT(tiny_prompt), TINY_LENGTH * sizeof *out);
    ds_session_destroy(session);
    ds_engine_destroy(engine);
}

static void check_believed_alike(void) {
    static const char *const masks[] = {"", "no-address,no-half,no-dot,no-unified"};
    ds_token expected[TINY_LENGTH], found[TINY_LENGTH];
    struct beliefs here, there;
    draft(&(struct vulkan_engine){.device = "cpu"}, expected, &here);
    assert_true(here.n > 0);
    bool differ = false;
    for (size_t i = 0; i < here.n; i++) {
        assert_true(here.log_odds[i] > -5 && here.log_odds[i] < 23); /* log(TINY_VOCABULARY) is 4.4 */
        differ |= here.log_odds[i] != here.log_odds[0];
    }
    assert_true(differ);
    for (size_t i = 0; i < DS_COUNT(masks); i++) {
        setenv("DSPARK_VULKAN", masks[i], 1);
        draft(&(struct vulkan_engine){.device = "vulkan:0"}, found, &there);
        check_same_tokens(found, expected, masks[i]);
        assert_int_equal(there.n, here.n);
        assert_memory_equal(there.log_odds, here.log_odds, here.n * sizeof *here.log_odds);
    }
    unsetenv("DSPARK_VULKAN");
}

/* The pair's drafter makes room for `drafter` meanwhile. */
static void check_kind(struct tiny_model drafter) {
    char *pair = drafter_folder;
    drafter_folder = tiny_write(&drafter);
    check_believed_alike();
    check_remove_folder(drafter_folder);
    drafter_folder = pair;
}

static void dflash_is_as_sure_as_on_the_processor(void **state) {
    (void)state;
    check_kind(tiny_dflash());
}

static void eagle3_is_as_sure_as_on_the_processor(void **state) {
    (void)state;
    check_kind(tiny_eagle3());
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dflash_is_as_sure_as_on_the_processor),
        cmocka_unit_test(eagle3_is_as_sure_as_on_the_processor),
    };
    return cmocka_run_group_tests(tests, vulkan_begin, remove_models);
}
