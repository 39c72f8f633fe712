/*
 * src/spec/pace.h in a simulator without a clock: drafts are accepted by chance, time is what a recorded cost table says. Speculation
 * scheduled by `auto` is held against plain decoding and against the best fixed length of the same drafts.
 */
#include "chance.h"
#include "check.h"

#include "ops/numerics.h"
#include "spec/pace.h"

#include <math.h>

/* --- machines: milliseconds of passes over 1..8 rows, of a draft of one slot and of the block, of context for one row --- */

enum { BLOCK = 7 };
static const struct machine {
    const char *name;
    double pass[BLOCK + 1], draft_one, draft_block, feed;
} machines[] = {
    {"as good as flat (a GPU)", {10, 10.1, 10.1, 10.2, 10.3, 10.4, 10.5, 10.6}, 1.0, 1.2, 0.05},
    /* reference/peers: t(w)/t(1) of a kernel at the machine's own limits, 8 rows 3.4 times one; a draft costs about a decode */
    {"a CPU bound by arithmetic", {27.8, 34.9, 47, 58, 68, 78, 87, 94.5}, 15, 30, 0.3},
    /* t(w)/t(1) of a better one: 1.33 at 4, 2.03 at 8 (docs/performance.md) */
    {"a CPU between the limits", {188, 209, 230, 250, 283, 316, 349, 382}, 60, 95, 2},
    /*
     * Measured by `dspark bench`, widths 1, 2, 4, 8, in between on a line (docs/performance.md, docs/gpu.md): a pair of Qwen3-4B's shape in Q4_K_M on two
     * cores of a Zen 3, the same with later kernels, on 16 threads of a Xeon, on an H200. A draft of one slot was not: it is taken to cost as much as
     * a block (the last of them: two thirds of it). Nor was context: a fiftieth of a pass.
     */
#define BETWEEN(a, b, c, d) {a, b, (b + c) / 2., c, c + (d - c) / 4., c + (d - c) / 2., c + 3 * (d - c) / 4., d}
    {"4B, Zen 3", BETWEEN(204, 245, 310, 503), 119.5, 119.5, 4},
    {"4B, Zen 3, later", BETWEEN(157, 203, 195, 315), 119.5, 119.5, 3},
    {"4B, Xeon", BETWEEN(46.9, 45.8, 49.8, 60.0), 14.3, 14.3, 0.9},
    {"4B, Xeon, cheap first slots", BETWEEN(46.9, 45.8, 49.8, 60.0), 9.5, 14.3, 0.9},
    {"4B, H200", BETWEEN(2.69, 2.90, 3.15, 3.77), 1.27, 1.27, 0.05},
    /* `dspark bench` of models/tiny, 2 threads: passes, and a draft that costs two decodes */
    {"the tiny pair on a CPU", {1.43, 2.03, 2.67, 2.68, 3.27, 3.95, 4.60, 4.86}, 1.4, 2.77, 0.06},
};

#define BUSY -1 /* measured while the machine had much else to do: all five times too slow, single rows nine times */
static void table_of(const struct machine *m, double error, struct chance *chance, struct ds_cost_table *out) {
    struct ds_cost_samples s = {.n = BLOCK + 1, .near_context = 1, .far_context = 1000, .block = BLOCK, .draft_one = m->draft_one,
                                .draft_whole = m->draft_block, .feed_rows = BLOCK + 1, .feed_one = m->feed, .feed_many = 3 * m->feed};
    for (uint32_t i = 0; i <= BLOCK; i++) {
        const double factor = error < 0 ? i ? 5 : 9 : 1 + error * (2 * draw(chance) - 1);
        s.pass[i] = (struct ds_cost_sample){i + 1, m->pass[i] * factor, 0};
    }
    ds_cost_fit(&s, out);
}

static double draft_time(const struct machine *m, uint32_t slots) {
    return m->draft_one + (m->draft_block - m->draft_one) * (slots - 1) / (BLOCK - 1);
}
static double feed_time(const struct machine *m, uint32_t rows) { return m->feed * (1 + 2.0 / BLOCK * (rows - 1)); }

/* --- texts: how likely drafts are right, and what the drafter says about it --- */

