/* tokenizer.json from a stranger: parsed, and if it is one, used. A document and its configuration are divided by a NUL byte.
 */
#include "text/chat.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void use(const struct ds_tokenizer *tokenizer, const char *text, size_t length) {
    struct ds_ids ids = {0};
    struct ds_error err;
    char *decoded;
    size_t n;
    if (ds_tokenizer_encode(tokenizer, text, length, true, &ids, &err) == DS_OK) {
        for (size_t i = 0; i < ids.count; i++)
            if (ids.ids[i] < 0 || (uint32_t)ids.ids[i] >= ds_tokenizer_count(tokenizer)) abort();
        if (ds_tokenizer_decode(tokenizer, ids.ids, ids.count, false, &decoded, &n, &err) == DS_OK) free(decoded);
    }
    free(ids.ids);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char text[] =
        "The 3 small caf\xC3\xA9s <|im_start|> cost 1234 \xE4\xBD\xA0\xE5\xA5\xBD\n\n  e\xCC\x81 \xFF don't";
    const char *json = size ? (const char *)data : "";
    const char *nul = size ? memchr(json, '\0', size) : NULL;
    const size_t length = nul ? (size_t)(nul - json) : size;
    struct ds_tokenizer *tokenizer;
    struct ds_error err;
    if (ds_tokenizer_parse_json("fuzz", json, length, nul ? nul + 1 : NULL, nul ? size - length - 1 : 0, &tokenizer, &err) !=
        DS_OK)
        return 0;
    use(tokenizer, text, sizeof text - 1);
    use(tokenizer, json, length < 512 ? length : 512);
    const struct ds_chat_template *chat = ds_chat_recognise(tokenizer);
    struct ds_ids ids = {0};
    const ds_message message = {.role = "user", .content = text, .length = sizeof text - 1};
    if (chat) (void)ds_chat_encode(chat, tokenizer, &message, 1, &ids, &err);
    free(ids.ids);
    ds_tokenizer_close(tokenizer);
    return 0;
}
