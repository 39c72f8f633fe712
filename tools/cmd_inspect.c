/* What is in a checkpoint: files, hyper-parameters, tensors. Everything printed is untrusted text and goes through ds_quote. */
#include "base/quote.h"
#include "ckpt/checkpoint.h"
#include "cli.h"

#include <inttypes.h>
#include <jansson.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct inspect_options {
    bool json, tensors, values;
};

#define AT(member) .offset = offsetof(struct inspect_options, member)
static const struct ds_cli_option inspect_options[] = {
    {.name = "tensors", .kind = DS_CLI_FLAG, AT(tensors), .help = "list every tensor"},
    {.name = "values", .kind = DS_CLI_FLAG, AT(values), .help = "list every configuration value"},
    {.name = "json", .kind = DS_CLI_FLAG, AT(json), .help = "one JSON object on standard output"},
    {0}};
#undef AT
static const struct ds_cli_group inspect_groups[] = {{.options = inspect_options}, {0}};

/* --- what both forms show --- */

struct type_total {
    size_t tensors;
    uint64_t elements, bytes;
};

static uint64_t count_elements(const struct ds_ckpt_tensor *tensor) {
    return tensor->shape[0] * tensor->shape[1] * tensor->shape[2] * tensor->shape[3]; /* fits: its bytes are in the file */
}

/* By type, and all together behind the last type. */
static void sum_types(const struct ds_ckpt *ckpt, struct type_total totals[DS_TYPE_COUNT + 1]) {
    for (size_t i = 0; i < ds_ckpt_tensor_count(ckpt); i++) {
        const struct ds_ckpt_tensor *tensor = ds_ckpt_tensor_at(ckpt, i);
        struct type_total *const both[] = {&totals[tensor->type], &totals[DS_TYPE_COUNT]};
        for (size_t j = 0; j < DS_COUNT(both); j++) {
            both[j]->tensors++;
            both[j]->elements += count_elements(tensor);
            both[j]->bytes += tensor->bytes;
        }
    }
}

static const char *format_name(const struct ds_ckpt *ckpt) {
    return ds_ckpt_get_format(ckpt) == DS_CKPT_GGUF ? "gguf" : "safetensors";
}

/* general.architecture, or the first of Hugging Face's architectures. */
static struct ds_quoted architecture_of(const struct ds_ckpt *ckpt) {
    const struct ds_value *value = ds_ckpt_value(ckpt, "general.architecture");
    if (value && value->kind == DS_VALUE_STRING) return ds_quote(value->string, value->length);
    value = ds_ckpt_value(ckpt, "architectures");
    if (value && value->kind == DS_VALUE_ARRAY && value->element == DS_VALUE_STRING && value->length > 0) {
        const struct ds_text *first = value->array;
        return ds_quote(first->data, first->length);
    }
    return (struct ds_quoted){""};
}

/* The numbers one wants to see first, under the names the two containers have for them. */
static const struct {
    const char *label, *gguf, *json;
} parameters[] = {
    {"layers", "block_count", "num_hidden_layers"},
    {"hidden size", "embedding_length", "hidden_size"},
    {"feed-forward size", "feed_forward_length", "intermediate_size"},
    {"attention heads", "attention.head_count", "num_attention_heads"},
    {"key/value heads", "attention.head_count_kv", "num_key_value_heads"},
    {"head dimension", "attention.key_length", "head_dim"},
    {"vocabulary", "vocab_size", "vocab_size"},
    {"context length", "context_length", "max_position_embeddings"},
    {"rope base", "rope.freq_base", "rope_theta"},
    {"experts", "expert_count", "num_experts"},
    {"block size", "block_size", "block_size"},
    {"tapped layers", "target_layers", "target_layer_ids"},
    {"Markov rank", "", "markov_rank"},
};

/* Where a folder may keep a number: in the model's own configuration, or in that of its text part or drafter's layers. */
static const char *const json_prefixes[] = {"", "text_config.", "transformer_layer_config.", "rope_parameters."};

static const struct ds_value *find_value(const struct ds_ckpt *ckpt, size_t index, const char *architecture) {
    char key[320];
    if (ds_ckpt_get_format(ckpt) == DS_CKPT_GGUF) {
        snprintf(key, sizeof key, "%s.%s", architecture, parameters[index].gguf);
        return ds_ckpt_value(ckpt, key);
    }
    for (size_t i = 0; i < DS_COUNT(json_prefixes); i++) {
        snprintf(key, sizeof key, "%s%s", json_prefixes[i], parameters[index].json);
        const struct ds_value *value = ds_ckpt_value(ckpt, key);
        if (value && value->kind != DS_VALUE_NULL) return value;
    }
    return NULL;
}

