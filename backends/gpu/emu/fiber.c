#include "fiber.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { GUARD_BYTES = 4096 };

bool emu_fiber_init(struct emu_fiber *fiber, size_t stack_bytes) {
    *fiber = (struct emu_fiber){0};
    void *const memory = mmap(NULL, stack_bytes + GUARD_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) return false;
    mprotect(memory, GUARD_BYTES, PROT_NONE);
    fiber->stack = (char *)memory + GUARD_BYTES;
    return true;
}

#if defined(__x86_64__)

void emu_fiber_finish(struct emu_fiber *fiber, size_t stack_bytes) {
    if (fiber->stack) munmap((char *)fiber->stack - GUARD_BYTES, stack_bytes + GUARD_BYTES);
    *fiber = (struct emu_fiber){0};
}

/* What a call must preserve goes onto the stack; swapcontext would ask the system to change the signal mask each time. */
__attribute__((visibility("hidden"))) void ds_emu_switch_stacks(void **save, void *load);
__asm__(".text\n"
        ".globl ds_emu_switch_stacks\n"
        ".hidden ds_emu_switch_stacks\n"
        ".type ds_emu_switch_stacks, @function\n"
        "ds_emu_switch_stacks:\n"
        "    pushq %rbp\n"
        "    pushq %rbx\n"
        "    pushq %r12\n"
        "    pushq %r13\n"
        "    pushq %r14\n"
        "    pushq %r15\n"
        "    movq %rsp, (%rdi)\n"
        "    movq %rsi, %rsp\n"
        "    popq %r15\n"
        "    popq %r14\n"
        "    popq %r13\n"
        "    popq %r12\n"
        "    popq %rbx\n"
        "    popq %rbp\n"
        "    ret\n"
        ".size ds_emu_switch_stacks, . - ds_emu_switch_stacks\n");

void emu_fiber_start(struct emu_fiber *fiber, size_t stack_bytes, void (*main)(void)) {
    /* Six registers, where to go, and a return address that is never used; a function starts 8 bytes off a multiple of 16. */
    uintptr_t *const top = (uintptr_t *)(void *)((char *)fiber->stack + stack_bytes) - 8;
    memset(top, 0, 8 * sizeof *top);
    top[6] = (uintptr_t)main;
    fiber->switched = top;
}

void emu_fiber_switch(struct emu_fiber *from, struct emu_fiber *to) { ds_emu_switch_stacks(&from->switched, to->switched); }

#else

#include <ucontext.h>

void emu_fiber_finish(struct emu_fiber *fiber, size_t stack_bytes) {
    if (fiber->stack) munmap((char *)fiber->stack - GUARD_BYTES, stack_bytes + GUARD_BYTES);
    free(fiber->switched);
    *fiber = (struct emu_fiber){0};
}

static ucontext_t *context_of(struct emu_fiber *fiber) {
    if (!fiber->switched) fiber->switched = calloc(1, sizeof(ucontext_t));
    if (!fiber->switched) abort(); /* a thousand bytes, in a program for tests */
    return fiber->switched;
}

void emu_fiber_start(struct emu_fiber *fiber, size_t stack_bytes, void (*main)(void)) {
    ucontext_t *const context = context_of(fiber);
    getcontext(context);
    context->uc_stack.ss_sp = fiber->stack;
    context->uc_stack.ss_size = stack_bytes;
    context->uc_link = NULL;
    makecontext(context, main, 0);
}

void emu_fiber_switch(struct emu_fiber *from, struct emu_fiber *to) { swapcontext(context_of(from), context_of(to)); }

#endif
