/* Pearson's test of counts against probabilities that are known. */
#ifndef DSPARK_TESTS_CHI_SQUARE_H
#define DSPARK_TESTS_CHI_SQUARE_H

#include <math.h>
#include <stdint.h>

struct chi_square {
    double sum;
    int freedom;
    double rare, rare_expected; /* counts of cells that expect fewer than five, which are one cell if together they expect five */
};

static inline void chi_square_add(struct chi_square *x, double count, double expected) {
    x->sum += (count - expected) * (count - expected) / expected;
    x->freedom++;
}

/* Of `samples` that fell into `cells` cells of probabilities p. */
static inline struct chi_square chi_square_of(const uint32_t *counts, const double *p, int cells, double samples) {
    struct chi_square x = {.freedom = -1};
    for (int i = 0; i < cells; i++) {
        const double expected = p[i] * samples;
        if (expected >= 5) {
            chi_square_add(&x, counts[i], expected);
        } else {
            x.rare += counts[i];
            x.rare_expected += expected;
        }
    }
    if (x.rare_expected >= 5) chi_square_add(&x, x.rare, x.rare_expected);
    return x;
}

/* Beyond this a right rule comes once in 100,000 tries (Wilson and Hilferty's approximation, 4.265 standard deviations). */
static inline double chi_square_limit(int freedom) {
    const double a = 2.0 / (9.0 * freedom), root = 1 - a + 4.265 * sqrt(a);
    return freedom * root * root * root;
}

#endif
