#include "svg_file.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int ds_svg_open(struct ds_svg_file *svg, const char *path) {
    static const char suffix[] = ".part";
    *svg = (struct ds_svg_file){.path = path};
    if (!path) return DS_CLI_GO;
    svg->part = malloc(strlen(path) + sizeof suffix);
    if (!svg->part) return ds_cli_failf("out of memory");
    strcat(strcpy(svg->part, path), suffix);
    svg->out = fopen(svg->part, "w");
    return svg->out ? DS_CLI_GO : ds_cli_failf("--svg: cannot write %s: %s", path, strerror(errno));
}

int ds_svg_commit(struct ds_svg_file *svg) {
    if (!svg->out) return DS_CLI_GO;
    errno = 0;
    bool written = !ferror(svg->out);
    written = fclose(svg->out) == 0 && written;
    svg->out = NULL;
    if (written && rename(svg->part, svg->path) == 0) return DS_CLI_GO;
    const int code = ds_cli_failf("--svg: cannot write %s: %s", svg->path, strerror(errno));
    remove(svg->part);
    return code;
}

void ds_svg_close(struct ds_svg_file *svg) {
    if (svg->out) {
        fclose(svg->out);
        remove(svg->part);
    }
    free(svg->part);
    *svg = (struct ds_svg_file){0};
}

void ds_svg_put_text(FILE *out, const char *text) {
    for (; *text; text++) {
        switch (*text) {
        case '&': fputs("&amp;", out); break;
        case '<': fputs("&lt;", out); break;
        case '>': fputs("&gt;", out); break;
        default: fputc((unsigned char)*text < 0x20 ? '?' : *text, out);
        }
    }
}