/* False when the checkpoint does not state it. A GGUF file may leave the vocabulary's size to its list of tokens. */
static bool find_parameter(const struct ds_ckpt *ckpt, size_t index, const char *architecture, struct ds_value *out) {
    const struct ds_value *value = find_value(ckpt, index, architecture);
    const struct ds_value *tokens = ds_ckpt_value(ckpt, "tokenizer.ggml.tokens");
    if (value) {
        *out = *value;
    } else if (tokens && strcmp(parameters[index].gguf, "vocab_size") == 0) {
        *out = (struct ds_value){.key = tokens->key, .kind = DS_VALUE_INT, .integer = (int64_t)tokens->length};
    } else {
        return false;
    }
    return true;
}

/* Element `index` of an array as a value of its own. */
static struct ds_value element_at(const struct ds_value *array, size_t index) {
    struct ds_value element = {.key = array->key, .kind = array->element};
    switch (array->element) {
    case DS_VALUE_BOOL:
        element.boolean = ((const bool *)array->array)[index];
        break;
    case DS_VALUE_INT:
        element.integer = ((const int64_t *)array->array)[index];
        break;
    case DS_VALUE_REAL:
        element.real = ((const double *)array->array)[index];
        break;
    default:
        element.string = ((const struct ds_text *)array->array)[index].data;
        element.length = ((const struct ds_text *)array->array)[index].length;
    }
    return element;
}

/* --- for people --- */

static void print_size(uint64_t bytes) {
    static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
    double size = (double)bytes;
    size_t unit = 0;
    for (; size >= 1024.0 && unit + 1 < DS_COUNT(units); unit++) size /= 1024.0;
    printf(unit == 0 ? "%.0f %s" : "%.2f %s", size, units[unit]);
}

static void print_scalar(const struct ds_value *value) {
    switch (value->kind) {
    case DS_VALUE_BOOL:
        fputs(value->boolean ? "true" : "false", stdout);
        break;
    case DS_VALUE_INT:
        printf("%" PRId64, value->integer);
        break;
    case DS_VALUE_REAL:
        printf("%.9g", value->real);
        break;
    case DS_VALUE_STRING:
        printf("\"%s\"", ds_quote(value->string, value->length).text);
        break;
    default:
        fputs("null", stdout);
    }
}

static void print_value(const struct ds_value *value) {
    enum { SHOWN = 8 };
    if (value->kind != DS_VALUE_ARRAY) {
        print_scalar(value);
        return;
    }
    if (value->mixed) {
        fputs("[mixed]", stdout);
        return;
    }
    putchar('[');
    for (size_t i = 0; i < value->length && i < SHOWN; i++) {
        const struct ds_value element = element_at(value, i);
        if (i > 0) fputs(", ", stdout);
        print_scalar(&element);
    }
    if (value->length > SHOWN) printf(", ... %zu in all", value->length);
    putchar(']');
}

static void print_line(const char *label) {
    printf("%-18s  ", label);
}

static void print_files(const struct ds_ckpt *ckpt) {
    const uint32_t count = ds_ckpt_file_count(ckpt);
    print_line("size");
    print_size(ds_ckpt_file_bytes(ckpt));
    printf(count == 1 ? "\n" : " in %u files\n", count);
    for (uint32_t i = 0; count > 1 && i < count; i++) {
        uint64_t bytes;
        const char *path = ds_ckpt_file_at(ckpt, i, &bytes);
        print_line("");
        printf("%s, ", ds_quote_name(path).text);
        print_size(bytes);
        putchar('\n');
    }
}

static void print_types(const struct ds_ckpt *ckpt) {
    struct type_total totals[DS_TYPE_COUNT + 1] = {{0}};
    sum_types(ckpt, totals);
    print_line("tensors");
    printf("%zu with %" PRIu64 " elements in ", totals[DS_TYPE_COUNT].tensors, totals[DS_TYPE_COUNT].elements);
    print_size(totals[DS_TYPE_COUNT].bytes);
    putchar('\n');
    for (unsigned i = 0; i < DS_TYPE_COUNT; i++) {
        if (totals[i].tensors == 0) continue;
        print_line("");
        printf("%-8s %6zu tensors %15" PRIu64 " elements  ", ds_type_get((ds_type)i)->name, totals[i].tensors,
               totals[i].elements);
        print_size(totals[i].bytes);
        putchar('\n');
    }
    if (ds_ckpt_skipped_count(ckpt) > 0) {
        print_line("");
        printf("%zu more cannot be read (--tensors lists them)\n", ds_ckpt_skipped_count(ckpt));
    }
}

static void print_shape(const struct ds_ckpt_tensor *tensor) {
    putchar('[');
    for (uint32_t i = 0; i < DS_MIN(tensor->dims, DS_CKPT_MAX_DIMS); i++)
        printf(i > 0 ? ", %" PRIu64 : "%" PRIu64, tensor->shape[i]);
    putchar(']');
}

