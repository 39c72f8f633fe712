/* Bounds of attention's units, which scratch.c and the kernel agree on. */
#ifndef DSPARK_CPU_ATTENTION_H
#define DSPARK_CPU_ATTENTION_H

enum {
    DS_ATTENTION_ROWS = 16,    /* rows of one sequence that a unit takes along: their state stays in the second-level cache */
    DS_ATTENTION_QUERIES = 128 /* query heads of one kv head; can_run refuses more */
};

#endif
