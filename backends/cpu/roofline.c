#include "roofline.h"

#include "isa.h"
#include "kernels/linear_rows.h"
#include "pool.h"

#include "base/os.h"

#include <string.h>

enum { READ_BYTES = 512 << 20, LINE = 64, LINES_AHEAD = 40, READ_TRIES = 6, PEAK_STEPS = 1 << 15, PEAK_TRIES = 100 };

struct job {
    const uint8_t *data;
    ds_type type;
    ds_cpu_peak_fn peak;
    uint64_t macs;                               /* of one thread */
    uint64_t sink[DS_POOL_MAX_THREADS][LINE / 8]; /* a line for each thread; makes the sums count */
};

/* Contiguous shares, as a linear's threads have. */
static void read_share(void *context, unsigned member, unsigned members) {
    struct job *job = context;
    uint64_t first, end, sum[LINE / 8] = {0};
    ds_pool_share(READ_BYTES / LINE, member, members, &first, &end);
    for (; first < end; first++) {
        const uint64_t *line = (const uint64_t *)(const void *)(job->data + first * LINE);
        __builtin_prefetch(line + LINE / 8 * LINES_AHEAD);
        for (int i = 0; i < LINE / 8; i++) sum[i] += line[i];
    }
    for (int i = 0; i < LINE / 8; i++) job->sink[member][0] += sum[i];
}

static void peak_share(void *context, unsigned member, unsigned members) {
    (void)members;
    struct job *job = context;
    const uint64_t macs = job->peak(job->type, PEAK_STEPS);
    if (member == 0) job->macs = macs;
}

/* Seconds of the best try: what the machine can do, not what else it did. Many short ones find a quiet moment. */
static ds_status best_of(struct ds_pool *pool, ds_pool_fn fn, struct job *job, int tries, double *seconds, struct ds_error *err) {
    for (int i = 0; i < tries; i++) {
        const double start = ds_os_seconds();
        DS_TRY(ds_pool_run(pool, fn, job, err));
        const double elapsed = ds_os_seconds() - start;
        *seconds = i == 0 ? elapsed : DS_MIN(*seconds, elapsed);
    }
    return DS_OK;
}

static ds_status measure_read(struct ds_pool *pool, struct job *job, double *out, struct ds_error *err) {
    double seconds = 0;
    uint8_t *data = ds_os_alloc_pages(READ_BYTES, 1 << 21);
    if (!data) return ds_fail_memory(err, READ_BYTES, "the measurement of the read bandwidth");
    memset(data, 1, READ_BYTES);
    job->data = data;
    const ds_status status = best_of(pool, read_share, job, READ_TRIES, &seconds, err);
    ds_os_free_pages(data, READ_BYTES);
    *out = READ_BYTES / seconds;
    return status;
}

/* A type of which kernel `peak` does what it does for this one. */
static ds_type like(ds_type type) {
    switch (type) {
    case DS_TYPE_F32:
    case DS_TYPE_F16: return DS_TYPE_F32;
    case DS_TYPE_BF16: return DS_TYPE_BF16;
    default: return ds_linear_wide(type) ? DS_TYPE_Q8_0 : ds_linear_chain(type) == 8 ? DS_TYPE_Q4_0 : DS_TYPE_Q6_K;
    }
}

static ds_status measure_peaks(struct ds_pool *pool, struct job *job, double *macs, struct ds_error *err) {
    static const ds_type types[] = {DS_TYPE_F32, DS_TYPE_BF16, DS_TYPE_Q8_0, DS_TYPE_Q4_0, DS_TYPE_Q6_K};
    for (size_t i = 0; i < DS_COUNT(types); i++) {
        double seconds = 0;
        job->type = types[i];
        DS_TRY(best_of(pool, peak_share, job, PEAK_TRIES, &seconds, err));
        macs[types[i]] = (double)job->macs * ds_pool_threads(pool) / seconds;
    }
    for (ds_type type = 0; type < DS_TYPE_COUNT; type++)
        if (type != DS_TYPE_I32 && type != DS_TYPE_I64) macs[type] = macs[like(type)];
    return DS_OK;
}

ds_status ds_cpu_roofline_measure(unsigned threads, const char *isa, struct ds_cpu_roofline *out, struct ds_error *err) {
    *out = (struct ds_cpu_roofline){0};
    const struct ds_cpu_isa *found;
    struct ds_pool *pool;
    DS_TRY(ds_cpu_isa_find(isa, &found, err));
    DS_TRY(ds_pool_create(threads, &pool, err));
    struct job *job = ds_os_alloc_pages(sizeof *job, LINE);
    ds_status status = job ? DS_OK : ds_fail_memory(err, sizeof *job, "the measurement of the machine's limits");
    if (job) job->peak = found->kernels->peak;
    if (status == DS_OK) status = measure_read(pool, job, &out->read, err);
    if (status == DS_OK) status = measure_peaks(pool, job, out->macs, err);
    ds_os_free_pages(job, sizeof *job);
    ds_pool_destroy(pool);
    out->isa = found->name;
    return status;
}
