#include "spec/cost.h"

#include "base/status.h"

#include <assert.h>

/* --- fitting --- */

/* Values become the ascending sequence nearest to them in least squares: neighbours out of order are replaced by their mean. */
static void ascend(double *values, uint32_t n) {
    double means[DS_COST_MOST_WIDTHS];
    uint32_t sizes[DS_COST_MOST_WIDTHS], blocks = 0;
    for (uint32_t i = 0; i < n; i++) {
        means[blocks] = values[i];
        sizes[blocks++] = 1;
        while (blocks > 1 && means[blocks - 2] > means[blocks - 1]) {
            const uint32_t size = sizes[blocks - 2] + sizes[blocks - 1];
            means[blocks - 2] = (means[blocks - 2] * sizes[blocks - 2] + means[blocks - 1] * sizes[blocks - 1]) / size;
            sizes[--blocks - 1] = size;
        }
    }
    for (uint32_t b = 0, i = 0; b < blocks; b++)
        for (uint32_t j = 0; j < sizes[b]; j++) values[i++] = means[b];
}

static double slope(double near, double far, const struct ds_cost_samples *s) {
    if (far <= near || s->far_context <= s->near_context) return 0;
    return (far - near) / (s->far_context - s->near_context);
}

/* Only some widths are measured far away: the others lie between these, and beyond the last they cost as much as it. */
static void slopes_of(const struct ds_cost_samples *s, double *slopes) {
    uint32_t last = 0; /* measured */
    for (uint32_t i = 0; i < s->n; i++) {
        slopes[i] = s->pass[i].far > 0 ? slope(s->pass[i].near, s->pass[i].far, s) : slopes[last];
        if (!(s->pass[i].far > 0) || i == 0) continue;
        const double span = s->pass[i].rows - s->pass[last].rows;
        for (uint32_t j = last + 1; j < i; j++)
            slopes[j] = slopes[last] + (slopes[i] - slopes[last]) * ((s->pass[j].rows - s->pass[last].rows) / span);
        last = i;
    }
    ascend(slopes, s->n);
}

void ds_cost_fit(const struct ds_cost_samples *s, struct ds_cost_table *out) {
    assert(s->n >= 1 && s->n <= DS_COST_MOST_WIDTHS && s->pass[0].rows == 1);
    static const double least = 1e-9; /* a clock may stand still: no time is 0 */
    double slopes[DS_COST_MOST_WIDTHS] = {0}, bases[DS_COST_MOST_WIDTHS];
    *out = (struct ds_cost_table){.n_widths = s->n, .block = s->block};
    slopes_of(s, slopes);
    for (uint32_t i = 0; i < s->n; i++) bases[i] = DS_MAX(s->pass[i].near - slopes[i] * s->near_context, least);
    ascend(bases, s->n);
    for (uint32_t i = 0; i < s->n; i++) {
        out->widths[i] = s->pass[i].rows;
        out->pass[i] = (struct ds_cost_line){bases[i], slopes[i]};
    }
    if (!s->block) return;
    const double per_position = slope(s->draft_whole, s->draft_whole_far, s);
    if (s->block > 1) out->draft_slot = DS_MAX(s->draft_whole - s->draft_one, 0) / (s->block - 1);
    out->draft = (struct ds_cost_line){DS_MAX(s->draft_whole - out->draft_slot * s->block - per_position * s->near_context, least), per_position};
    out->draft_sequence = s->draft_sequences > 1 ? DS_MAX(s->draft_many - s->draft_whole, 0) / (s->draft_sequences - 1) : s->draft_whole;
    if (s->feed_rows > 1) out->feed_row = DS_MAX(s->feed_many - s->feed_one, 0) / (s->feed_rows - 1);
    out->feed = DS_MAX(s->feed_one - out->feed_row, 0);
}

static bool time_is_sane(double seconds) { return seconds >= 0 && seconds < 1e6; } /* false for NaN */

