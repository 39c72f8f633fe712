/*
 * A drawing that a command writes: opened before anything is measured, so that minutes are not spent for a place that cannot be written, and
 * under its name only when it is complete. The functions explain failures and return DS_CLI_GO or an exit code.
 */
#ifndef DSPARK_TOOLS_SVG_FILE_H
#define DSPARK_TOOLS_SVG_FILE_H

#include "cli.h"

#include <stdio.h>

struct ds_svg_file {
    const char *path;
    char *part; /* the name it has until it is complete; owned */
    FILE *out;  /* NULL: no drawing is wanted */
};
/* `path` NULL: none is wanted. ds_svg_close in every case. */
int ds_svg_open(struct ds_svg_file *svg, const char *path);
/* What was written to `out` is all. */
int ds_svg_commit(struct ds_svg_file *svg);
void ds_svg_close(struct ds_svg_file *svg); /* accepts a zeroed struct; removes what was not completed */

/* Text that may hold anything, such as a path. */
void ds_svg_put_text(FILE *out, const char *text);

#endif