static void print_tensors(const struct ds_ckpt *ckpt) {
    fputs("\ntensors: type, name, shape, bytes\n", stdout);
    for (size_t i = 0; i < ds_ckpt_tensor_count(ckpt); i++) {
        const struct ds_ckpt_tensor *tensor = ds_ckpt_tensor_at(ckpt, i);
        printf("  %-8s  %-44s  ", ds_type_get(tensor->type)->name, ds_quote_name(tensor->name).text);
        print_shape(tensor);
        printf("  %" PRIu64 "\n", tensor->bytes);
    }
    for (size_t i = 0; i < ds_ckpt_skipped_count(ckpt); i++) {
        const char *why;
        const struct ds_ckpt_tensor *tensor = ds_ckpt_skipped_at(ckpt, i, &why);
        printf("  %-8s  %-44s  ", "-", ds_quote_name(tensor->name).text);
        print_shape(tensor);
        printf("  cannot be read: it is %s\n", ds_quote_name(why).text);
    }
}

static void print_values(const struct ds_ckpt *ckpt) {
    fputs("\nvalues\n", stdout);
    for (size_t i = 0; i < ds_ckpt_value_count(ckpt); i++) {
        const struct ds_value *value = ds_ckpt_value_at(ckpt, i);
        printf("  %s = ", ds_quote_name(value->key).text);
        print_value(value);
        putchar('\n');
    }
}

static void print_text(const struct ds_ckpt *ckpt, const struct inspect_options *options) {
    const struct ds_quoted architecture = architecture_of(ckpt);
    print_line("path");
    printf("%s\n", ds_quote_name(ds_ckpt_path(ckpt)).text);
    print_line("format");
    printf("%s\n", format_name(ckpt));
    print_files(ckpt);
    print_line("architecture");
    printf("%s\n", architecture.text[0] ? architecture.text : "not stated");
    for (size_t i = 0; i < DS_COUNT(parameters); i++) {
        struct ds_value value;
        if (!find_parameter(ckpt, i, architecture.text, &value)) continue;
        print_line(parameters[i].label);
        print_value(&value);
        putchar('\n');
    }
    print_types(ckpt);
    if (options->tensors) print_tensors(ckpt);
    if (options->values) print_values(ckpt);
}

/* --- for programs. A part for which memory is out becomes NULL, which jansson's setters refuse; the last one tells. --- */

/* JSON is UTF-8: what is not (tokens may be bytes) is escaped as for people. */
static json_t *json_text(const char *text, size_t length) {
    json_t *string = json_stringn(text, length);
    return string ? string : json_string(ds_quote(text, length).text);
}

static json_t *json_value(const struct ds_value *value) {
    switch (value->kind) {
    case DS_VALUE_BOOL:
        return json_boolean(value->boolean);
    case DS_VALUE_INT:
        return json_integer(value->integer);
    case DS_VALUE_REAL: {
        json_t *real = json_real(value->real);
        return real ? real : json_null(); /* NaN and infinities */
    }
    case DS_VALUE_STRING:
        return json_text(value->string, value->length);
    case DS_VALUE_ARRAY: {
        json_t *array = json_array();
        for (size_t i = 0; i < value->length; i++) {
            const struct ds_value element = element_at(value, i);
            json_array_append_new(array, json_value(&element));
        }
        return array;
    }
    default:
        return json_null();
    }
}

static json_t *json_shape(const struct ds_ckpt_tensor *tensor) {
    json_t *shape = json_array();
    for (uint32_t i = 0; i < DS_MIN(tensor->dims, DS_CKPT_MAX_DIMS); i++)
        json_array_append_new(shape, json_integer((json_int_t)tensor->shape[i]));
    return shape;
}

static json_t *json_files(const struct ds_ckpt *ckpt) {
    json_t *files = json_array();
    for (uint32_t i = 0; i < ds_ckpt_file_count(ckpt); i++) {
        uint64_t bytes;
        const char *path = ds_ckpt_file_at(ckpt, i, &bytes);
        json_array_append_new(files,
                              json_pack("{s:o, s:I}", "path", json_text(path, strlen(path)), "bytes", (json_int_t)bytes));
    }
    return files;
}

static json_t *json_types(const struct ds_ckpt *ckpt) {
    struct type_total totals[DS_TYPE_COUNT + 1] = {{0}};
    sum_types(ckpt, totals);
    json_t *types = json_object();
    for (unsigned i = 0; i < DS_TYPE_COUNT; i++) {
        if (totals[i].tensors == 0) continue;
        json_object_set_new(types, ds_type_get((ds_type)i)->name,
                            json_pack("{s:I, s:I, s:I}", "tensors", (json_int_t)totals[i].tensors, "elements",
                                      (json_int_t)totals[i].elements, "bytes", (json_int_t)totals[i].bytes));
    }
    return types;
}

