/* The processors that this process may run on. */
#include "base/posix/posix.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>
#if defined(__linux__)
#include <sched.h>

/*
 * Calls `see` for every processor in our affinity mask and returns their number; 0: unknown. The kernel refuses a set
 * smaller than its own, hence the growing size.
 */
static unsigned each_allowed(void (*see)(unsigned id, void *user), void *user) {
    for (int cpus = 1024; cpus <= 1 << 20; cpus *= 2) {
        cpu_set_t *set = CPU_ALLOC((size_t)cpus);
        if (!set) return 0;
        const size_t bytes = CPU_ALLOC_SIZE((size_t)cpus);
        CPU_ZERO_S(bytes, set);
        const bool known = sched_getaffinity(0, bytes, set) == 0;
        const bool too_small = !known && errno == EINVAL;
        const unsigned count = known ? (unsigned)CPU_COUNT_S(bytes, set) : 0;
        for (int id = 0; known && see && id < cpus; id++)
            if (CPU_ISSET_S((size_t)id, bytes, set)) see((unsigned)id, user);
        CPU_FREE(set);
        if (!too_small) return count;
    }
    return 0;
}

struct processor_list {
    struct ds_os_processor *out;
    unsigned count, most;
};

static void add_processor(unsigned id, void *user) {
    struct processor_list *list = user;
    if (list->count < list->most) list->out[list->count++] = (struct ds_os_processor){.id = id};
}

static uint32_t capacity_of(const char *folder, unsigned id) {
    char *place = ds_posix_format("%s/cpu%u", folder, id);
    const uint64_t capacity = place ? ds_posix_read_number(place, "cpu_capacity") : 0;
    free(place);
    return capacity <= UINT16_MAX ? (uint32_t)capacity : 0;
}

unsigned ds_os_processors(const char *folder, struct ds_os_processor *out, unsigned most) {
    struct processor_list list = {.out = out, .most = most};
    const unsigned all = each_allowed(add_processor, &list);
    if (!folder) folder = "/sys/devices/system/cpu";
    for (unsigned i = 0; i < list.count; i++) out[i].capacity = capacity_of(folder, out[i].id);
    return all;
}

void ds_os_thread_pin(unsigned processor) {
    const int cpus = (int)DS_MAX(processor + 1, 1024u);
    cpu_set_t *set = CPU_ALLOC((size_t)cpus);
    if (!set) return;
    const size_t bytes = CPU_ALLOC_SIZE((size_t)cpus);
    CPU_ZERO_S(bytes, set);
    CPU_SET_S((size_t)processor, bytes, set);
    (void)sched_setaffinity(0, bytes, set); /* the calling thread's */
    CPU_FREE(set);
}

#else

static unsigned each_allowed(void (*see)(unsigned id, void *user), void *user) {
    (void)see;
    (void)user;
    return 0;
}

unsigned ds_os_processors(const char *folder, struct ds_os_processor *out, unsigned most) {
    (void)folder;
    (void)out;
    (void)most;
    return 0;
}
void ds_os_thread_pin(unsigned processor) { (void)processor; }

#endif

static unsigned allowed_processors(void) {
    const unsigned allowed = each_allowed(NULL, NULL);
    if (allowed > 0) return allowed;
    const long online = sysconf(_SC_NPROCESSORS_ONLN);
    return online > 0 ? (unsigned)online : 1;
}

unsigned ds_os_cpu_count(void) {
    const unsigned count = allowed_processors();
    const uint64_t quota = ds_posix_cgroup_cpu();
    return quota > 0 ? (unsigned)DS_MIN((uint64_t)count, (quota + 999) / 1000) : count;
}

unsigned ds_os_cpu_whole(void) {
    const unsigned count = allowed_processors();
    const uint64_t quota = ds_posix_cgroup_cpu();
    return quota > 0 ? (unsigned)DS_MIN((uint64_t)count, quota / 1000) : count;
}
