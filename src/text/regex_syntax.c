#include "text/regex_syntax.h"
#include "base/quote.h"

#include <string.h>

/* The pattern being read. */
struct reader {
    const char *text;
    size_t length, at;
    bool in_class;
    struct ds_buffer *out;
    struct ds_error *err;
};

static char peek(const struct reader *r, size_t ahead) {
    return r->length - r->at > ahead ? r->text[r->at + ahead] : '\0';
}
static bool starts(const struct reader *r, const char *text) {
    const size_t n = strlen(text);
    return r->length - r->at >= n && memcmp(r->text + r->at, text, n) == 0;
}
static ds_status emit(struct reader *r, const char *text) {
    return ds_buffer_append(r->out, text, strlen(text), r->err);
}

/* Copies `n` bytes of the pattern as they are. */
static ds_status copy(struct reader *r, size_t n) {
    DS_TRY(ds_buffer_append(r->out, r->text + r->at, n, r->err));
    r->at += n;
    return DS_OK;
}

static ds_status refuse(const struct reader *r, const char *what) {
    return ds_fail(r->err, DS_ERROR_UNSUPPORTED, "%s is not supported (byte %zu, \"%s\")", what, r->at,
                   ds_quote(r->text + r->at, DS_MIN(r->length - r->at, (size_t)12)).text);
}

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}
static bool is_hex(char c) {
    return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}
