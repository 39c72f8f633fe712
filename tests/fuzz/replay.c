/*
 * The first inputs of a fuzz target without libFuzzer, as a test of every build: each is passed to the target once. With MUST_USE each also describes
 * a model that opens and generates, or mutations would begin behind a refusal; those named `older_..` are refused on purpose.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
#ifdef WITH_FILES
int LLVMFuzzerInitialize(int *argc, char ***argv);
#endif
#ifdef MUST_USE
extern unsigned fuzz_used;
#endif

enum { MOST_BYTES = 1 << 20 };

/* False: it cannot be read. */
static int replay(const char *folder, const char *name) {
    static uint8_t data[MOST_BYTES];
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "rb");
    if (!file) return 0;
    const size_t size = fread(data, 1, sizeof data, file);
    fclose(file);
    LLVMFuzzerTestOneInput(data, size);
    return size > 0;
}

static int by_name(const struct dirent **a, const struct dirent **b) { return strcmp((*a)->d_name, (*b)->d_name); }
static int is_input(const struct dirent *entry) { return entry->d_name[0] != '.'; }

int main(int argc, char **argv) {
    struct dirent **entries;
    const int n = argc == 2 ? scandir(argv[1], &entries, is_input, by_name) : -1;
    if (n <= 0) {
        fprintf(stderr, "replay: expected a folder of inputs\n");
        return 2;
    }
#ifdef WITH_FILES
    LLVMFuzzerInitialize(&argc, &argv);
#endif
    printf("1..%d\n", n);
    for (int i = 0; i < n; i++) {
        const char *name = entries[i]->d_name;
        int good;
#ifdef MUST_USE
        const unsigned before = fuzz_used;
        good = replay(argv[1], name) && (fuzz_used > before) == (strncmp(name, "older_", 6) != 0);
#else
        good = replay(argv[1], name);
#endif
        printf("%s %d - %s\n", good ? "ok" : "not ok", i + 1, name);
        free(entries[i]);
    }
    free(entries);
    return 0;
}
