/* What max_prob keeps in scratch, for scratch.c and the kernel. */
#ifndef DSPARK_CPU_MAX_PROB_H
#define DSPARK_CPU_MAX_PROB_H

#include <stdbool.h>
#include <stdint.h>

/* What one thread found in its stretch of a row. */
struct ds_max_prob_part {
    float largest; /* -infinity: the stretch is empty */
    bool not_finite;
    uint64_t mass; /* the sum of masses, the whole row's largest logit weighing 2^32 */
};

#endif