static bool is_letter(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/*
 * Members of character classes. Each begins and ends with a property, so that a '-' beside it stays a plain character.
 * Xsp is PCRE2's \s, which has U+180E too many. Outside of a class Oniguruma's \w has six characters of Latin-1 more
 * (superscripts and fractions) than inside; both were compared over all code points.
 */
#define SPACE "\\p{Zs}\\t-\\r\\x{85}\\p{Zl}\\p{Zp}"
#define NOT_SPACE "\\P{Xsp}\\x{180E}\\P{Xsp}"
#define WORD "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}"
#define LONE_WORD WORD "\\x{B2}\\x{B3}\\x{B9}\\x{BC}-\\x{BE}"

/* \s and \w, which are a class of their own outside of one. */
static ds_status class_escape(struct reader *r, const char *members, bool negated) {
    r->at += 2;
    if (!r->in_class) DS_TRY(emit(r, negated ? "[^" : "["));
    DS_TRY(emit(r, members));
    return r->in_class ? DS_OK : emit(r, "]");
}

/* \p{..}: categories have one or two letters; longer names are scripts, which PCRE2 checks. */
static ds_status property(struct reader *r) {
    if (peek(r, 2) != '{') return refuse(r, "\\p without braces");
    const char *end = memchr(r->text + r->at, '}', r->length - r->at);
    if (!end) return refuse(r, "\\p without its closing brace");
    const size_t name = r->at + 3, n = (size_t)(end - r->text) - name;
    const bool negated = n > 0 && r->text[name] == '^';
    for (size_t i = negated; i < n; i++)
        if (!is_letter(r->text[name + i]) && r->text[name + i] != '_') return refuse(r, "this property");
    if (n - negated <= 2) return copy(r, name + n + 1 - r->at);
    DS_TRY(copy(r, 3 + negated));
    DS_TRY(emit(r, "sc:"));
    return copy(r, n - negated + 1);
}

/* \uHHHH */
static ds_status code_point(struct reader *r) {
    for (size_t i = 2; i < 6; i++)
        if (!is_hex(peek(r, i))) return refuse(r, "\\u without four hexadecimal digits");
    r->at += 2;
    DS_TRY(emit(r, "\\x{"));
    DS_TRY(copy(r, 4));
    return emit(r, "}");
}

/* \xHH below 80, and \x{H..}. From 80 on Oniguruma's \xHH is a raw byte. */
static ds_status hex(struct reader *r) {
    if (peek(r, 2) == '{') {
        size_t n = 3;
        while (is_hex(peek(r, n))) n++;
        if (n == 3 || n > 9 || peek(r, n) != '}') return refuse(r, "this \\x");
        return copy(r, n + 1);
    }
    if (!is_digit(peek(r, 2)) || peek(r, 2) > '7' || !is_hex(peek(r, 3))) return refuse(r, "this \\x");
    return copy(r, 4);
}

static ds_status escape(struct reader *r) {
    const char c = peek(r, 1);
    switch (c) {
    case 's':
        return class_escape(r, SPACE, false);
    case 'S':
        return r->in_class ? class_escape(r, NOT_SPACE, false) : class_escape(r, SPACE, true);
    case 'w':
        return class_escape(r, r->in_class ? WORD : LONE_WORD, false);
    case 'W':
        return r->in_class ? refuse(r, "\\W in a class") : class_escape(r, LONE_WORD, true);
    case 'd':
    case 'D':
    case 'n':
    case 'r':
    case 't':
    case 'f':
    case 'a':
    case 'e':
        return copy(r, 2);
    case 'A':
    case 'z':
        return r->in_class ? refuse(r, "an anchor in a class") : copy(r, 2);
    case 'v':
        r->at += 2;
        return emit(r, "\\x0B");
    case 'p':
    case 'P':
        return property(r);
    case 'u':
        return code_point(r);
    case 'x':
        return hex(r);
    default:
        break;
    }
    if (r->length - r->at < 2) return refuse(r, "a '\\' at the end");
    if (is_letter(c) || is_digit(c)) return refuse(r, "this escape");
    return copy(r, 2); /* escaped punctuation, or the first byte of an escaped character */
}

static ds_status character_class(struct reader *r) {
    r->in_class = true;
    DS_TRY(copy(r, peek(r, 1) == '^' ? 2 : 1));
    if (peek(r, 0) == ']') return refuse(r, "']' right after '['");
    while (r->at < r->length && peek(r, 0) != ']') {
        if (peek(r, 0) == '[') return refuse(r, "a class inside a class");
        if (starts(r, "&&")) return refuse(r, "an intersection of classes");
        DS_TRY(peek(r, 0) == '\\' ? escape(r) : copy(r, 1));
    }
    if (r->at == r->length) return ds_fail(r->err, DS_ERROR_FORMAT, "a class has no closing ']'");
    r->in_class = false;
    return copy(r, 1);
}

static ds_status group(struct reader *r) {
    static const char *const known[] = {"(?:", "(?=", "(?!", "(?<=", "(?<!", "(?>", "(?i:", "(?i)", "(?-i:"};
    if (starts(r, "(*")) return refuse(r, "this group");
    if (!starts(r, "(?")) { /* nothing refers to captures */
        r->at++;
        return emit(r, "(?:");
    }
    for (size_t i = 0; i < DS_COUNT(known); i++)
        if (starts(r, known[i])) return copy(r, strlen(known[i]));
    return refuse(r, "this group");
}

/* {n}, {n,} and {n,m}; any other '{' is a plain character in both languages. */
static ds_status repetition(struct reader *r) {
    size_t n = 1;
    while (is_digit(peek(r, n)) || peek(r, n) == ',') n++;
    if (n == 1 || peek(r, n) != '}') {
        DS_TRY(emit(r, "\\"));
        return copy(r, 1);
    }
    if (!is_digit(peek(r, 1))) return refuse(r, "a repetition without its lower bound");
    if (peek(r, n + 1) == '+') return refuse(r, "'+' behind a repetition"); /* Ruby: once more, greedy; PCRE2: possessive */
    return copy(r, n + 1);
}

ds_status ds_regex_translate(const char *pattern, size_t length, struct ds_buffer *out, struct ds_error *err) {
    struct reader r = {.text = pattern, .length = length, .out = out, .err = err};
    while (r.at < length) {
        switch (pattern[r.at]) {
        case '\\':
            DS_TRY(escape(&r));
            break;
        case '[':
            DS_TRY(character_class(&r));
            break;
        case '(':
            DS_TRY(group(&r));
            break;
        case '{':
            DS_TRY(repetition(&r));
            break;
        default:
            DS_TRY(copy(&r, 1));
            break;
        }
    }
    return DS_OK;
}
