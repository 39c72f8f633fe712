/* What the files of the command line share: how options and untrusted text look. Not for commands. */
#ifndef DSPARK_TOOLS_CLI_TEXT_H
#define DSPARK_TOOLS_CLI_TEXT_H

#include "cli.h"

#include <stdio.h>

enum { CLI_LABEL_SIZE = 128 };

/* "-m, --model PATH", "--kv f16|f32": cut when it is longer. */
void ds_cli_label(const struct ds_cli_option *option, char out[CLI_LABEL_SIZE]);

/* Untrusted text with control characters and invalid UTF-8 escaped: "\n", "\x1b". */
void ds_cli_put_escaped(FILE *stream, const char *text, size_t length);

#endif
