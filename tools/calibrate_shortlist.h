/* Choosing a drafter's shortlist: how often tokens are said, what drafts of how many of them would be accepted, what these cost. */
#ifndef DSPARK_TOOLS_CALIBRATE_SHORTLIST_H
#define DSPARK_TOOLS_CALIBRATE_SHORTLIST_H

#include "dspark_dev.h"

enum { DS_SHORTLIST_SIZES = 12 };

/* What a list of `size` tokens does to whole blocks; the last one is no list. */
struct ds_shortlist_size {
    uint32_t size;
    double tau;       /* tokens a round, of the prompts held out */
    double draft;     /* seconds */
    double speed;     /* tokens a second, over that without a list */
};

struct ds_shortlist {
    uint32_t vocabulary;
    uint64_t *said;   /* [vocabulary] times, in the prompts that are counted */
    ds_token *order;  /* [vocabulary] the most frequent first; after ds_shortlist_rank */
    uint32_t *rank;   /* [vocabulary] places in `order` */
    ds_token *rounds; /* accepted drafts of the rounds held out, each round ended by -1 */
    size_t n_rounds, count, capacity;
    bool out_of_memory;
    uint32_t n_sizes;
    struct ds_shortlist_size sizes[DS_SHORTLIST_SIZES];
    double pass, draft, grows; /* seconds: a whole verification, a whole draft, what of it grows with the vocabulary */
};

/* False: memory is out. ds_shortlist_free in either case. */
bool ds_shortlist_start(struct ds_shortlist *list, uint32_t vocabulary);
void ds_shortlist_free(struct ds_shortlist *list); /* accepts a zeroed struct */
void ds_shortlist_count(struct ds_shortlist *list, const ds_round *round);
void ds_shortlist_hold(struct ds_shortlist *list, const ds_round *round);

/* Behind the tokens of the session, which has generated some. */
ds_status ds_shortlist_measure(struct ds_shortlist *list, ds_session *session, uint32_t block, struct ds_error *err);
/* Fills `order` and `sizes`, powers of two and all. A token that was never said comes by its id: merged early, it is frequent elsewhere. */
void ds_shortlist_rank(struct ds_shortlist *list);
/* The fastest size, if it gains one part in a hundred; else the vocabulary. */
uint32_t ds_shortlist_best(const struct ds_shortlist *list);

#endif