static const struct text {
    const char *name;
    double odds;        /* log-odds of a draft's acceptance, on average */
    double spread;      /* between blocks */
    double drift;       /* amplitude of a slow wave over the text: easy stretches, hard ones */
    double noise, bias; /* of the confidence's log-odds */
    double slope;       /* of the truth over what is said: 1 for a head, 0: a drafter's own probability that has nothing to do with it */
} texts[] = {
    {"maths", 1.6, 0.8, 0.3, 0.4, 0.2, 1},
    {"chat", 0.5, 1.0, 0.5, 0.5, -0.2, 1},
    {"easy and hard stretches", 0.6, 0.6, 2.0, 0.4, 0, 1},
    {"hard, and the head does not know", -1.2, 0.5, 0.2, 0.5, 2.0, 1},
    {"a drafter of random weights", -8, 0.5, 0, 0.7, 8.2, 1},
    {"random weights, sure of themselves", -8, 0.5, 0, 0.7, 10, 1},
    {"no head, says always the same", 1.2, 0.7, 0.5, 0, 0, 0},
    {"no head, hard", -1.0, 0.5, 0.2, 0.5, 1.0, 0.5},
    /* Shifts and slopes as drafters without a head have them at temperatures 0 and 1 (docs/speculation.md, section 4). */
    {"no head, T = 0", 1.2, 0.9, 0.5, 0.4, -0.9, 0.9},
    {"no head, T = 1", 0.4, 0.7, 0.5, 1.0, -0.2, 0.4},
};

struct block {
    float confidence[BLOCK];
    uint32_t right; /* drafts in front of the first wrong one */
};

/* The block behind `position`: the same whoever asks, and whatever was asked before. */
static struct block make_block(const struct text *t, uint32_t position, uint64_t seed) {
    struct chance c = {mixed(seed * 0x9e3779b97f4a7c15u + position)};
    const double ease = t->odds + t->drift * sin(position / 150.0) + t->spread * bell(&c);
    struct block b = {.right = BLOCK};
    for (uint32_t k = 0; k < BLOCK; k++) {
        const double odds = ease + 0.3 * bell(&c) - 0.05 * k;
        if (draw(&c) >= 1 / (1 + exp(-odds)) && b.right == BLOCK) b.right = k;
        const double known = t->slope > 0 ? (odds + t->bias) / t->slope : 1;
        b.confidence[k] = ds_sigmoid((float)(known + t->noise * bell(&c)));
    }
    return b;
}

/* Made once for all who run through the same text. */
enum { MOST_TOKENS = 10000 };
static const struct block *block_at(const struct text *t, uint32_t position, uint64_t seed) {
    static struct block blocks[MOST_TOKENS];
    static bool made[MOST_TOKENS];
    static const struct text *text;
    static uint64_t of;
    if (text != t || of != seed) memset(made, 0, sizeof made);
    text = t;
    of = seed;
    assert_true(position < MOST_TOKENS);
    if (!made[position]) blocks[position] = make_block(t, position, seed);
    made[position] = true;
    return &blocks[position];
}

/* --- runs: milliseconds a token --- */

struct task {
    const struct machine *machine;
    const struct text *text;
    uint32_t tokens;
    uint64_t seed;
};

static double run_fixed(const struct task *t, uint32_t length) {
    double time = 0;
    uint32_t done = 0, slots = 1; /* there are graphs for 1, 2, 4 and all */
    while (slots < length) slots = DS_MIN(2 * slots, (uint32_t)BLOCK);
    while (done < t->tokens) {
        const struct block *b = block_at(t->text, done, t->seed);
        const uint32_t accepted = b->right < length ? b->right : length;
        if (length) time += draft_time(t->machine, slots) + feed_time(t->machine, accepted + 1);
        time += t->machine->pass[length];
        done += accepted + 1;
    }
    return time / done;
}

/* Tokens have no text here: 1 is what the draft said, 0 is something else. */
static void commit(struct ds_pace *pace, uint32_t *done, uint32_t probe_right, uint32_t probe_at) {
    *done += 1;
    ds_pace_committed(pace, *done, *done - probe_at <= probe_right);
}

