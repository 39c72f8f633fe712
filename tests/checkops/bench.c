#include "check.h"

#include "base/os.h"

#include <stdio.h>

/* The best of several batches, each long enough for the clock: what the machine can do, not what else it did. */
void check_bench(struct check *c) {
    enum { BATCHES = 5 };
    const double batch_seconds = 0.02;
    struct ds_error err;
    struct placed placed;
    struct ds_operand operands[DS_MAX_OPERANDS];
    check_place(c, c->device, c->stream, &placed);
    check_must(ds_op_check(c->op, &placed.params, &err), &err);

    double bytes = 0, best = 0;
    const uint32_t n = ds_op_operands(c->op, &placed.params, operands);
    for (uint32_t i = 0; i < n; i++) bytes += (double)operands[i].bytes;

    const struct ds_device_fns *fns = c->device->fns;
    for (int batch = 0; batch < BATCHES; batch++) {
        const double start = ds_os_seconds();
        double elapsed = 0;
        uint32_t runs = 0;
        while (elapsed < batch_seconds) {
            check_must(fns->op[c->op](placed.stream, &placed.params, &err), &err);
            check_must(fns->stream_sync(placed.stream, &err), &err);
            runs++;
            elapsed = ds_os_seconds() - start;
        }
        if (batch == 0 || elapsed / runs < best) best = elapsed / runs;
    }
    printf("%10.1f us %8.2f GB/s", best * 1e6, bytes / best * 1e-9);
    if (c->macs > 0) printf(" %8.2f GMAC/s", c->macs / best * 1e-9);
    printf("  %s %u: %s\n", ds_op_name(c->op), c->index, c->label);
    check_unplace(&placed);
}
