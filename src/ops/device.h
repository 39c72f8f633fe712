/*
 * The device interface: what a backend implements. CPU, CUDA, HIP and Vulkan are equals behind it.
 *
 * Threads: creating and destroying from any thread; everything on one stream (and on the buffers its work touches) from one
 * thread at a time. Work on a stream runs in order; read and stream_sync wait for it.
 *
 * Backends never see a model: weights, rows and pages only. They trust parameters that passed ds_op_check.
 */
#ifndef DSPARK_OPS_DEVICE_H
#define DSPARK_OPS_DEVICE_H

#include "base/log.h"
#include "ops/ops.h"

/* Bumped when a slot changes meaning; slots are only appended. */
enum { DS_DEVICE_VERSION = 1, DS_DEVICE_MARKS = 64 };

/* Limits and facts as data; 0 means absent or unlimited as noted. Strings live as long as the device. */
struct ds_device_limits {
    const char *name;          /* "cpu" */
    const char *description;   /* "Intel(R) Xeon(R) ..., AVX-512 VNNI, 2 threads" */
    uint64_t memory_bytes;     /* 0: unknown */
    uint64_t max_buffer_bytes; /* 0: no limit of its own */
    uint32_t max_rows;         /* rows a graph may have; 0: any */
    bool host_memory;          /* buffers lie in host memory: ds_device_fns.host gives a pointer */
    bool exact;                /* the self-test of the numerics contract passed */
    const char *note;          /* why not exact, or "" */
    const char *fast;          /* the variants in use that break the contract for speed; NULL: none */
};

struct ds_graph_node {
    ds_op op;
    union ds_op_params params;
};
struct ds_device_graph; /* a backend's recording of a list of nodes */

struct ds_device_fns {
    uint32_t version; /* DS_DEVICE_VERSION */

    void (*destroy)(struct ds_device *device);
    void (*limits)(const struct ds_device *device, struct ds_device_limits *out);

    /* Zeroed memory, its start aligned to DS_ALIGN at least. DS_ERROR_MEMORY when there is none. */
    ds_status (*buffer_create)(struct ds_device *device, uint64_t bytes, struct ds_buffer **out, struct ds_error *err);
    void (*buffer_destroy)(struct ds_buffer *buffer); /* accepts NULL */
    void *(*host)(struct ds_buffer *buffer);          /* NULL slot: not host memory */

    ds_status (*stream_create)(struct ds_device *device, struct ds_stream **out, struct ds_error *err);
    ds_status (*stream_sync)(struct ds_stream *stream, struct ds_error *err);
    void (*stream_destroy)(struct ds_stream *stream); /* accepts NULL */

    /* Host memory to device (the source may be reused on return), device to host (waits), device to device. */
    ds_status (*write)(struct ds_stream *stream, struct ds_slice to, const void *from, uint64_t bytes, struct ds_error *err);
    ds_status (*read)(struct ds_stream *stream, struct ds_slice from, void *to, uint64_t bytes, struct ds_error *err);
    ds_status (*copy)(struct ds_stream *stream, struct ds_slice to, struct ds_slice from, uint64_t bytes, struct ds_error *err);

    /*
     * Weights in the device's own layout (output-interleaved, repacked, ...). weight_bytes: room one matrix needs, a multiple
     * of DS_ALIGN; 0 when the type or shape cannot be run. weight_write stores rows [first_row, first_row + rows) given in
     * file layout; first_row is a multiple of DS_WEIGHT_ROWS and so is `rows` unless it reaches the last row.
     */
    uint64_t (*weight_bytes)(const struct ds_device *device, ds_type type, uint32_t rows, uint32_t cols);
    ds_status (*weight_write)(struct ds_stream *stream, const struct ds_weight *weight, uint32_t first_row, uint32_t rows,
                              const void *from, struct ds_error *err);

    /* Asked while planning, never in the token loop. */
    bool (*can_run)(const struct ds_device *device, ds_op op, const union ds_op_params *params);

    /* Optional, all three or none: a list of nodes recorded once and replayed. The nodes outlive the recording. */
    ds_status (*graph_create)(struct ds_device *device, const struct ds_graph_node *nodes, uint32_t count,
                              struct ds_device_graph **out, struct ds_error *err);
    ds_status (*graph_run)(struct ds_stream *stream, struct ds_device_graph *graph, struct ds_error *err);
    void (*graph_destroy)(struct ds_device_graph *graph);

