/*
 * Inside backends/vulkan: devices, buffers, streams, recordings.
 *
 * Work is recorded into command buffers and handed to the queue as late as it can be: when something is read, waited for, or when the
 * command buffers of a stream are used up. So a round is one submission, however many writes, graphs and reads it has.
 */
#ifndef DSPARK_VULKAN_DEVICE_H
#define DSPARK_VULKAN_DEVICE_H

#include "api.h"
#include "shader.h"

#include "ops/device.h"

struct ds_pool;
struct ds_os_mutex;

/* What has happened, for tests. */
struct ds_vk_counts {
    uint64_t submissions, waits, dispatches, barriers;
    uint64_t allocations, buffers, pipelines, descriptor_updates; /* slabs of device memory, buffers and pipelines made, writes to descriptor sets */
    uint64_t writes, reads, bytes_to_device, bytes_to_host; /* as the device's functions were called */
};

/* What the device offers and the options leave. Bits DS_VK_* are the variant of a shader (shader.h). */
struct ds_vk_features {
    uint32_t variant;
    bool unified;      /* device memory is the host's: buffers are mapped */
    bool rte, denormals, specials; /* float controls for 32 bits that a module may ask for */
    bool sized;        /* the size of subgroups can be asked for */
    uint32_t subgroup; /* lanes of a subgroup */
    uint64_t max_buffer, max_memory, max_range; /* bytes of a buffer; of an allocation; of what a descriptor shows */
    uint32_t align;    /* of a descriptor's offset */
    uint32_t invocations, shared_bytes; /* of a workgroup */
    uint32_t clock_bits; /* of a timestamp that count; 0: there are none */
    double clock_period; /* nanoseconds of one */
};

/* DSPARK_VULKAN: words separated by commas that take features away, for tests. */
struct ds_vk_options {
    bool no_address, no_half, no_dot, no_unified, twice, no_cache, no_exact, no_clock;
    uint64_t most_buffer; /* buffer:BYTES; 0: what the device takes */
    uint64_t most_range;  /* range:BYTES, likewise */
};
struct ds_vk_options ds_vk_options_get(void);

struct ds_vk_pipeline;

struct ds_vk_device {
    struct ds_device base;
    struct ds_device_fns fns; /* without the slots that this device cannot fill */
    struct ds_vk_api api;
    struct ds_vk_options options;
    struct ds_vk_features features;
    VkPhysicalDevice physical;
    VkPhysicalDeviceMemoryProperties memory;
    VkDevice handle;
    VkQueue queue;
    uint32_t family;
    VkDescriptorSetLayout set_layout; /* null handle where addresses are used */
    VkPipelineLayout layout;
    VkPipelineCache cache;
    char *cache_path; /* NULL: none */
    struct ds_vk_pipeline *pipelines;
    uint32_t n_pipelines, pipeline_capacity;
    bool cache_changed;
    struct ds_os_mutex *mutex; /* around what streams share: the queue, pipelines, the list of them */
    struct ds_stream *streams; /* all of them */
    struct ds_pool *pool;      /* packs weights; created with the first of them */
    unsigned threads;          /* of the pool; 0: one per processor */
    struct ds_stream *own;     /* for zeroing and the self-test; under own_mutex */
    struct ds_os_mutex *own_mutex;
    struct ds_os_mutex *pack_mutex; /* around the pool; taken before `mutex` */
    struct ds_vk_slab *slabs;
    struct ds_os_mutex *slab_mutex; /* around them; taken last */
    VkResult lost;                  /* why recorded work is gone, so that nothing more can be trusted; VK_SUCCESS: it is not */
    struct ds_vk_counts counts;
    uint64_t calls, fail_at; /* injected failures: ds_vk_fail_at */
    uint64_t allocating_calls, fail_allocation_at; /* of calls that ask for memory alone */
    VkResult fail_with;
    uint64_t memory_bytes;
    uint8_t driver_uuid[VK_UUID_SIZE];
    char name[16];
    char description[320];
    char note[192]; /* "": the self-test passed */
};

/* Finds out what the device offers, less what the options take away, and opens it (features.c). */
ds_status ds_vk_features_open(struct ds_vk_device *device, struct ds_error *err);

/* --- failures --- */

