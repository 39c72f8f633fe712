#include "text/known_pre.h"

#include <stdio.h>
#include <string.h>

/* What several patterns share: words with the character before them, runs of other characters, line ends, blanks. */
#define CONTRACTIONS "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define BLANKS "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

#define QWEN2 CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|" BLANKS
/* Qwen 2's with marks beside letters. */
#define QWEN35 CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|" BLANKS
/* Qwen 2's with numbers of up to three digits. */
#define LLAMA3 CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|" BLANKS

#define ASCII_PUNCTUATION "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~]"
#define DEEPSEEK3 ASCII_PUNCTUATION "[A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*|" BLANKS

/* Hiragana, katakana and the CJK ideographs of Unicode 1; with Hangul and much between in the older models. */
#define CJK_KANA "[\\x{4E00}-\\x{9FA5}\\x{3040}-\\x{309F}\\x{30A0}-\\x{30FF}]+"
#define CJK_OLD "[\\x{4E00}-\\x{9FA5}\\x{0800}-\\x{4E00}\\x{AC00}-\\x{D7FF}]+"

/* Letters of scripts with case, as DeepSeek LLM's tokenizer lists them. */
#define CASED_LETTERS                                                                                                          \
    "A-Za-z\\x{00B5}\\x{00C0}-\\x{00D6}\\x{00D8}-\\x{00F6}\\x{00F8}-\\x{01BA}\\x{01BC}-\\x{01BF}\\x{01C4}-\\x{0293}"           \
    "\\x{0295}-\\x{02AF}\\x{0370}-\\x{0373}\\x{0376}\\x{0377}\\x{037B}-\\x{037D}\\x{037F}\\x{0386}\\x{0388}-\\x{038A}"         \
    "\\x{038C}\\x{038E}-\\x{03A1}\\x{03A3}-\\x{03F5}\\x{03F7}-\\x{0481}\\x{048A}-\\x{052F}\\x{0531}-\\x{0556}"                 \
    "\\x{10A0}-\\x{10C5}\\x{13A0}-\\x{13F5}\\x{13F8}-\\x{13FD}\\x{1C90}-\\x{1CBA}\\x{1CBD}-\\x{1CBF}"                          \
    "\\x{1D00}-\\x{1D2B}\\x{1D6B}-\\x{1D77}\\x{1D79}-\\x{1D9A}\\x{1E00}-\\x{1F15}\\x{1F18}-\\x{1F1D}"                          \
    "\\x{1F20}-\\x{1F45}\\x{1F48}-\\x{1F4D}\\x{1F50}-\\x{1F57}\\x{1F59}\\x{1F5B}\\x{1F5D}\\x{1F5F}-\\x{1F7D}"                  \
    "\\x{1F80}-\\x{1FB4}\\x{1FB6}-\\x{1FBC}\\x{1FBE}\\x{1FC2}-\\x{1FC4}\\x{1FC6}-\\x{1FCC}\\x{1FD0}-\\x{1FD3}"                 \
    "\\x{1FD6}-\\x{1FDB}\\x{1FE0}-\\x{1FEC}\\x{1FF2}-\\x{1FF4}\\x{1FF6}-\\x{1FFC}\\x{2102}\\x{2107}"                           \
    "\\x{210A}-\\x{2113}\\x{2115}\\x{2119}-\\x{211D}\\x{2124}\\x{2126}\\x{2128}\\x{212A}-\\x{212D}\\x{212F}-\\x{2134}"         \
    "\\x{2139}\\x{213C}-\\x{213F}\\x{2145}-\\x{2149}\\x{214E}\\x{2183}\\x{2184}\\x{2C00}-\\x{2C7B}\\x{2C7E}-\\x{2CE4}"         \
    "\\x{2CEB}-\\x{2CEE}\\x{2CF2}\\x{2CF3}\\x{A640}-\\x{A66D}\\x{A680}-\\x{A69B}\\x{A722}-\\x{A76F}"                           \
    "\\x{A771}-\\x{A787}\\x{A78B}-\\x{A78E}\\x{AB70}-\\x{ABBF}\\x{FB00}-\\x{FB06}\\x{FB13}-\\x{FB17}"                          \
    "\\x{FF21}-\\x{FF3A}\\x{FF41}-\\x{FF5A}\\x{10400}-\\x{1044F}\\x{104B0}-\\x{104D3}\\x{104D8}-\\x{104FB}"                    \
    "\\x{10C80}-\\x{10CB2}\\x{10CC0}-\\x{10CF2}\\x{118A0}-\\x{118DF}\\x{1E900}-\\x{1E943}"

static const struct ds_known_pre table[] = {
    {.names = {"gpt-2"}, .patterns = {ds_gpt2_pattern}},
    {.names = {"qwen2", "deepseek-r1-qwen"}, .patterns = {QWEN2}, .form = DS_NORMAL_NFC},
    {.names = {"qwen35"}, .patterns = {QWEN35}, .form = DS_NORMAL_NFC},
    {.names = {"llama-bpe", "llama3", "llama-v3"}, .patterns = {LLAMA3}, .whole_words = true, .adds_bos = true},
    {.names = {"deepseek-llm"},
     .patterns = {"[\\r\\n]", "\\s?[" CASED_LETTERS "]+",
                  "\\s?[!-/:-~\\x{FF01}-\\x{FF0F}\\x{FF1A}-\\x{FF5E}\\x{2018}-\\x{201F}\\x{3000}-\\x{3002}]+", "\\s+$", CJK_OLD,
                  "\\p{N}"}},
    {.names = {"deepseek-coder"}, .patterns = {"[\\r\\n]", "\\s?\\p{L}+", "\\s?\\p{P}+", CJK_OLD, "\\p{N}"}},
    {.names = {"deepseek-v3"}, .patterns = {"\\p{N}{1,3}", CJK_KANA, DEEPSEEK3}},
};

void ds_known_pre_list(char *out, size_t size) {
    size_t n = 0;
    out[0] = '\0';
    for (size_t i = 0; i < DS_COUNT(table) && n < size; i++)
        n += (size_t)snprintf(out + n, size - n, "%s%s", i ? ", " : "", table[i].names[0]);
}

const struct ds_known_pre *ds_known_pre_find(const char *name) {
    for (size_t i = 0; i < DS_COUNT(table); i++)
        for (size_t k = 0; k < DS_COUNT(table[i].names) && table[i].names[k]; k++)
            if (strcmp(table[i].names[k], name) == 0) return &table[i];
    return NULL;
}

static bool same_patterns(const struct ds_known_pre *pre, const struct ds_text *patterns, size_t count) {
    size_t n = 0;
    while (n < DS_COUNT(pre->patterns) && pre->patterns[n]) n++;
    if (n != count) return false;
    for (size_t i = 0; i < n; i++) {
        if (strlen(pre->patterns[i]) != patterns[i].length) return false;
        if (memcmp(pre->patterns[i], patterns[i].data, patterns[i].length) != 0) return false;
    }
    return true;
}

const struct ds_known_pre *ds_known_pre_match(const struct ds_text *patterns, size_t count, ds_normal_form form, bool whole_words) {
    for (size_t i = 0; i < DS_COUNT(table); i++)
        if (table[i].form == form && table[i].whole_words == whole_words && same_patterns(&table[i], patterns, count)) return &table[i];
    return NULL;
}