static double run_auto(const struct task *t, struct ds_pace *pace) {
    static const int32_t ones[BLOCK] = {1, 1, 1, 1, 1, 1, 1};
    const struct machine *m = t->machine;
    double time = 0;
    uint32_t done = 0, stored = 0, probe_at = 0, probe_right = 0;
    while (done < t->tokens) {
        const struct ds_pace_plan plan = ds_pace_next(pace, done, stored, BLOCK);
        const struct block *b = block_at(t->text, done, t->seed);
        if (plan.step != DS_PACE_PLAIN) {
            if (stored) time += feed_time(m, stored);
            stored = 0;
            time += draft_time(m, plan.slots);
        }
        if (plan.step == DS_PACE_SPECULATE) {
            const uint32_t length = ds_pace_choose(pace, done, b->confidence, plan.slots, BLOCK);
            assert_true(length <= plan.slots);
            const uint32_t accepted = b->right < length ? b->right : length;
            time += m->pass[length] + feed_time(m, accepted + 1);
            const struct ds_pace_round round = {.context = done, .confidence = b->confidence, .slots = plan.slots, .verified = length,
                                                .accepted = accepted, .draft_seconds = draft_time(m, plan.slots),
                                                .pass_seconds = m->pass[length]};
            ds_pace_speculated(pace, &round);
            for (uint32_t i = 0; i <= accepted; i++) commit(pace, &done, 0, 0);
            continue;
        }
        if (plan.step == DS_PACE_PROBE) {
            ds_pace_probed(pace, done, ones, b->confidence, plan.slots, draft_time(m, plan.slots));
            probe_at = done;
            probe_right = b->right;
        }
        if (plan.keep && stored == DS_STORED_TAPS) {
            time += feed_time(m, stored);
            stored = 0;
        }
        time += m->pass[0];
        ds_pace_plain(pace, done, m->pass[0]);
        stored += plan.keep;
        commit(pace, &done, probe_right, probe_at);
    }
    return time / done;
}

static struct ds_pace fresh(const struct task *t, double error, bool coupled) {
    struct chance chance = {t->seed};
    struct ds_cost_table table;
    struct ds_pace_learned learned;
    struct ds_pace pace;
    table_of(t->machine, error, &chance, &table);
    ds_pace_learned_start(&learned, &table, t->text->slope == 1 ? DS_CONFIDENCE_HEAD : DS_CONFIDENCE_OWN);
    ds_pace_start(&pace, &learned, BLOCK, coupled);
    return pace;
}

/* --- claims --- */

struct bounds {
    double plain, fixed; /* speed over plain decoding's, over the best fixed length's */
};

/* Times of all lengths and of `auto`, over several texts of a kind. */
struct times {
    double fixed[BLOCK + 1], automatic;
};

static void add_times(const struct task *t, double automatic, struct times *sum) {
    for (uint32_t l = 0; l <= BLOCK; l++) sum->fixed[l] += run_fixed(t, l);
    sum->automatic += automatic;
}

static void compare(const struct task *t, const struct times *times, const struct bounds *bounds) {
    uint32_t length = 0;
    for (uint32_t l = 1; l <= BLOCK; l++)
        if (times->fixed[l] < times->fixed[length]) length = l;
    const double plain = times->fixed[0], best = times->fixed[length], over_plain = plain / times->automatic, over_best = best / times->automatic;
    if (getenv("PACE_TABLE"))
        print_message("# %-28s %-36s best fixed %u: %.2f  auto: %.3f of plain, %.3f of best\n", t->machine->name, t->text->name, length,
                      plain / best, over_plain, over_best);
    if (over_plain < bounds->plain || over_best < bounds->fixed)
        fail_msg("%s, %s: auto is %.3f of plain, %.3f of the best fixed length (%u); expected at least %.2f and %.2f", t->machine->name,
                 t->text->name, over_plain, over_best, length, bounds->plain, bounds->fixed);
}

/* What a single text of some thousand tokens says where a drafter gains a few per cent is as much its luck as the scheduler's doing. */
enum { TEXTS_OF_A_KIND = 3 };
static uint64_t seed_of(size_t machine, size_t kind, uint64_t text) { return 1 + machine * 100 + kind + 10000 * text; }

static void for_all(double error, bool coupled, const struct bounds *bounds) {
    for (size_t m = 0; m < DS_COUNT(machines); m++) {
        for (size_t x = 0; x < DS_COUNT(texts); x++) {
            struct task task = {&machines[m], &texts[x], MOST_TOKENS, 0};
            struct times times = {.automatic = 0};
            for (uint64_t i = 0; i < TEXTS_OF_A_KIND; i++) {
                task.seed = seed_of(m, x, i);
                struct ds_pace pace = fresh(&task, error, coupled);
                add_times(&task, run_auto(&task, &pace), &times);
            }
            compare(&task, &times, bounds);
        }
    }
}

static void auto_loses_to_nothing_on_any_machine_and_text(void **state) {
    (void)state;
    for_all(0, true, &(struct bounds){0.98, 0.97});
}

static void a_table_that_is_ten_per_cent_wrong_is_corrected_on_the_way(void **state) {
    (void)state;
    for_all(0.1, true, &(struct bounds){0.98, 0.97});
}

