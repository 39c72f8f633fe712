/* Threads of control that hand the processor to each other by name: what the emulated threads of a block run on. */
#ifndef DSPARK_GPU_EMU_FIBER_H
#define DSPARK_GPU_EMU_FIBER_H

#include <stdbool.h>
#include <stddef.h>

struct emu_fiber {
    void *stack;    /* with a page below that may not be touched */
    void *switched; /* where it stopped: a stack pointer, or a ucontext */
};

/* Room for a fiber's stack; false: memory is out. emu_fiber_start may then be called as often as one likes. */
bool emu_fiber_init(struct emu_fiber *fiber, size_t stack_bytes);
void emu_fiber_finish(struct emu_fiber *fiber, size_t stack_bytes);
/* At the next switch to it the fiber begins with `main`, which must never return. */
void emu_fiber_start(struct emu_fiber *fiber, size_t stack_bytes, void (*main)(void));
/* Goes on with `to`; returns when somebody switches to `from`, which is the caller. A zeroed struct may stand for a thread. */
void emu_fiber_switch(struct emu_fiber *from, struct emu_fiber *to);

#endif