bool ds_cost_valid(const struct ds_cost_table *t) {
    if (t->n_widths < 1 || t->n_widths > DS_COST_MOST_WIDTHS || t->widths[0] != 1) return false;
    for (uint32_t i = 0; i < t->n_widths; i++) {
        if (!time_is_sane(t->pass[i].base) || !time_is_sane(t->pass[i].per_position) || !(t->pass[i].base > 0)) return false;
        if (i && (t->widths[i] <= t->widths[i - 1] || t->pass[i].base < t->pass[i - 1].base ||
                  t->pass[i].per_position < t->pass[i - 1].per_position))
            return false;
    }
    return time_is_sane(t->draft.base) && time_is_sane(t->draft.per_position) && time_is_sane(t->draft_slot) &&
           time_is_sane(t->draft_sequence) && time_is_sane(t->feed) &&
           time_is_sane(t->feed_row);
}

/* --- asking --- */

static double at(const struct ds_cost_line *line, uint32_t context) { return line->base + line->per_position * context; }

/* The last measured width of at most `rows`. */
static uint32_t width_below(const struct ds_cost_table *t, uint32_t rows) {
    uint32_t i = 0;
    while (i + 1 < t->n_widths && t->widths[i + 1] <= rows) i++;
    return i;
}

/* Between measured widths on a line, beyond the last in proportion. */
static double interpolate(const struct ds_cost_table *t, const double *seconds, uint32_t rows) {
    const uint32_t i = width_below(t, rows);
    if (i + 1 == t->n_widths) return seconds[i] * rows / t->widths[i];
    return seconds[i] + (seconds[i + 1] - seconds[i]) / (t->widths[i + 1] - t->widths[i]) * (rows - t->widths[i]);
}

/* The corrections of the passes that were seen, in the middle; nothing seen: 1. */
static double common_factor(const struct ds_costs *c) {
    static const double most_seen = 8, doubt = 1;
    double sum = doubt, weight = doubt;
    for (uint32_t j = 0; j < c->table.n_widths; j++) {
        const double known = DS_MIN(c->tuning.seen_pass[j], most_seen);
        sum += known * c->tuning.pass[j];
        weight += known;
    }
    return sum / weight;
}

/* What a part's correction is taken to be: one that was hardly seen is as wrong as the passes that were. */
static double factor_of(double common, double own, double seen) { return (seen * own + common) / (seen + 1); }

double ds_cost_pass(const struct ds_costs *c, uint32_t rows, uint32_t context) {
    assert(rows >= 1);
    double seconds[DS_COST_MOST_WIDTHS] = {0};
    const double common = common_factor(c);
    for (uint32_t i = 0; i < c->table.n_widths; i++) {
        seconds[i] = at(&c->table.pass[i], context) * c->tuning.all * factor_of(common, c->tuning.pass[i], c->tuning.seen_pass[i]);
        if (i) seconds[i] = DS_MAX(seconds[i], seconds[i - 1]); /* tuning may not undo the order */
    }
    return interpolate(&c->table, seconds, rows);
}

static double draft_factor(const struct ds_costs *c) { return c->tuning.all * factor_of(common_factor(c), c->tuning.draft, c->tuning.seen_draft); }

double ds_cost_draft(const struct ds_costs *c, uint32_t slots, uint32_t context) {
    return (at(&c->table.draft, context) + c->table.draft_slot * slots) * draft_factor(c);
}

/* Fewer slots cost every sequence less alike. */
double ds_cost_draft_of_several(const struct ds_costs *c, uint32_t slots, uint32_t sequences, uint32_t context) {
    const double one = ds_cost_draft(c, slots, context);
    if (sequences < 2) return one;
    return one * (1 + c->table.draft_sequence * (sequences - 1) / (c->table.draft.base + c->table.draft_slot * c->table.block));
}

double ds_cost_feed(const struct ds_costs *c, double rows) {
    return rows > 0 ? (c->table.feed + c->table.feed_row * rows) * draft_factor(c) : 0;
}

/* --- learning --- */