/* The first answer finds it out, and the next one has a table that was made anew. */
static void a_table_of_a_busy_machine_does_no_harm_for_long(void **state) {
    (void)state;
    enum { FIRST = 200 };
    for (size_t m = 0; m < DS_COUNT(machines); m++) {
        for (size_t x = 0; x < DS_COUNT(texts); x++) {
            struct task task = {&machines[m], &texts[x], MOST_TOKENS, 0};
            struct times times = {.automatic = 0};
            for (uint64_t i = 0; i < TEXTS_OF_A_KIND; i++) {
                task.seed = seed_of(m, x, i);
                struct ds_pace busy = fresh(&task, BUSY, true), pace = fresh(&task, 0, true);
                task.tokens = FIRST;
                double time = run_auto(&task, &busy) * FIRST;
                assert_true(ds_pace_table_is_stale(&busy.learned) && !ds_pace_table_is_stale(&pace.learned));
                task.tokens = MOST_TOKENS - FIRST;
                time += run_auto(&task, &pace) * (MOST_TOKENS - FIRST);
                task.tokens = MOST_TOKENS;
                add_times(&task, time / MOST_TOKENS, &times);
            }
            compare(&task, &times, &(struct bounds){0.97, 0.95});
        }
    }
}

static void non_anticipating_choices_lose_to_nothing_either(void **state) {
    (void)state;
    for_all(0, false, &(struct bounds){0.98, 0.96});
}

/* A draft that costs ten passes: nothing is tried, unless the table was made on a busy machine. */
static void what_cannot_pay_is_never_tried(void **state) {
    (void)state;
    static const struct machine slow = {"a slow drafter", {10, 11, 12, 13, 14, 15, 16, 17}, 100, 100, 0.1};
    for (size_t x = 0; x < DS_COUNT(texts); x++) {
        for (int busy = 0; busy < 2; busy++) {
            const struct task task = {&slow, &texts[x], 4000, 7};
            struct ds_pace pace = fresh(&task, 0, true);
            pace.learned.costs.table.spread = busy ? 1.5 : 1.1;
            const double over_plain = slow.pass[0] / run_auto(&task, &pace);
            assert_true(pace.learned.parked && (pace.learned.seen > 0) == busy);
            assert_true(over_plain > 0.98);
        }
    }
}

/* One conversation after another in one engine: each starts with what the last one learned. */
static void short_answers_lose_nothing_once_the_engine_has_learned(void **state) {
    (void)state;
    for (size_t m = 0; m < DS_COUNT(machines); m++) {
        for (size_t x = 0; x < DS_COUNT(texts); x++) {
            struct task task = {&machines[m], &texts[x], 150, 1};
            struct ds_pace pace = fresh(&task, 0, true);
            double time = 0;
            enum { ANSWERS = 40 };
            for (int i = 0; i < ANSWERS; i++) {
                task.seed = 1000 + (uint64_t)i;
                const struct ds_pace_learned learned = pace.learned;
                ds_pace_start(&pace, &learned, BLOCK, true);
                time += run_auto(&task, &pace) / ANSWERS;
            }
            assert_true(task.machine->pass[0] / time > 0.98);
        }
    }
}

/* No clock and no state but what is told: the same times and outcomes make the same decisions, to the last bit of what was learned. */
static void the_same_inputs_give_the_same_decisions(void **state) {
    (void)state;
    for (size_t m = 0; m < DS_COUNT(machines); m++) {
        const struct task task = {&machines[m], &texts[m % DS_COUNT(texts)], 2000, 5};
        struct ds_pace first = fresh(&task, 0.05, m % 2), second = fresh(&task, 0.05, m % 2);
        const double time = run_auto(&task, &first);
        assert_true(time == run_auto(&task, &second));
        assert_true(first.learned.tokens == second.learned.tokens && first.learned.passes == second.learned.passes && first.learned.credit == second.learned.credit);
        assert_memory_equal(first.learned.use, second.learned.use, sizeof first.learned.use);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(auto_loses_to_nothing_on_any_machine_and_text),
        cmocka_unit_test(a_table_that_is_ten_per_cent_wrong_is_corrected_on_the_way),
        cmocka_unit_test(a_table_of_a_busy_machine_does_no_harm_for_long),
        cmocka_unit_test(non_anticipating_choices_lose_to_nothing_either),
        cmocka_unit_test(what_cannot_pay_is_never_tried),
        cmocka_unit_test(the_same_inputs_give_the_same_decisions),
        cmocka_unit_test(short_answers_lose_nothing_once_the_engine_has_learned),
    };
    return cmocka_run_group_tests_name("pace", tests, NULL, NULL);
}