/* Takes over what ds_vk_fail_at asked for (testing.c). */
void ds_vk_take_failure(struct ds_vk_device *device);
/* Whether this call is to fail, for tests. */
bool ds_vk_injected(struct ds_vk_device *device);
#define DS_VK_CALL(device, call) (ds_vk_injected(device) ? (device)->fail_with : (call))
/* The same for calls that ask for memory of buffers, which are counted once more. */
bool ds_vk_injected_allocation(struct ds_vk_device *device);
#define DS_VK_ALLOCATE(device, call) (ds_vk_injected_allocation(device) ? (device)->fail_with : (call))
/* DS_ERROR_MEMORY with what was asked for, or DS_ERROR_DEVICE. `bytes` 0: it was not about memory of that size. */
ds_status ds_vk_fail(const struct ds_vk_device *device, VkResult result, const char *what, uint64_t bytes, struct ds_error *err);
ds_status ds_vk_lose(struct ds_vk_device *device, VkResult result, const char *what, struct ds_error *err); /* ds_vk_fail, and nothing goes on from here */
ds_status ds_vk_fail_lost(const struct ds_vk_device *device, const char *what, struct ds_error *err);

/* --- memory --- */

/* What a piece of device memory must be (slab.c). */
struct ds_vk_room {
    uint64_t bytes, align;
    uint32_t type;
    bool address, mapped;
};
struct ds_vk_piece;
/* Thread-safe. */
VkResult ds_vk_piece_take(struct ds_vk_device *device, const struct ds_vk_room *room, struct ds_vk_piece **out);
void ds_vk_piece_drop(struct ds_vk_device *device, struct ds_vk_piece *piece); /* accepts NULL */
VkDeviceMemory ds_vk_piece_memory(const struct ds_vk_piece *piece, uint64_t *offset);
uint8_t *ds_vk_piece_mapped(const struct ds_vk_piece *piece); /* NULL: not mapped */
extern int64_t ds_vk_slabs_alive, ds_vk_buffers_alive; /* of all devices, for tests */

struct ds_vk_memory {
    VkBuffer buffer;
    struct ds_vk_piece *piece;
    VkDeviceAddress address; /* 0: addresses are not used */
    uint8_t *mapped;         /* NULL: not mapped */
};

enum ds_vk_place { DS_VK_DEVICE_MEMORY, DS_VK_UPLOAD_MEMORY, DS_VK_READBACK_MEMORY };
ds_status ds_vk_memory_create(struct ds_vk_device *device, enum ds_vk_place place, uint64_t bytes, const char *what, struct ds_vk_memory *out,
                              struct ds_error *err);
void ds_vk_memory_destroy(struct ds_vk_device *device, struct ds_vk_memory *memory); /* accepts a zeroed struct */

struct ds_vk_buffer {
    struct ds_buffer base;
    struct ds_vk_memory memory;
};
static inline struct ds_vk_buffer *ds_vk_buffer_of(const struct ds_slice *slice) { return (struct ds_vk_buffer *)slice->buffer; }

ds_status ds_vk_buffer_create(struct ds_device *device, uint64_t bytes, struct ds_buffer **out, struct ds_error *err);
void ds_vk_buffer_destroy(struct ds_buffer *buffer);

/* --- recording (record.c) --- */

/* Descriptor sets of a command buffer; unused where addresses are used. */
struct ds_vk_sets {
    VkDescriptorPool pools[64];
    uint32_t n_pools, left; /* sets left in the last pool */
};
void ds_vk_sets_destroy(struct ds_vk_device *device, struct ds_vk_sets *sets);

enum { DS_VK_BINDINGS = 13, DS_VK_PUSH_BYTES = 128, DS_VK_CONSTANTS = 12, DS_VK_RANGES = 48 };

/* Bytes that work since the last barrier touches. */
struct ds_vk_range {
    const struct ds_buffer *buffer;
    uint64_t first, end;
    bool write;
};

/* Bytes from what a workgroup touches of an operand to what the next one along the grid does; 0: any of them may touch any of it. */
struct ds_vk_steps {
    uint64_t x, y;
};

/* An operand of the dispatch to come. */
struct ds_vk_binding {
    struct ds_slice slice;
    uint64_t first, bytes; /* the part of it that is touched; bytes 0: all */
    struct ds_vk_steps steps;
};

struct ds_vk_recorder {
    struct ds_vk_device *device;
    VkCommandBuffer commands; /* unused in a trial */
    const struct ds_operand *trial; /* NULL: this records. Else nothing is recorded, and a dispatch finds out whether it could be */
    const union ds_op_params *params; /* of the trial */
    uint32_t n_trial;
    struct ds_vk_sets *sets;
    struct ds_slice scratch; /* of ops that need some */
    struct ds_vk_range ranges[DS_VK_RANGES];
    uint32_t n_ranges;
    VkPipeline bound;
    struct ds_vk_binding bindings[DS_VK_BINDINGS]; /* descriptor path: what ds_vk_at was asked for since the last dispatch */
    uint32_t n_bindings;
};