void ds_cost_tuning_start(struct ds_cost_tuning *t) {
    *t = (struct ds_cost_tuning){.all = 1, .draft = 1};
    for (uint32_t i = 0; i < DS_COST_MOST_WIDTHS; i++) t->pass[i] = 1;
}

/* The machine's factor moves fast (another program has started), a part's own slowly once it is known. */
static const double ALL_WEIGHT = 0.2, FIRST_WEIGHT = 0.5, PART_WEIGHT = 0.05, MOST_OFF = 4, MOST_SLOWDOWN = 1e3;

static double within(double x, double most) { return DS_MAX(DS_MIN(x, most), 1 / most); }

/* The middle one of the last three ratios; of two the lesser, because interruptions only lengthen. */
static double steady(struct ds_cost_recent *r, double ratio) {
    const double a = r->last[0], b = r->last[1], low = DS_MIN(a, b), high = DS_MAX(a, b);
    const uint32_t n = r->n;
    r->last[n % 2] = ratio;
    r->n = n < 2 ? n + 1 : 2 + (n + 1) % 2;
    if (n == 0) return ratio;
    return n == 1 ? DS_MIN(a, ratio) : DS_MAX(low, DS_MIN(ratio, high));
}

/* Counts `share` of an observation: a width between two measured ones teaches both. */
static void learn_part(double *factor, double *seen, double share, double ratio) {
    const double weight = share * DS_MAX(PART_WEIGHT, DS_MIN(FIRST_WEIGHT, 1 / (1 + *seen)));
    *factor = within(*factor * (1 + weight * (ratio - 1)), MOST_OFF);
    *seen += share;
}

/* What is left of the ratio for the part. */
static double learn_all(struct ds_cost_tuning *t, double ratio) {
    const double change = 1 + ALL_WEIGHT * (ratio - 1);
    t->all = within(t->all * change, MOST_SLOWDOWN);
    return ratio / change;
}

void ds_cost_observe_pass(struct ds_costs *c, uint32_t rows, uint32_t context, double seconds) {
    const double measured = seconds / ds_cost_pass(c, rows, context);
    if (!(measured > 0)) return;
    const struct ds_cost_table *t = &c->table;
    struct ds_cost_tuning *tuning = &c->tuning;
    const uint32_t i = width_below(t, rows);
    const double ratio = learn_all(tuning, steady(&tuning->recent_pass[i], within(measured, MOST_OFF)));
    const bool between = t->widths[i] < rows && i + 1 < t->n_widths;
    const double near = between ? (double)(t->widths[i + 1] - rows) / (t->widths[i + 1] - t->widths[i]) : 1;
    learn_part(&tuning->pass[i], &tuning->seen_pass[i], near, ratio);
    if (between) learn_part(&tuning->pass[i + 1], &tuning->seen_pass[i + 1], 1 - near, ratio);
}

void ds_cost_observe_machine(struct ds_costs *c, uint32_t context, double seconds) {
    const double measured = seconds / ds_cost_pass(c, 1, context);
    if (measured > 0) learn_all(&c->tuning, steady(&c->tuning.recent_pass[0], within(measured, MOST_OFF)));
}

static void observe_draft(struct ds_costs *c, uint32_t slots, uint32_t context, double seconds, bool all) {
    const double measured = seconds / ds_cost_draft(c, slots, context);
    if (!(measured > 0)) return;
    double ratio = steady(&c->tuning.recent_draft, within(measured, MOST_OFF));
    if (all) ratio = learn_all(&c->tuning, ratio);
    learn_part(&c->tuning.draft, &c->tuning.seen_draft, 1, ratio);
}

void ds_cost_observe_draft(struct ds_costs *c, uint32_t slots, uint32_t context, double seconds) { observe_draft(c, slots, context, seconds, true); }
void ds_cost_observe_probe(struct ds_costs *c, uint32_t slots, uint32_t context, double seconds) { observe_draft(c, slots, context, seconds, false); }