static json_t *json_tensors(const struct ds_ckpt *ckpt) {
    json_t *tensors = json_array();
    for (size_t i = 0; i < ds_ckpt_tensor_count(ckpt); i++) {
        const struct ds_ckpt_tensor *t = ds_ckpt_tensor_at(ckpt, i);
        json_array_append_new(tensors, json_pack("{s:o, s:s, s:o, s:i, s:I, s:I}", "name", json_text(t->name, strlen(t->name)),
                                                 "type", ds_type_get(t->type)->name, "shape", json_shape(t), "file",
                                                 (int)t->file, "offset", (json_int_t)t->offset, "bytes", (json_int_t)t->bytes));
    }
    return tensors;
}

static json_t *json_skipped(const struct ds_ckpt *ckpt) {
    json_t *tensors = json_array();
    for (size_t i = 0; i < ds_ckpt_skipped_count(ckpt); i++) {
        const char *why;
        const struct ds_ckpt_tensor *t = ds_ckpt_skipped_at(ckpt, i, &why);
        json_array_append_new(
            tensors, json_pack("{s:o, s:o}", "name", json_text(t->name, strlen(t->name)), "why", json_text(why, strlen(why))));
    }
    return tensors;
}

/* A list, not an object: keys need not be UTF-8, and their order says something. */
static json_t *json_values(const struct ds_ckpt *ckpt) {
    json_t *values = json_array();
    for (size_t i = 0; i < ds_ckpt_value_count(ckpt); i++) {
        const struct ds_value *value = ds_ckpt_value_at(ckpt, i);
        json_array_append_new(
            values, json_pack("{s:o, s:o}", "key", json_text(value->key, strlen(value->key)), "value", json_value(value)));
    }
    return values;
}

/* Under Hugging Face's names, whatever the container. */
static json_t *json_parameters(const struct ds_ckpt *ckpt, const char *architecture) {
    json_t *object = json_object();
    for (size_t i = 0; i < DS_COUNT(parameters); i++) {
        struct ds_value value;
        if (find_parameter(ckpt, i, architecture, &value)) json_object_set_new(object, parameters[i].json, json_value(&value));
    }
    return object;
}

static int print_json(const struct ds_ckpt *ckpt, const struct inspect_options *options) {
    const struct ds_quoted architecture = architecture_of(ckpt);
    json_t *object =
        json_pack("{s:o, s:s, s:o, s:s, s:o, s:I, s:o, s:o}", "path", json_text(ds_ckpt_path(ckpt), strlen(ds_ckpt_path(ckpt))),
                  "format", format_name(ckpt), "files", json_files(ckpt), "architecture", architecture.text, "parameters",
                  json_parameters(ckpt, architecture.text), "tensor_count", (json_int_t)ds_ckpt_tensor_count(ckpt), "types",
                  json_types(ckpt), "unreadable", json_skipped(ckpt));
    bool made = object != NULL;
    if (options->tensors) made = made && json_object_set_new(object, "tensors", json_tensors(ckpt)) == 0;
    if (options->values) made = made && json_object_set_new(object, "values", json_values(ckpt)) == 0;
    char *text = made ? json_dumps(object, JSON_REAL_PRECISION(17)) : NULL;
    json_decref(object);
    if (!text) return ds_cli_failf("out of memory: the description of %s", ds_ckpt_path(ckpt));
    if (ds_cli_write(text, strlen(text))) ds_cli_write("\n", 1);
    free(text);
    return DS_CLI_DONE;
}

static int inspect_main(int argc, char **argv) {
    struct inspect_options options = {.json = false};
    const char *path;
    int code = ds_cli_parse(&ds_command_inspect, argc, argv, &options, &path);
    if (code != DS_CLI_GO) return code;
    struct ds_ckpt *ckpt;
    struct ds_error err;
    if (ds_ckpt_open(path, &ckpt, &err) != DS_OK) return ds_cli_finish(ds_cli_fail(&err));
    code = DS_CLI_DONE;
    if (options.json)
        code = print_json(ckpt, &options);
    else
        print_text(ckpt, &options);
    ds_ckpt_close(ckpt);
    return ds_cli_finish(code);
}

const struct ds_cli_command ds_command_inspect = {
    .name = "inspect",
    .summary = "what is in a model's files",
    .synopsis = "PATH [--tensors] [--values] [--json]",
    .details = "Shows format, sizes, hyper-parameters and tensors of a GGUF file, a safetensors file, or a folder with either. "
               "Nothing is "
               "loaded. Names and strings from the file are shown with control characters escaped, long ones cut.",
    .examples = "dspark inspect model.gguf\ndspark inspect models/tiny/target --tensors",
    .groups = inspect_groups,
    .min_operands = 1,
    .max_operands = 1,
    .operand = "PATH",
    .main = inspect_main,
};