    /* One slot an op, in the order of ops.def; params->NAME is the one meant. */
    ds_status (*op[DS_OP_COUNT])(struct ds_stream *stream, const union ds_op_params *params, struct ds_error *err);

    /*
     * Optional, both or none: what weight_write makes, if files may keep it. It must depend on type and shape alone, not on the
     * machine. buffer_import makes a buffer of memory that the caller keeps as long, unchanged, and that is only read; it starts
     * at a multiple of DS_ALIGN.
     */
    const struct ds_weight_layout *weight_layout;
    ds_status (*buffer_import)(struct ds_device *device, const void *data, uint64_t bytes, struct ds_buffer **out, struct ds_error *err);

    /*
     * Optional, both or none: a clock of the device's own. mark: `index`, below DS_DEVICE_MARKS, is when all that the stream was given before is
     * done; it costs no submission. elapsed: seconds between the latest two marks of these numbers, once a read or stream_sync has waited for them.
     */
    ds_status (*mark)(struct ds_stream *stream, uint32_t index, struct ds_error *err);
    ds_status (*elapsed)(struct ds_stream *stream, uint32_t from, uint32_t to, double *seconds, struct ds_error *err);
};

/* The version changes with every bit of the layout. */
struct ds_weight_layout {
    const char *name;
    uint32_t version;
};

/* Backends put this first in a struct of their own. */
struct ds_device {
    const struct ds_device_fns *fns;
};

/* DS_ERROR_ARGUMENT unless `bytes` of the slice lie in its buffer; `what` is done with them. For backends: write, read, copy. */
ds_status ds_slice_require(const char *what, const struct ds_slice *slice, uint64_t bytes, struct ds_error *err);

/* DS_ERROR_ARGUMENT for rows that weight_write does not take. For backends. */
ds_status ds_weight_require_rows(const struct ds_weight *weight, uint32_t first_row, uint32_t rows, struct ds_error *err);

/* Gives a buffer back, wherever it lies; nothing happens to NULL. */
static inline void ds_buffer_drop(struct ds_buffer **buffer) {
    if (*buffer) (*buffer)->device->fns->buffer_destroy(*buffer);
    *buffer = NULL;
}

/* --- finding devices (devices.c) --- */

struct ds_device_params {
    uint32_t threads;    /* CPU devices; 0: one per processor this process may use */
    const char *cpu_isa; /* NULL: the best this processor has; a lower one for tests */
    const char *cache;   /* folder for what is costly to make again, such as compiled pipelines; NULL: nothing is kept */
    const char *modules; /* the one folder where modules are looked for; NULL: beside the library and in the compiled-in folder */
    struct ds_log log;
    bool fast;           /* variants that break the numerics contract may be used (--numerics fast); a device that has none is as exact as without */
};

/*
 * A backend's entry: enumerate names into `names` (at most `capacity`, returns how many there are; names live for ever), create
 * one by name. `create` is also asked for names of the form "NAME:..." that are not listed, and says why there is no such device.
 */
struct ds_backend {
    const char *name;
    uint32_t (*list)(const char **names, uint32_t capacity);
    ds_status (*create)(const char *device_name, const struct ds_device_params *params, struct ds_device **out, struct ds_error *err);
    /* Those of `list`, from the first, that are faster than a processor: one of them may be taken when no device is named. NULL: all. */
    uint32_t (*preferred)(const char **names, uint32_t capacity);
};
extern const struct ds_backend ds_backend_ref; /* "ref": the scalar definition, slow */
extern const struct ds_backend ds_backend_cpu; /* "cpu": threaded and vectorised, equal bits */

/*
 * Names of all devices of all backends, modules included (module.h; `modules` as in ds_device_params), best first. Returns how
 * many there are; fills at most `capacity`. A module that does not fit or finds no driver has no devices, silently.
 */
uint32_t ds_device_names(const char *modules, const char **names, uint32_t capacity);
/* DS_ERROR_DEVICE for an unknown name, listing the known ones. NULL or "" is the best device that is exact. */
ds_status ds_device_create(const char *name, const struct ds_device_params *params, struct ds_device **out, struct ds_error *err);
void ds_device_destroy(struct ds_device *device); /* accepts NULL */

#endif