/* Begins with a barrier against all that was recorded or submitted before, ends with one for the host. */
void ds_vk_record_begin(struct ds_vk_recorder *recorder);
void ds_vk_record_end(struct ds_vk_recorder *recorder);
void ds_vk_barrier(struct ds_vk_recorder *recorder);
/* A barrier if what `slice` touches meets what was recorded since the last one; remembers it. */
void ds_vk_touch(struct ds_vk_recorder *recorder, const struct ds_slice *slice, uint64_t bytes, bool write);
/* Any op, with its barriers. */
ds_status ds_vk_record_op(struct ds_vk_recorder *recorder, ds_op op, const union ds_op_params *params, struct ds_error *err);
/* Whether ds_vk_record_op could: every operand, or every part of one that a dispatch is split into, fits into a descriptor. */
bool ds_vk_operands_fit(const struct ds_vk_device *device, ds_op op, const union ds_op_params *params);

/*
 * Operand `binding` of the shader (MEMORY(binding, name) there): what goes into its arguments, as address number `binding`. Absent slices give
 * DS_VK_ABSENT. Asked for anew before each dispatch.
 *
 * A descriptor shows no more than maxStorageBufferRange bytes. So a dispatch whose operands are larger is split along its grid, where
 * ds_vk_stepped or ds_vk_rows (a row of the view for each workgroup along y) said how they are walked; shaders notice nothing of it. Where what
 * a workgroup touches depends on data, the op itself records a dispatch for each part, of as many items as ds_vk_items_at_once says, which
 * ds_vk_part shows.
 */
#define DS_VK_ABSENT UINT64_MAX
uint64_t ds_vk_at(struct ds_vk_recorder *recorder, uint32_t binding, struct ds_slice slice);
uint64_t ds_vk_stepped(struct ds_vk_recorder *recorder, uint32_t binding, struct ds_slice slice, struct ds_vk_steps steps);
uint64_t ds_vk_rows(struct ds_vk_recorder *recorder, uint32_t binding, const struct ds_view *view);
uint64_t ds_vk_part(struct ds_vk_recorder *recorder, uint32_t binding, struct ds_slice slice, uint64_t first, uint64_t bytes);
uint32_t ds_vk_items_at_once(const struct ds_vk_device *device, uint64_t item_bytes, uint32_t items); /* at least 1 */
bool ds_vk_in_range(const struct ds_vk_device *device, uint64_t bytes); /* so many bytes, wherever they begin, can be shown to a shader */

/* --- descriptors (descriptors.c), for record.c --- */

/* Workgroups of a dispatch, along x and y. */
struct ds_vk_grid_part {
    uint32_t first[2], count[2];
};
/* How many workgroups along x and y a part of the dispatch may have. */
struct ds_vk_steps ds_vk_groups_at_once(const struct ds_vk_recorder *recorder, const uint32_t groups[3]);
/* Binds what the part touches, and says in `args` where. */
VkResult ds_vk_bind(struct ds_vk_recorder *recorder, const struct ds_vk_grid_part *part, uint32_t *args);
bool ds_vk_bindings_fit(const struct ds_vk_recorder *recorder); /* in a trial */

struct ds_vk_dispatch {
    const struct ds_vk_code *code;
    uint32_t constants[DS_VK_CONSTANTS]; /* constant_id 1, 2, ...; 0 is the size of subgroups */
    const void *args;                    /* the shader's arguments */
    uint32_t bytes;                      /* of them, at most DS_VK_PUSH_BYTES */
    uint32_t groups[3];                  /* workgroups; 0: nothing to do */
};
ds_status ds_vk_dispatch(struct ds_vk_recorder *recorder, const struct ds_vk_dispatch *dispatch, struct ds_error *err);

/* --- pipelines (pipeline.c) --- */

ds_status ds_vk_pipelines_open(struct ds_vk_device *device, struct ds_error *err);
void ds_vk_pipelines_close(struct ds_vk_device *device); /* writes the cache when it grew */
/* The pipeline of a shader with these constants, made when it is asked for the first time. Thread-safe. */
ds_status ds_vk_pipeline_get(struct ds_vk_device *device, const struct ds_vk_code *code, const uint32_t constants[DS_VK_CONSTANTS], VkPipeline *out,
                             struct ds_error *err);

/* --- streams (stream.c) --- */

enum { DS_VK_SLOTS = 8, DS_VK_PENDING = 24, DS_VK_PARTS = 4, DS_VK_PART_BYTES = 1 << 20 };

struct ds_vk_slot {
    VkCommandBuffer commands;
    struct ds_vk_sets sets;
    uint64_t value; /* of the timeline when it is free again */
};

