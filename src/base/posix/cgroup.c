/* What Linux's control groups allow this process, in either of their versions. Elsewhere nothing is limited. */
#include "base/posix/posix.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__linux__)

/* Processors or bytes that one cgroup's folder allows; 0: no limit stated there. */
typedef uint64_t (*cgroup_reader)(const char *folder);

static uint64_t cpu_in(const char *folder) {
    uint64_t quota = ds_posix_read_number(folder, "cpu.cfs_quota_us"); /* version 1 */
    uint64_t period = ds_posix_read_number(folder, "cpu.cfs_period_us");
    char *path = ds_os_join(folder, "cpu.max"); /* version 2: "quota period" or "max period" */
    char *text = path ? ds_posix_read_small(path) : NULL;
    unsigned long long a, b;
    if (text && sscanf(text, "%llu %llu", &a, &b) == 2) {
        quota = a;
        period = b;
    }
    free(text);
    free(path);
    if (quota == 0 || period == 0 || quota > UINT64_MAX / 1000) return 0;
    return DS_MAX(quota * 1000 / period, (uint64_t)1);
}

static uint64_t memory_in(const char *folder) {
    const uint64_t limit = ds_posix_read_number(folder, "memory.max");
    return limit > 0 ? limit : ds_posix_read_number(folder, "memory.limit_in_bytes");
}

/* A limit holds for all below it, so the least of the folders from our group up to the root counts. Cuts `path` down. */
static uint64_t least_upwards(const char *root, char *path, cgroup_reader reader) {
    uint64_t least = 0;
    for (;;) {
        char *folder = ds_posix_format("%s%s", root, path);
        if (folder) least = ds_posix_smaller_limit(least, reader(folder));
        free(folder);
        char *slash = strrchr(path, '/');
        if (!slash) return least;
        *slash = '\0';
    }
}

/*
 * /proc/self/cgroup has lines "id:controllers:path"; version 2 has the empty list of controllers. Inside a container the
 * path may name nothing that is mounted here: then only the root, which is the container's own group, is found.
 */
static uint64_t cgroup_limit(const char *controller, cgroup_reader reader) {
    char *groups = ds_posix_read_small("/proc/self/cgroup");
    uint64_t least = 0;
    char *rest = groups;
    for (char *line = groups ? strtok_r(groups, "\n", &rest) : NULL; line; line = strtok_r(NULL, "\n", &rest)) {
        char *controllers = strchr(line, ':');
        char *path = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!path) continue;
        *path++ = '\0';
        controllers++;
        if (*controllers == '\0') {
            least = ds_posix_smaller_limit(least, least_upwards("/sys/fs/cgroup", path, reader));
        } else if (strstr(controllers, controller)) {
            char *root = ds_posix_format("/sys/fs/cgroup/%s", controller);
            if (root) least = ds_posix_smaller_limit(least, least_upwards(root, path, reader));
            free(root);
        }
    }
    free(groups);
    return least;
}

uint64_t ds_os_cgroup_cpu(const char *folder) { return cpu_in(folder); }
uint64_t ds_posix_cgroup_cpu(void) { return cgroup_limit("cpu", cpu_in); }
uint64_t ds_posix_cgroup_memory(void) { return cgroup_limit("memory", memory_in); }

#else

uint64_t ds_os_cgroup_cpu(const char *folder) {
    (void)folder;
    return 0;
}
uint64_t ds_posix_cgroup_cpu(void) { return 0; }
uint64_t ds_posix_cgroup_memory(void) { return 0; }

#endif
