/* Medians of interleaved measurements, and how sure a ratio of them is: bootstrap over turns, those of one turn kept together. */
#ifndef DSPARK_BENCH_INTERVALS_H
#define DSPARK_BENCH_INTERVALS_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_TURNS = 1000, RESAMPLES = 2000 };

/* The same sequence every run. */
static uint64_t state = 1;
static uint32_t draw(uint32_t below) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(((state >> 33) * below) >> 31);
}

static void shuffle(size_t *order, size_t n) {
    for (size_t i = 0; i < n; i++) order[i] = i;
    for (size_t i = n; i > 1; i--) {
        const size_t j = draw((uint32_t)i), other = order[j];
        order[j] = order[i - 1];
        order[i - 1] = other;
    }
}

static int by_value(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(const double *values, size_t n) {
    double sorted[MOST_TURNS];
    memcpy(sorted, values, n * sizeof *values);
    qsort(sorted, n, sizeof *sorted, by_value);
    return n % 2 ? sorted[n / 2] : (sorted[n / 2 - 1] + sorted[n / 2]) / 2;
}

struct ratio {
    double value, low, high; /* of 95 % */
};

/* median(a) / median(b), n turns each. */
static struct ratio ratio_of(const double *a, const double *b, size_t n) {
    static double ratios[RESAMPLES], x[MOST_TURNS], y[MOST_TURNS];
    for (size_t i = 0; i < RESAMPLES; i++) {
        for (size_t j = 0; j < n; j++) {
            const uint32_t k = draw((uint32_t)n);
            x[j] = a[k];
            y[j] = b[k];
        }
        ratios[i] = median(x, n) / median(y, n);
    }
    qsort(ratios, RESAMPLES, sizeof *ratios, by_value);
    return (struct ratio){median(a, n) / median(b, n), ratios[RESAMPLES / 40], ratios[RESAMPLES - RESAMPLES / 40 - 1]};
}

#endif
