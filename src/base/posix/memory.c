/* Memory: pages of the system's own, and how much there is. */
#include "base/posix/posix.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

enum { HUGE_PAGE_BYTES = 2 * 1024 * 1024 };

void *ds_os_alloc_pages(uint64_t bytes, uint64_t alignment) {
    assert(alignment >= 64 && (alignment & (alignment - 1)) == 0);
    const uint64_t page = ds_posix_page_bytes();
    const bool huge = bytes >= 2 * HUGE_PAGE_BYTES;
    alignment = DS_MAX(alignment, huge ? HUGE_PAGE_BYTES : page);
    if (bytes > SIZE_MAX / 2 || alignment > SIZE_MAX / 4) return NULL;

    /* Map enough to find the alignment inside, then give both ends back: what remains is exactly what free_pages unmaps. */
    const uint64_t wanted = DS_ALIGN_UP(DS_MAX(bytes, 1), page);
    const uint64_t mapped = wanted + (alignment - page);
    char *raw = mmap(NULL, (size_t)mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (raw == MAP_FAILED) return NULL;
    const uint64_t head = (alignment - (uintptr_t)raw % alignment) % alignment;
    const uint64_t tail = mapped - wanted - head;
    if (head > 0) munmap(raw, (size_t)head);
    if (tail > 0) munmap(raw + head + wanted, (size_t)tail);
#if defined(MADV_HUGEPAGE)
    if (huge) (void)madvise(raw + head, (size_t)wanted, MADV_HUGEPAGE);
#endif
    return raw + head;
}

void ds_os_free_pages(void *data, uint64_t bytes) {
    if (data) munmap(data, (size_t)DS_ALIGN_UP(DS_MAX(bytes, 1), ds_posix_page_bytes()));
}

uint64_t ds_os_peak_rss(void) {
#if defined(__linux__)
    /* Not getrusage's maximum: that one outlives exec and would count the program that started us. */
    char *text = ds_posix_read_small("/proc/self/status");
    const char *line = text ? strstr(text, "VmHWM:") : NULL;
    unsigned long long kilobytes = 0;
    if (line && sscanf(line, "VmHWM: %llu", &kilobytes) != 1) kilobytes = 0;
    free(text);
    return (uint64_t)kilobytes * 1024;
#else
    struct rusage usage;
    return getrusage(RUSAGE_SELF, &usage) == 0 ? (uint64_t)usage.ru_maxrss : 0; /* macOS counts bytes */
#endif
}

uint64_t ds_os_physical_memory(void) {
    const long pages = sysconf(_SC_PHYS_PAGES);
    const uint64_t machine = pages > 0 ? (uint64_t)pages * ds_posix_page_bytes() : 0;
    return ds_posix_smaller_limit(machine, ds_posix_cgroup_memory());
}
