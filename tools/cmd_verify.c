/* verify: a model against its manifest, or a file against a published digest. */
#include "base/hash.h"
#include "base/os.h"
#include "ckpt/manifest.h"
#include "cli.h"
#include "cli_engine.h"
#include "cli_json.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct verify_options {
    const char *trust, *sha256;
    uint32_t threads;
    bool json;
};

#define AT(member) .offset = offsetof(struct verify_options, member)
static const struct ds_cli_option verify_options[] = {
    {.name = "trust", .value = "KEY", .kind = DS_CLI_STRING, AT(trust),
     .help = "the manifest must be signed by this public key: its file, or 64 hexadecimal digits"},
    {.name = "sha256", .value = "HEX", .kind = DS_CLI_STRING, AT(sha256), .help = "compare the file with this SHA-256, as hubs publish it, and nothing else"},
    {.name = "threads", .value = "N", .kind = DS_CLI_UINT, .min = 1, .max = 256, AT(threads), .help = "CPU threads (default: one per processor)"},
    {.name = "json", .kind = DS_CLI_FLAG, AT(json), .help = "one JSON object on standard output"},
    {0}};
#undef AT
static const struct ds_cli_group verify_groups[] = {{.options = verify_options}, {0}};

static bool on_progress(void *user, uint64_t done, uint64_t total) {
    return ds_cli_progress(user, done, total) && !ds_cli_interrupted();
}

/* What was found; the text and the JSON say the same. */
struct verdict {
    const struct verify_options *options;
    size_t files, tensors, differences;
    const char *signer; /* NULL: not signed */
};

static void tell_difference(void *user, const char *file, const char *tensor, const char *message) {
    struct verdict *verdict = user;
    if (verdict->options->json) {
        fputs(verdict->differences ? ", " : "{\"differences\": [", stdout);
        fputs("{\"file\": ", stdout);
        ds_cli_json_text(stdout, file);
        fputs(", \"tensor\": ", stdout);
        ds_cli_json_text(stdout, tensor);
        fputs(", \"message\": ", stdout);
        ds_cli_json_text(stdout, message);
        putchar('}');
    } else {
        ds_cli_print_escaped(file, strlen(file));
        if (tensor) {
            fputs(": tensor '", stdout);
            ds_cli_print_escaped(tensor, strlen(tensor));
            putchar('\'');
        }
        printf(": %s\n", message);
    }
    verdict->differences++;
}

static void tell_verdict(const struct verdict *verdict, bool good) {
    if (verdict->options->json) {
        if (!verdict->differences) fputs("{\"differences\": [", stdout);
        printf("], \"good\": %s, \"files\": %zu, \"tensors\": %zu, \"signed_by\": ", good ? "true" : "false", verdict->files, verdict->tensors);
        ds_cli_json_text(stdout, verdict->signer);
        puts("}");
    } else if (good) {
        printf("good: %zu file%s, %zu tensors, %s%s\n", verdict->files, verdict->files == 1 ? "" : "s", verdict->tensors, verdict->signer ? "signed by " : "not signed",
               verdict->signer ? verdict->signer : "");
    }
}

static ds_status verify_checkpoint(const char *path, const struct verify_options *options, struct ds_error *err) {
    const struct ds_manifest_trust trust = {.required = true, .trust = options->trust};
    struct ds_manifest manifest;
    struct ds_signature signer;
    struct ds_ckpt *ckpt;
    bool found;
    DS_TRY(ds_hash_require(err));
    DS_TRY(ds_manifest_read(path, &trust, &found, &manifest, &signer, err));
    ds_status status = ds_ckpt_open(path, &ckpt, err);
    if (status == DS_OK) {
        char hex[2 * DS_PUBLIC_KEY_BYTES + 1];
        ds_hex_write(signer.public_key, sizeof signer.public_key, hex);
        static const struct ds_signature unsigned_one;
        struct ds_cli_progress progress = {.what = "hashing"};
        const struct ds_hash_params params = {.threads = options->threads, .progress = on_progress, .user = &progress};
        struct verdict verdict = {.options = options, .files = manifest.n_files, .signer = memcmp(&signer, &unsigned_one, sizeof signer) ? hex : NULL};
        for (size_t i = 0; i < manifest.n_files; i++) verdict.tensors += manifest.files[i].n_tensors;
        ds_cli_progress(&progress, 0, 0);
        status = ds_manifest_verify(&manifest, ckpt, &params, tell_difference, &verdict, err);
        ds_cli_progress_end(&progress);
        if (status == DS_OK || status == DS_ERROR_MISMATCH) tell_verdict(&verdict, status == DS_OK);
        ds_ckpt_close(ckpt);
    }
    ds_manifest_free(&manifest);
    return status;
}

/* --- SHA-256 of one file --- */