struct ds_stream {
    struct ds_device *device;
    struct ds_stream *next; /* of the device's streams */
    VkCommandPool pool;
    VkSemaphore timeline;
    uint64_t submitted; /* value that the last submission reaches */
    struct ds_vk_slot slots[DS_VK_SLOTS];
    uint32_t slot; /* next to be used, or in use while `open` */
    bool open;     /* `recorder` records into it */
    struct ds_vk_recorder recorder;
    VkCommandBuffer pending[DS_VK_PENDING]; /* recorded, not yet submitted */
    uint32_t n_pending, n_graphs;
    struct ds_vk_memory upload, readback;
    uint64_t part_value[DS_VK_PARTS];
    uint32_t part, filled; /* the part of `upload` at hand, its bytes that are taken */
    struct ds_vk_memory scratch;
    struct ds_vk_buffer scratch_buffer; /* a view of `scratch` for slices */
    VkQueryPool marks; /* null handle: the device has no clock */
};
static inline struct ds_vk_device *ds_vk_device_of(const struct ds_stream *stream) { return (struct ds_vk_device *)stream->device; }

ds_status ds_vk_stream_create(struct ds_device *device, struct ds_stream **out, struct ds_error *err);
ds_status ds_vk_stream_sync(struct ds_stream *stream, struct ds_error *err);
void ds_vk_stream_destroy(struct ds_stream *stream);
/*
 * Waits until no work that was handed to the device's streams is recorded or under way: before a buffer or a graph goes that it may use.
 * Whoever destroys these is the one thread that uses their streams (ops/device.h).
 */
void ds_vk_settle(struct ds_vk_device *device);
/* The recorder of the stream's open command buffer, opened if need be. */
ds_status ds_vk_stream_recorder(struct ds_stream *stream, struct ds_vk_recorder **out, struct ds_error *err);
/* Puts a recorded command buffer behind what is there. */
ds_status ds_vk_stream_append(struct ds_stream *stream, VkCommandBuffer commands, struct ds_error *err);
ds_status ds_vk_flush(struct ds_stream *stream, struct ds_error *err);
ds_status ds_vk_stream_op(struct ds_stream *stream, ds_op op, const union ds_op_params *params, struct ds_error *err);

ds_status ds_vk_write(struct ds_stream *stream, struct ds_slice to, const void *from, uint64_t bytes, struct ds_error *err);
ds_status ds_vk_read(struct ds_stream *stream, struct ds_slice from, void *to, uint64_t bytes, struct ds_error *err);
ds_status ds_vk_copy(struct ds_stream *stream, struct ds_slice to, struct ds_slice from, uint64_t bytes, struct ds_error *err);
ds_status ds_vk_weight_write(struct ds_stream *stream, const struct ds_weight *weight, uint32_t first_row, uint32_t rows, const void *from,
                             struct ds_error *err);

/* --- the device's clock (marks.c) --- */

VkResult ds_vk_marks_create(struct ds_stream *stream); /* where there is a clock */
ds_status ds_vk_mark(struct ds_stream *stream, uint32_t index, struct ds_error *err);
ds_status ds_vk_elapsed(struct ds_stream *stream, uint32_t from, uint32_t to, double *seconds, struct ds_error *err);

/* --- graphs (graph.c), self-test (selftest.c) --- */

ds_status ds_vk_graph_create(struct ds_device *device, const struct ds_graph_node *nodes, uint32_t count, struct ds_device_graph **out,
                             struct ds_error *err);
ds_status ds_vk_graph_run(struct ds_stream *stream, struct ds_device_graph *graph, struct ds_error *err);
void ds_vk_graph_destroy(struct ds_device_graph *graph);
/* Compares probe.h on the device and on the host; fills device->note with the first difference. */
ds_status ds_vk_self_test(struct ds_vk_device *device, struct ds_error *err);

/* --- ops (table.c, ops/NAME.c) --- */

struct ds_vk_op {
    ds_status (*record)(struct ds_vk_recorder *recorder, const union ds_op_params *params, struct ds_error *err); /* NULL: not there */
    uint64_t (*scratch)(const struct ds_vk_device *device, const union ds_op_params *params);                    /* NULL: none */
    bool (*can_run)(const struct ds_vk_device *device, const union ds_op_params *params);                        /* NULL: every shape */
};
extern const struct ds_vk_op ds_vk_ops[DS_OP_COUNT];
#define DS_OP(name, text) ds_status ds_vk_op_##name(struct ds_vk_recorder *recorder, const union ds_op_params *params, struct ds_error *err);
#include "ops/ops.def"
#undef DS_OP
bool ds_vk_can_expert_linear(const struct ds_vk_device *device, const union ds_op_params *params);
bool ds_vk_can_attention(const struct ds_vk_device *device, const union ds_op_params *params);
uint64_t ds_vk_scratch_top_linear(const struct ds_vk_device *device, const union ds_op_params *params);
bool ds_vk_can_heads(const struct ds_vk_device *device, const union ds_op_params *params);

#endif
