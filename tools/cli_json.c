#include "cli_json.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

void ds_cli_json_string(FILE *out, const char *text, size_t length) {
    fputc('"', out);
    for (size_t i = 0; i < length; i++) {
        const unsigned char c = (unsigned char)text[i];
        if (c == '"' || c == '\\') fprintf(out, "\\%c", c);
        else if (c == '\n') fputs("\\n", out);
        else if (c < 0x20 || c == 0x7f) fprintf(out, "\\u%04x", c);
        else fputc(c, out);
    }
    fputc('"', out);
}

void ds_cli_json_text(FILE *out, const char *text) {
    if (text) ds_cli_json_string(out, text, strlen(text));
    else fputs("null", out);
}

/* `digits` significant ones make the value read back exactly. */
static void put_number(FILE *out, double value, int digits) {
    if (isfinite(value)) fprintf(out, "%.*g", digits, value);
    else fputs("null", out);
}

void ds_cli_json_double(FILE *out, double value) {
    put_number(out, value, 17);
}

void ds_cli_json_float(FILE *out, float value) {
    put_number(out, value, 9);
}

void ds_cli_json_tokens(FILE *out, const ds_token *tokens, size_t count) {
    fputc('[', out);
    for (size_t i = 0; i < count; i++) fprintf(out, "%s%" PRId32, i ? "," : "", tokens[i]);
    fputc(']', out);
}