static ds_status hash_file(const char *path, struct ds_digest *out, struct ds_error *err) {
    enum { PIECE = 4 << 20 };
    struct ds_mapping mapping;
    struct ds_sha256 hash;
    struct ds_cli_progress progress = {.what = "hashing"};
    DS_TRY(ds_hash_require(err));
    DS_TRY(ds_os_map(path, &mapping, err));
    ds_status status = DS_OK;
    ds_sha256_begin(&hash);
    ds_cli_progress(&progress, 0, 0);
    for (uint64_t at = 0, n; status == DS_OK && at < mapping.size; at += n) {
        n = DS_MIN(mapping.size - at, (uint64_t)PIECE);
        ds_sha256_add(&hash, mapping.data + at, (size_t)n);
        ds_os_release(&mapping, at, n);
        if (!on_progress(&progress, at + n, mapping.size)) status = ds_fail(err, DS_ERROR_CANCELLED, "interrupted");
    }
    ds_cli_progress_end(&progress);
    ds_os_unmap(&mapping);
    *out = ds_sha256_end(&hash);
    return status;
}

static ds_status verify_sha256(const char *path, const struct verify_options *options, struct ds_error *err) {
    struct ds_digest expected, found;
    char hex[2 * DS_DIGEST_BYTES + 1], lower[2 * DS_DIGEST_BYTES + 1];
    ds_hex_read(options->sha256, strlen(options->sha256), expected.bytes, sizeof expected.bytes);
    DS_TRY(hash_file(path, &found, err));
    ds_hex_write(found.bytes, sizeof found.bytes, hex);
    ds_hex_write(expected.bytes, sizeof expected.bytes, lower);
    const bool good = ds_digest_equal(&expected, &found);
    if (options->json) printf("{\"good\": %s, \"sha256\": \"%s\"}\n", good ? "true" : "false", hex);
    else if (good) printf("good: SHA-256 %s\n", hex);
    return good ? DS_OK : ds_fail(err, DS_ERROR_MISMATCH, "%s: expected SHA-256 %s, found %s: the file is not the published one, or was cut off or changed", path, lower, hex);
}

/* Hubs and tools write either case. */
static bool to_lower(const char *text, char out[2 * DS_DIGEST_BYTES + 1]) {
    if (strlen(text) != 2 * DS_DIGEST_BYTES) return false;
    for (size_t i = 0; i <= 2 * DS_DIGEST_BYTES; i++) out[i] = (char)(text[i] >= 'A' && text[i] <= 'F' ? text[i] + ('a' - 'A') : text[i]);
    uint8_t unused[DS_DIGEST_BYTES];
    return ds_hex_read(out, 2 * DS_DIGEST_BYTES, unused, sizeof unused);
}

static int verify_main(int argc, char **argv) {
    struct verify_options options = {0};
    const char *path;
    char lower[2 * DS_DIGEST_BYTES + 1];
    const int code = ds_cli_parse(&ds_command_verify, argc, argv, &options, &path);
    if (code != DS_CLI_GO) return code;
    if (options.sha256 && options.trust) return ds_cli_usage(&ds_command_verify, "--sha256 and --trust do not go together: a digest says all there is");
    if (options.sha256 && !to_lower(options.sha256, lower))
        return ds_cli_usage(&ds_command_verify, "--sha256: expected 64 hexadecimal digits, found '%.80s' (%zu characters)", options.sha256, strlen(options.sha256));
    if (options.sha256) options.sha256 = lower;
    struct ds_error err;
    ds_cli_catch_interrupt();
    const ds_status status = options.sha256 ? verify_sha256(path, &options, &err) : verify_checkpoint(path, &options, &err);
    ds_cli_release_interrupt();
    if (status == DS_ERROR_CANCELLED) return ds_cli_finish(DS_CLI_INTERRUPTED);
    return ds_cli_finish(status == DS_OK ? DS_CLI_DONE : ds_cli_fail(&err));
}

const struct ds_cli_command ds_command_verify = {
    .name = "verify",
    .summary = "whether a model's files are what its manifest or a published digest says",
    .synopsis = "PATH [--trust KEY | --sha256 HEX] [options]",
    .details = "Computes every digest of the manifest beside PATH anew and names each file and tensor that differs. A signature that is there must be right; with "
               "`--trust` there must be one, by that key. Exit code 0: all is as it was; 1: something differs, or there is no manifest.\n\n"
               "With `--sha256` no manifest is needed: the one file PATH is compared with a digest from where it was published.",
    .examples = "dspark verify model.gguf\ndspark verify model.gguf --trust author.pub\n"
                "dspark verify model.gguf --sha256 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    .groups = verify_groups,
    .min_operands = 1,
    .max_operands = 1,
    .operand = "PATH",
    .main = verify_main};
