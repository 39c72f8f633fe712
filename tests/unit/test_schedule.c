/* src/spec/schedule.h: which lengths are chosen, and why Algorithm 1 exists. */
#include "check.h"

#include "spec/schedule.h"

#include <math.h>

/* A repeatable stream of numbers in [0, 1). */
static uint64_t state_of_draws;
static double draw(void) {
    state_of_draws = state_of_draws * 6364136223846793005u + 1442695040888963407u;
    return (double)(state_of_draws >> 11) * 0x1p-53;
}

enum { REQUESTS = 3, DRAFTS = 4, ROWS = REQUESTS * (DRAFTS + 1) };

struct example {
    double survival[REQUESTS][DRAFTS], pass[ROWS + 1];
    struct ds_schedule_request requests[REQUESTS];
    struct ds_schedule_costs costs;
};

static void make_example(struct example *e, double rate) {
    for (uint32_t r = 0; r < REQUESTS; r++) {
        double product = 1;
        for (uint32_t j = 0; j < DRAFTS; j++) e->survival[r][j] = product *= draw();
        e->requests[r] = (struct ds_schedule_request){e->survival[r], (uint32_t)(draw() * (DRAFTS + 1))};
    }
    e->pass[0] = 0;
    for (uint32_t b = 1; b <= ROWS; b++) e->pass[b] = e->pass[b - 1] + (b == 1 ? 1 : draw() * 0.5);
    e->costs = (struct ds_schedule_costs){.pass = e->pass, .rows = REQUESTS + (uint32_t)(draw() * (ROWS - REQUESTS + 1)), .fixed = draw(), .rate = rate};
}

static double value_of(const struct example *e, const uint32_t *lengths) {
    double tokens = REQUESTS;
    uint32_t rows = REQUESTS;
    for (uint32_t r = 0; r < REQUESTS; r++) {
        rows += lengths[r];
        for (uint32_t j = 0; j < lengths[r]; j++) tokens += e->survival[r][j];
    }
    if (rows > e->costs.rows) return -INFINITY;
    const double seconds = e->pass[rows] + e->costs.fixed;
    return e->costs.rate > 0 ? tokens - e->costs.rate * seconds : tokens / seconds;
}

static double best_of_all(const struct example *e) {
    double best = -INFINITY;
    uint32_t l[REQUESTS];
    for (l[0] = 0; l[0] <= e->requests[0].n; l[0]++)
        for (l[1] = 0; l[1] <= e->requests[1].n; l[1]++)
            for (l[2] = 0; l[2] <= e->requests[2].n; l[2]++) best = fmax(best, value_of(e, l));
    return best;
}

static void the_search_finds_the_best_of_all_lengths(void **state) {
    (void)state;
    static const double rates[] = {0, 0.3, 1, 3};
    for (int i = 0; i < 4000; i++) {
        struct example e;
        struct ds_schedule got;
        make_example(&e, rates[i % 4]);
        ds_schedule_search(&e.costs, e.requests, REQUESTS, &got);
        const double best = best_of_all(&e);
        assert_true(fabs(got.value - best) < 1e-12 * (1 + fabs(best)));
        assert_true(fabs(value_of(&e, got.lengths) - best) < 1e-12 * (1 + fabs(best)));
    }
}

static void admission_stops_at_the_first_draft_that_raises_nothing(void **state) {
    (void)state;
    /* The second row is dear, the third and fourth are free: a search looks over the hill, Algorithm 1 does not. */
    static const double survival[] = {0.5, 0.49, 0.48}, pass[] = {0, 1, 2, 2, 2};
    const struct ds_schedule_costs costs = {.pass = pass, .rows = 4, .rate = 1};
    const struct ds_schedule_request request = {survival, 3};
    struct ds_schedule search, admit;
    ds_schedule_search(&costs, &request, 1, &search);
    ds_schedule_admit(&costs, &request, 1, &admit);
    assert_int_equal(search.lengths[0], 3);
    assert_int_equal(admit.lengths[0], 0);
}

static void admission_never_depends_on_what_lies_behind_the_draft_it_refused(void **state) {
    (void)state;
    for (int i = 0; i < 2000; i++) {
        struct example e;
        struct ds_schedule first, second;
        make_example(&e, i % 2 ? 0 : 0.7);
        ds_schedule_admit(&e.costs, e.requests, REQUESTS, &first);
        /* Draft l + 1 was refused by its own survival, which y[l + 1] does not influence; anything behind it may change. */
        for (uint32_t r = 0; r < REQUESTS; r++)
            for (uint32_t j = first.lengths[r] + 1; j < e.requests[r].n; j++) e.survival[r][j] = e.survival[r][j - 1] * draw();
        ds_schedule_admit(&e.costs, e.requests, REQUESTS, &second);
        assert_memory_equal(first.lengths, second.lengths, REQUESTS * sizeof *first.lengths);
    }
}

