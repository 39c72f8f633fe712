/*
 * How many drafts of each request to verify: docs/speculation.md, section 4; the DSpark paper (arXiv 2607.05147), section on
 * confidence-scheduled verification, Algorithm 1 and Appendix A.
 *
 * Request r's draft j survives with probability a[r][j] = product of c[r][i] over i <= j, which never ascends in j. Verifying the
 * prefixes l[r] takes one pass over B = sum (1 + l[r]) rows and commits E = sum (1 + sum over j <= l[r] of a[r][j]) tokens.
 *
 * Two objectives:
 *   rate 0   theta = E / (pass(B) + fixed): the paper's, the speed of this round taken alone.
 *   rate > 0 E - rate * (pass(B) + fixed), rate = tokens a second in the long run: time not spent here makes that many tokens
 *            elsewhere. Its maximum at the rate it attains maximises tokens a second over many rounds (renewal reward), which
 *            a round's own ratio does not: hopeless rounds should be short, promising ones long.
 *
 * Pure functions: the same input gives the same lengths. Nothing is allocated.
 */
#ifndef DSPARK_SPEC_SCHEDULE_H
#define DSPARK_SPEC_SCHEDULE_H

#include <stdint.h>

enum { DS_SCHEDULE_MOST_REQUESTS = 64 };

struct ds_schedule_request {
    const double *survival; /* [n], in [0, 1], not ascending */
    uint32_t n;             /* drafts that may be verified */
};

struct ds_schedule_costs {
    const double *pass; /* [rows + 1]: seconds of a pass over so many rows; [0] is not read; not descending */
    uint32_t rows;      /* most rows of a pass; at least the number of requests */
    double fixed;       /* seconds of the round beside the pass: the draft */
    double rate;        /* tokens a second: see above; 0: theta */
};

struct ds_schedule {
    uint32_t lengths[DS_SCHEDULE_MOST_REQUESTS]; /* drafts to verify, of each request */
    uint32_t rows;                               /* of the pass */
    double tokens, value;                        /* expected tokens, and the objective */
};

/*
 * The best lengths of all. May look at everything, so only where no choice can change the output: with coupled sampling.
 * `n` requests, 1 to DS_SCHEDULE_MOST_REQUESTS. Of equal values the fewest rows.
 */
void ds_schedule_search(const struct ds_schedule_costs *costs, const struct ds_schedule_request *requests, uint32_t n, struct ds_schedule *out);

/*
 * Algorithm 1: admits drafts by descending survival and stops at the first that does not raise the objective. Whether y[k] is
 * verified then depends on nothing that y[k] or a later token decides, which rejection sampling needs to keep the distribution.
 */
void ds_schedule_admit(const struct ds_schedule_costs *costs, const struct ds_schedule_request *requests, uint32_t n, struct ds_schedule *out);

#endif
