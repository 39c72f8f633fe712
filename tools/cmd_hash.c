/* hash, sign: a manifest for a checkpoint, and a signature over it. */
#include "base/hash.h"
#include "ckpt/manifest.h"
#include "base/os.h"
#include "cli.h"
#include "cli_engine.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- hash --- */

struct hash_options {
    const char *output;
    uint32_t threads;
};

#define AT(member) .offset = offsetof(struct hash_options, member)
static const struct ds_cli_option hash_options[] = {
    {.name = "output", .letter = 'o', .value = "FILE", .kind = DS_CLI_STRING, AT(output),
     .help = "where the manifest goes (default: beside the model, where loading looks for it)"},
    {.name = "threads", .value = "N", .kind = DS_CLI_UINT, .min = 1, .max = 256, AT(threads), .help = "CPU threads (default: one per processor)"},
    {0}};
#undef AT
static const struct ds_cli_group hash_groups[] = {{.options = hash_options}, {0}};

static bool on_progress(void *user, uint64_t done, uint64_t total) {
    return ds_cli_progress(user, done, total) && !ds_cli_interrupted();
}

static ds_status write_text(const char *path, const char *text, size_t size, struct ds_error *err) {
    struct ds_os_writer writer;
    DS_TRY(ds_os_write_begin(path, &writer, err));
    DS_TRY(ds_os_write(&writer, text, size, err)); /* aborts by itself when it fails */
    return ds_os_write_commit(&writer, err);
}

/* "DIGEST  NAME" */
static void print_digests(const struct ds_manifest *manifest) {
    for (size_t i = 0; i < manifest->n_files; i++) {
        char hex[2 * DS_DIGEST_BYTES + 1];
        ds_hex_write(manifest->files[i].whole.bytes, DS_DIGEST_BYTES, hex);
        printf("%s  ", hex);
        ds_cli_print_escaped(manifest->files[i].name, strlen(manifest->files[i].name));
        putchar('\n');
    }
}

static ds_status make_manifest(const char *path, const struct hash_options *options, struct ds_manifest *manifest, struct ds_error *err) {
    struct ds_ckpt *ckpt;
    struct ds_cli_progress progress = {.what = "hashing"};
    const struct ds_hash_params params = {.threads = options->threads, .progress = on_progress, .user = &progress};
    DS_TRY(ds_hash_require(err));
    DS_TRY(ds_ckpt_open(path, &ckpt, err));
    ds_cli_progress(&progress, 0, 0);
    ds_status status = ds_manifest_build(ckpt, &params, manifest, err);
    ds_cli_progress_end(&progress);
    ds_ckpt_close(ckpt);
    return status;
}

static ds_status write_manifest(const struct ds_manifest *manifest, const char *path, struct ds_error *err) {
    char *text;
    size_t size;
    DS_TRY(ds_manifest_text(manifest, &text, &size, err));
    const ds_status status = write_text(path, text, size, err);
    free(text);
    return status;
}

static int hash_main(int argc, char **argv) {
    struct hash_options options = {0};
    const char *path;
    const int code = ds_cli_parse(&ds_command_hash, argc, argv, &options, &path);
    if (code != DS_CLI_GO) return code;
    char *output = options.output ? NULL : ds_manifest_path(path);
    const char *to = options.output ? options.output : output;
    if (!to) return ds_cli_failf("out of memory: a path");
    struct ds_manifest manifest = {0};
    struct ds_error err;
    ds_cli_catch_interrupt();
    ds_status status = make_manifest(path, &options, &manifest, &err);
    ds_cli_release_interrupt();
    if (status == DS_OK) status = write_manifest(&manifest, to, &err);
    if (status == DS_OK) {
        print_digests(&manifest);
        ds_cli_note("%s", to);
    }
    ds_manifest_free(&manifest);
    free(output);
    if (status == DS_ERROR_CANCELLED) return ds_cli_finish(DS_CLI_INTERRUPTED);
    return ds_cli_finish(status == DS_OK ? DS_CLI_DONE : ds_cli_fail(&err));
}

const struct ds_cli_command ds_command_hash = {
    .name = "hash",
    .summary = "digests of a model's files and tensors, in a manifest beside it",
    .synopsis = "PATH [options]",
    .details = "PATH is a GGUF file, a safetensors file or a folder. The manifest, `PATH.manifest.json` or `PATH/dspark-manifest.json`, holds BLAKE2b digests "
               "of every file and every tensor. From then on each command that loads the model verifies it while it reads, and refuses what was changed "
               "by the name of the tensor; `dspark verify` does the same without loading, `dspark sign` makes sure that the manifest is yours.\n\n"
               "The files' digests, which are made of those of their parts, are printed.",
    .examples = "dspark hash model.gguf\ndspark hash models/tiny/target",
    .groups = hash_groups,
    .min_operands = 1,
    .max_operands = 1,
    .operand = "PATH",
    .main = hash_main};

