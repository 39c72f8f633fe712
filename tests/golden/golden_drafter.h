/*
 * Whole runs of a drafter against DeepSpec's in float32: every array of the recorded rounds, every token and accepted length.
 * The rounds are those of the engine; only the drafter's plan differs, which keeps what a block computes on its way.
 */
#ifndef DSPARK_TESTS_GOLDEN_DRAFTER_H
#define DSPARK_TESTS_GOLDEN_DRAFTER_H

#include "golden.h"

#include "engine/engine_internal.h"

/* The case `name` with these files, on one device. `kind` is added to the case's name where something is reported. */
void golden_drafter_check_on(const char *name, const char *kind, const char *device, const char *target, const char *drafter);
/* The same on every device; paths within the repository. */
void golden_drafter_check(const char *name, const char *target, const char *drafter);
/* The first round of the first prompt; outputs of its block are in the engine's drafter. The session is the caller's. */
ds_session *golden_drafter_first_round(const struct golden *golden, ds_engine *engine, struct ds_round_result *result);
/*
 * A drafter that is not stored as it was trained: divergence of its logits from the reference's, in nats, at the first draft of
 * the first round. What stands behind it depends on tokens that may be others.
 */
double golden_drafter_divergence(const char *name, const char *target, const char *drafter);

#endif
