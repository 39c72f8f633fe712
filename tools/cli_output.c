#include "cli.h"
#include "cli_text.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

bool ds_cli_is_terminal(int stream) {
    return isatty(stream) == 1;
}

bool ds_cli_coloured(int stream) {
    const char *const no_color = getenv("NO_COLOR"), *const term = getenv("TERM");
    return ds_cli_is_terminal(stream) && !(no_color && *no_color) && term && strcmp(term, "dumb") != 0;
}

double ds_cli_seconds(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

/* --- untrusted text --- */

/* Length of the valid UTF-8 character at the start of `text`, or 0. */
static size_t utf8_length(const unsigned char *text, size_t n) {
    if (text[0] < 0x80) return 1;
    /* the first continuation byte's range keeps out overlong forms, surrogates and what lies beyond U+10FFFF */
    unsigned char low = 0x80, high = 0xbf;
    size_t length;
    if (text[0] >= 0xc2 && text[0] <= 0xdf) length = 2;
    else if ((text[0] & 0xf0) == 0xe0) length = 3;
    else if (text[0] >= 0xf0 && text[0] <= 0xf4) length = 4;
    else return 0;
    if (text[0] == 0xe0) low = 0xa0;
    if (text[0] == 0xed) high = 0x9f;
    if (text[0] == 0xf0) low = 0x90;
    if (text[0] == 0xf4) high = 0x8f;
    if (n < length || text[1] < low || text[1] > high) return 0;
    for (size_t i = 2; i < length; i++)
        if ((text[i] & 0xc0) != 0x80) return 0;
    return length;
}

void ds_cli_put_escaped(FILE *stream, const char *text, size_t length) {
    const unsigned char *bytes = (const unsigned char *)text;
    while (length) {
        const size_t n = utf8_length(bytes, length);
        const bool c1_control = n == 2 && bytes[0] == 0xc2 && bytes[1] < 0xa0;
        if (n == 0 || c1_control || bytes[0] < 0x20 || bytes[0] == 0x7f) {
            if (bytes[0] == '\n') fputs("\\n", stream);
            else if (bytes[0] == '\t') fputs("\\t", stream);
            else
                for (size_t i = 0; i < (n ? n : 1); i++) fprintf(stream, "\\x%02x", bytes[i]);
        } else {
            fwrite(bytes, 1, n, stream);
        }
        bytes += n ? n : 1;
        length -= n ? n : 1;
    }
}

void ds_cli_print_escaped(const char *text, size_t length) {
    ds_cli_put_escaped(stdout, text, length);
}

/* --- messages --- */

static int print_failure(const char *message) {
    fflush(stdout);
    const bool coloured = ds_cli_coloured(2);
    fprintf(stderr, "%sdspark:%s ", coloured ? "\033[31m" : "", coloured ? "\033[0m" : "");
    ds_cli_put_escaped(stderr, message, strlen(message)); /* it may quote a name from a file */
    fputc('\n', stderr);
    return DS_CLI_FAILED;
}

int ds_cli_fail(const struct ds_error *err) {
    return print_failure(err->message);
}

int ds_cli_failf(const char *format, ...) {
    char message[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    return print_failure(message);
}

void ds_cli_note(const char *format, ...) {
    const bool coloured = ds_cli_coloured(2);
    if (coloured) fputs("\033[2m", stderr);
    va_list args;
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputs(coloured ? "\033[0m\n" : "\n", stderr);
}

void ds_cli_log(void *user, ds_log_level level, const char *message) {
    (void)user;
    static const char *const names[] = {"error", "warning", "info", "debug", "trace"};
    const char *const name = (unsigned)level < sizeof names / sizeof names[0] ? names[level] : "log";
    flockfile(stderr); /* threads log; a line stays a line */
    fprintf(stderr, "dspark: %s: ", name);
    ds_cli_put_escaped(stderr, message, strlen(message));
    fputc('\n', stderr);
    funlockfile(stderr);
}

/* --- results --- */

/* errno of the first write to stdout that failed; 0: none. The program has one stdout, hence one of these. */
static int stdout_error;

static bool flush_stdout(void) {
    if (fflush(stdout) == 0 && !ferror(stdout)) return true;
    if (!stdout_error) stdout_error = errno ? errno : EIO;
    return false;
}

bool ds_cli_write(const char *data, size_t length) {
    if (stdout_error) return false;
    errno = 0;
    fwrite(data, 1, length, stdout);
    return flush_stdout();
}

bool ds_cli_write_text(const char *text, size_t length) {
    if (!ds_cli_is_terminal(1)) return ds_cli_write(text, length);
    for (size_t i = 0; i < length && !stdout_error; i++) {
        const unsigned char c = (unsigned char)text[i];
        const bool c1_control = c == 0xc2 && i + 1 < length && (unsigned char)text[i + 1] < 0xa0; /* its two bytes */
        if (c1_control) i++;
        else if ((c >= 0x20 && c != 0x7f) || c == '\n' || c == '\t') putchar(c);
    }
    return ds_cli_write("", 0);
}

int ds_cli_finish(int code) {
    errno = 0;
    if (!stdout_error && flush_stdout()) return code;
    /* A reader that has seen enough closes the pipe: nothing to explain. */
    if (stdout_error != EPIPE) print_failure(strerror(stdout_error));
    stdout_error = EPIPE; /* explained once */
    return code == DS_CLI_DONE ? DS_CLI_FAILED : code;
}

/* --- progress --- */

enum { BAR_WIDTH = 30 };

bool ds_cli_progress(void *user, uint64_t done, uint64_t total) {
    struct ds_cli_progress *const progress = user;
    const double time = ds_cli_seconds();
    if (progress->started == 0) progress->started = time;
    if (time - progress->started < 0.3 || time - progress->drawn < 0.05 || !ds_cli_is_terminal(2)) return true;
    progress->drawn = time;
    progress->visible = true;
    const double part = total ? (double)done / (double)total : 0.0;
    const int filled = part >= 1.0 ? BAR_WIDTH : (int)(part * BAR_WIDTH);
    fprintf(stderr, "\r%s [", progress->what);
    for (int i = 0; i < BAR_WIDTH; i++) fputc(i < filled ? '#' : '.', stderr);
    fprintf(stderr, "] %3.0f %%", part * 100.0);
    fflush(stderr);
    return true;
}

void ds_cli_progress_end(struct ds_cli_progress *progress) {
    if (progress->visible) fputs("\r\033[K", stderr);
    progress->visible = false;
}