/* --- sign --- */

struct sign_options {
    const char *key, *new_key;
};

#define AT(member) .offset = offsetof(struct sign_options, member)
static const struct ds_cli_option sign_options[] = {
    {.name = "key", .value = "FILE", .kind = DS_CLI_STRING, AT(key), .help = "the secret key to sign with"},
    {.name = "new-key", .value = "FILE", .kind = DS_CLI_STRING, AT(new_key),
     .help = "make a key pair: the secret one in FILE, which only you may read, the public one in FILE.pub. It is used if there is a PATH to sign"},
    {0}};
#undef AT
static const struct ds_cli_group sign_groups[] = {{.options = sign_options}, {0}};

/* The path of what is signed: a manifest by its own name, or the one beside a model. */
static char *manifest_of(const char *path) {
    static const char ending[] = ".json";
    const size_t n = strlen(path), m = sizeof ending - 1;
    if (n > m && strcmp(path + n - m, ending) == 0 && ds_os_path_kind(path) == DS_PATH_FILE) {
        char *copy = malloc(n + 1);
        if (copy) memcpy(copy, path, n + 1);
        return copy;
    }
    return ds_manifest_path(path);
}

static ds_status sign_text(const char *manifest_path, const char *signature_path, const char *key_path, struct ds_error *err) {
    uint8_t secret_key[DS_SECRET_KEY_BYTES];
    char *text;
    size_t size;
    if (ds_os_path_kind(manifest_path) == DS_PATH_MISSING)
        return ds_fail(err, DS_ERROR_IO, "there is no manifest '%s' to sign: `dspark hash` makes one", manifest_path);
    DS_TRY(ds_secret_key_read(key_path, secret_key, err));
    ds_status status = ds_os_read_file(manifest_path, 512u << 20, &text, &size, err);
    if (status == DS_OK) {
        struct ds_manifest manifest;
        struct ds_signature signature;
        status = ds_manifest_parse(text, size, &manifest, err);
        if (status == DS_OK) {
            ds_sign(text, size, secret_key, signature.signature);
            ds_sign_public_key(secret_key, signature.public_key);
            status = ds_signature_write(signature_path, &signature, err);
            ds_manifest_free(&manifest);
        } else {
            ds_fail_context(err, "%s", manifest_path);
        }
        free(text);
    }
    ds_wipe(secret_key, sizeof secret_key);
    return status;
}

static ds_status sign(const char *path, const char *key_path, struct ds_error *err) {
    char *manifest_path = manifest_of(path), *signature_path = manifest_path ? ds_signature_path(manifest_path) : NULL;
    const ds_status status = signature_path ? sign_text(manifest_path, signature_path, key_path, err) : ds_fail_memory(err, strlen(path), "a path");
    if (status == DS_OK) ds_cli_note("%s", signature_path);
    free(signature_path);
    free(manifest_path);
    return status;
}

static int sign_main(int argc, char **argv) {
    struct sign_options options = {0};
    const char *path = NULL;
    const int code = ds_cli_parse(&ds_command_sign, argc, argv, &options, &path);
    if (code != DS_CLI_GO) return code;
    if (options.key && options.new_key) return ds_cli_usage(&ds_command_sign, "--key and --new-key do not go together");
    if (!options.key && !options.new_key) return ds_cli_usage(&ds_command_sign, "a key is missing: give one with --key FILE, or make one with --new-key FILE");
    if (!path && !options.new_key) return ds_cli_usage(&ds_command_sign, "PATH is missing");
    struct ds_error err;
    ds_status status = options.new_key ? ds_keys_write(options.new_key, &err) : DS_OK;
    if (status == DS_OK && options.new_key) ds_cli_note("%s, %s.pub", options.new_key, options.new_key);
    if (status == DS_OK && path) status = sign(path, options.new_key ? options.new_key : options.key, &err);
    return ds_cli_finish(status == DS_OK ? DS_CLI_DONE : ds_cli_fail(&err));
}

const struct ds_cli_command ds_command_sign = {
    .name = "sign",
    .summary = "signs a model's manifest; makes keys",
    .synopsis = "[PATH] --key FILE | --new-key FILE",
    .details = "Writes an Ed25519 signature over the manifest of the model PATH (`dspark hash` makes it) beside it, `MANIFEST.sig`. Who has the public key loads the "
               "model with `--trust KEY`, and knows that not a bit of it is other than when you signed.\n\n"
               "Keep the secret key to yourself; there is no password on it.",
    .examples = "dspark sign --new-key mine\ndspark sign model.gguf --key mine\ndspark run -m model.gguf --trust mine.pub -p Hello",
    .groups = sign_groups,
    .max_operands = 1,
    .operand = "PATH",
    .main = sign_main};
