#include "check.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { EXIT_SKIPPED = 77, MAX_NAMES = 64 }; /* meson: the test was skipped */

static const char usage[] =
    "checkops: every op of every device against the reference, bit for bit\n"
    "\n"
    "  --device NAME   only this device; exit 77 where it is absent (default: all but ref)\n"
    "  --modules DIR   where dspark_*.so are (default: beside the program)\n"
    "  --isa NAME      the instruction set a CPU device uses (default: its best); exit 77 where it is absent\n"
    "  --threads N     threads of a CPU device (default: all processors)\n"
    "  --op NAME       only this op\n"
    "  --case N        only this case of each op\n"
    "  --seed N        of the random values (default: 1)\n"
    "  --quick         leave out the largest cases: for an emulated processor\n"
    "  --bench         time the cases instead of checking them\n"
    "  --list          print the cases and stop\n"
    "  --self-test     check that faulty devices are noticed\n";

struct arguments {
    const char *device, *op;
    struct ds_device_params params;
    int64_t only_case;
    uint64_t seed;
    bool bench, list, quick, self_test;
};

static bool number(const char *text, uint64_t *out) {
    char *end;
    *out = strtoull(text, &end, 10);
    return *text >= '0' && *text <= '9' && *end == 0;
}

static bool known_op(const char *name) {
    for (ds_op op = 0; op < DS_OP_COUNT; op++)
        if (strcmp(name, ds_op_name(op)) == 0) return true;
    return false;
}

static bool parse(int argc, char **argv, struct arguments *out) {
    *out = (struct arguments){.only_case = -1, .seed = 1};
    for (int i = 1; i < argc; i++) {
        const char *option = argv[i], *value = i + 1 < argc ? argv[i + 1] : "";
        uint64_t n = 0;
        if (strcmp(option, "--bench") == 0)
            out->bench = true;
        else if (strcmp(option, "--list") == 0)
            out->list = true;
        else if (strcmp(option, "--quick") == 0)
            out->quick = true;
        else if (strcmp(option, "--self-test") == 0)
            out->self_test = true;
        else if (i++, strcmp(option, "--device") == 0)
            out->device = value;
        else if (strcmp(option, "--modules") == 0)
            out->params.modules = value;
        else if (strcmp(option, "--isa") == 0)
            out->params.cpu_isa = value;
        else if (strcmp(option, "--op") == 0 && known_op(value))
            out->op = value;
        else if (strcmp(option, "--threads") == 0 && number(value, &n) && n <= 1024)
            out->params.threads = (uint32_t)n;
        else if (strcmp(option, "--case") == 0 && number(value, &n))
            out->only_case = (int64_t)n;
        else if (strcmp(option, "--seed") == 0 && number(value, &n))
            out->seed = n;
        else
            return false;
    }
    return true;
}

/* Checks one device. False: it is absent. */
static bool check_device(struct check *c, const char *name, const struct arguments *arguments) {
    struct ds_error err;
    if (ds_device_create(name, &arguments->params, &c->device, &err) != DS_OK) {
        printf("skipped %s: %s\n", name, err.message);
        return false;
    }
    struct ds_device_limits limits;
    c->device->fns->limits(c->device, &limits);
    check_must(c->device->fns->stream_create(c->device, &c->stream, &err), &err);

    char repeat[160];
    int n = snprintf(repeat, sizeof repeat, "--device %s", name);
    if (arguments->params.cpu_isa)
        n += snprintf(repeat + n, sizeof repeat - (size_t)n, " --isa %.32s", arguments->params.cpu_isa);
    if (arguments->params.threads) snprintf(repeat + n, sizeof repeat - (size_t)n, " --threads %u", arguments->params.threads);
    c->repeat = repeat;
    c->cases = c->skipped = 0;
    const uint64_t failures = c->failures;
    if (!c->list) printf("%s: %s\n", name, limits.description);
    check_all(c);
    if (!c->list && !c->bench)
        printf("%s: %" PRIu64 " cases, %" PRIu64 " not supported, %" PRIu64 " failures\n", name, c->cases, c->skipped,
               c->failures - failures);

    c->device->fns->stream_destroy(c->stream);
    ds_device_destroy(c->device);
    return true;
}

int main(int argc, char **argv) {
    struct arguments arguments;
    if (!parse(argc, argv, &arguments)) {
        fputs(usage, stderr);
        return 2;
    }
    struct ds_error err;
    struct check *c = calloc(1, sizeof *c);
    if (!c) return 1;
    *c = (struct check){.seed = arguments.seed,
                        .only_op = arguments.op,
                        .only_case = arguments.only_case,
                        .list = arguments.list,
                        .quick = arguments.quick,
                        .bench = arguments.bench};
    check_must(ds_device_create("ref", &arguments.params, &c->ref, &err), &err);
    check_must(c->ref->fns->stream_create(c->ref, &c->ref_stream, &err), &err);

    uint32_t found = 0;
    if (arguments.self_test) {
        c->failures = check_self_test(c);
        found = 1;
    } else if (arguments.device) {
        found = check_device(c, arguments.device, &arguments);
    } else {
        const char *names[MAX_NAMES];
        const uint32_t count = DS_MIN(ds_device_names(arguments.params.modules, names, MAX_NAMES), (uint32_t)MAX_NAMES);
        for (uint32_t i = 0; i < count; i++)
            if (strcmp(names[i], "ref") != 0) found += check_device(c, names[i], &arguments);
    }
    const uint64_t failures = c->failures;
    c->ref->fns->stream_destroy(c->ref_stream);
    ds_device_destroy(c->ref);
    free(c);
    return failures ? 1 : found ? 0 : EXIT_SKIPPED;
}
