/* What sampling keeps in scratch, for scratch.c and the kernel. */
#ifndef DSPARK_CPU_SAMPLE_H
#define DSPARK_CPU_SAMPLE_H

#include <stdbool.h>
#include <stdint.h>

/* What one thread found in its stretch of a row. */
struct ds_sample_part {
    float largest; /* logit plus bias */
    int32_t id;    /* its token, the lowest among equals; -1: every token is forbidden */
    bool not_finite;
    float score; /* the best score with noise, of `winner` */
    int32_t winner; /* -1: none */
};

#endif
