/*
 * A host program with a floating-point state of its own. Every call of the library goes through HOST: in a hostile host
 * (rounding upward, denormals flushed to zero in results and in operands, as code built with -ffast-math leaves it) tokens and
 * logits must be the same, and the caller's state must be intact after each call.
 */
#ifndef DSPARK_TESTS_HOST_H
#define DSPARK_TESTS_HOST_H

#include <stdbool.h>

extern bool host_is_hostile; /* from now on */

void host_enter(void);
void host_leave(const char *call); /* fails the test when the state changed, then sets the usual one */

/* A call that returns a ds_status, which must be DS_OK; `err` in scope takes the message. */
#define HOST(call)                           \
    do {                                     \
        host_enter();                        \
        const ds_status host_status = (call); \
        host_leave(#call);                   \
        check_ok(host_status, &err);         \
    } while (0)

#endif