/*
 * Appendix A of the paper. Two tokens, target (0.7, 0.3), draft (0.5, 0.5); 1, 0.5 and 0.45 passes a second at 1, 2 and 3 rows. y1 is
 * accepted with probability 0.8, and the second draft surely or never, which y1 decides. The distribution of the first token:
 */
static double first_token_is_a(void (*choose)(const struct ds_schedule_costs *, const struct ds_schedule_request *, uint32_t, struct ds_schedule *)) {
    static const double target_a = 0.7, draft_a = 0.5, pass[] = {0, 1, 2, 1 / 0.45};
    double probability = 0;
    for (int y1 = 0; y1 < 2; y1++) { /* 0: A */
        const double drafted = y1 == 0 ? draft_a : 1 - draft_a, wanted = y1 == 0 ? target_a : 1 - target_a;
        const double survival[] = {0.8, y1 == 0 ? 0.8 : 0.0};
        const struct ds_schedule_costs costs = {.pass = pass, .rows = 3};
        const struct ds_schedule_request request = {survival, 2};
        struct ds_schedule chosen;
        choose(&costs, &request, 1, &chosen);
        const double accepted = fmin(1, wanted / drafted);
        /* Not verified: the target draws. Verified: y1 stays, or the residual draws, which here is all A. */
        if (chosen.lengths[0] == 0) probability += drafted * target_a;
        else probability += drafted * (accepted * (y1 == 0) + (1 - accepted));
    }
    return probability;
}

static void a_search_that_looks_at_drafts_changes_the_distribution_of_rejection_sampling(void **state) {
    (void)state;
    assert_true(fabs(first_token_is_a(ds_schedule_search) - 0.85) < 1e-12);
}

static void admission_keeps_the_distribution_of_rejection_sampling(void **state) {
    (void)state;
    assert_true(fabs(first_token_is_a(ds_schedule_admit) - 0.7) < 1e-12);
}

/* --- the two objectives --- */

/* Rounds of two kinds in turns: tokens a second over many, lengths chosen at `rate`. */
static double throughput(double rate) {
    static const double ease[] = {0.3, 0.97}, pass[] = {0, 1, 1.02, 1.05, 1.1, 1.3, 1.6, 2, 2.5};
    const struct ds_schedule_costs costs = {.pass = pass, .rows = 8, .fixed = 1, .rate = rate};
    double tokens = 0, seconds = 0;
    for (int kind = 0; kind < 2; kind++) {
        double survival[7], product = 1;
        for (int j = 0; j < 7; j++) survival[j] = product *= ease[kind];
        const struct ds_schedule_request request = {survival, 7};
        struct ds_schedule chosen;
        ds_schedule_search(&costs, &request, 1, &chosen);
        tokens += chosen.tokens;
        seconds += pass[chosen.rows] + costs.fixed;
    }
    return tokens / seconds;
}

static void the_rate_that_is_attained_maximises_tokens_a_second(void **state) {
    (void)state;
    double rate = throughput(0);
    for (int i = 0; i < 20; i++) rate = throughput(rate); /* Dinkelbach's iteration never descends */
    for (double other = 0.05; other < 5; other += 0.01) assert_true(throughput(other) <= rate + 1e-12);
    assert_true(rate > throughput(0) * 1.001); /* the best ratio of each round alone is less */
}

static void ties_go_to_the_first_request_and_to_fewer_rows(void **state) {
    (void)state;
    static const double survival[] = {0.5}, pass[] = {0, 1, 1, 1.5, 2};
    const struct ds_schedule_request requests[] = {{survival, 1}, {survival, 1}};
    struct ds_schedule got;
    ds_schedule_search(&(struct ds_schedule_costs){.pass = pass, .rows = 3, .rate = 0.5}, requests, 2, &got);
    assert_int_equal(got.lengths[0], 1);
    assert_int_equal(got.lengths[1], 0);
    ds_schedule_search(&(struct ds_schedule_costs){.pass = pass, .rows = 4, .rate = 1}, requests, 2, &got); /* 0.5 more for 0.5 s more */
    assert_int_equal(got.rows, 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_search_finds_the_best_of_all_lengths),
        cmocka_unit_test(admission_stops_at_the_first_draft_that_raises_nothing),
        cmocka_unit_test(admission_never_depends_on_what_lies_behind_the_draft_it_refused),
        cmocka_unit_test(a_search_that_looks_at_drafts_changes_the_distribution_of_rejection_sampling),
        cmocka_unit_test(admission_keeps_the_distribution_of_rejection_sampling),
        cmocka_unit_test(the_rate_that_is_attained_maximises_tokens_a_second),
        cmocka_unit_test(ties_go_to_the_first_request_and_to_fewer_rows),
    };
    return cmocka_run_group_tests_name("schedule", tests, NULL, NULL);
}
