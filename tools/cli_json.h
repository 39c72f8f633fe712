/*
 * Writing JSON the way the program needs it: members of known objects, straight to a stream. Errors stay in the stream
 * (ferror). Numbers are printed so that they read back as the same value; what is not finite becomes null.
 */
#ifndef DSPARK_TOOLS_CLI_JSON_H
#define DSPARK_TOOLS_CLI_JSON_H

#include "dspark.h"

#include <stdio.h>

/* `text` is valid UTF-8; it may hold NUL. */
void ds_cli_json_string(FILE *out, const char *text, size_t length);
void ds_cli_json_text(FILE *out, const char *text); /* NUL-terminated; NULL gives null */
void ds_cli_json_double(FILE *out, double value);
void ds_cli_json_float(FILE *out, float value);
void ds_cli_json_tokens(FILE *out, const ds_token *tokens, size_t count); /* [1,2,3] */

#endif
