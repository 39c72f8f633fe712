/* Writing a conversation as a template puts it. */
#include "text/buffer.h"
#include "text/chat_internal.h"
#include "text/tokenizer_internal.h"

#include <string.h>

enum { MAX_CONTROLS = 32 };

struct writer {
    const struct ds_chat_template *chat;
    const struct ds_tokenizer *tokenizer;
    int32_t controls[MAX_CONTROLS]; /* never made from plain text, whatever flags they have in the file */
    size_t n_controls;
    struct ds_buffer plain; /* waits until a control token or the end comes */
    struct ds_ids *out;
};

static ds_status flush(struct writer *writer, struct ds_error *err) {
    const struct ds_added_filter filter = {.refused = writer->controls, .n_refused = writer->n_controls};
    const size_t length = writer->plain.length;
    writer->plain.length = 0;
    if (length == 0) return DS_OK;
    return ds_tokenizer_encode_filtered(writer->tokenizer, writer->plain.data, length, filter, writer->out, err);
}

/* The control token in braces at `*at`, which moves behind it. */
static ds_status find_control(const struct writer *writer, const char **at, int32_t *id, struct ds_error *err) {
    char name[64];
    const char *end = strchr(*at, '}');
    const size_t length = (size_t)(end - *at) - 1;
    memcpy(name, *at + 1, length);
    name[length] = '\0';
    *at = end + 1;
    if (strcmp(name, "bos") == 0) *id = ds_tokenizer_bos(writer->tokenizer);
    else if (strcmp(name, "eos") == 0) *id = ds_tokenizer_eos(writer->tokenizer);
    else *id = ds_tokenizer_find(writer->tokenizer, name);
    if (*id >= 0) return DS_OK;
    return ds_fail(err, DS_ERROR_FORMAT, "the chat template \"%s\" needs the token %s, which the vocabulary lacks",
                   writer->chat->name, name);
}

static ds_status collect_from(struct writer *writer, const char *part, struct ds_error *err) {
    for (const char *at = part; at && (at = strchr(at, '{'));) {
        int32_t id;
        DS_TRY(find_control(writer, &at, &id, err));
        if (writer->n_controls < MAX_CONTROLS) writer->controls[writer->n_controls++] = id;
    }
    return DS_OK;
}

static ds_status collect_controls(struct writer *writer, struct ds_error *err) {
    DS_TRY(collect_from(writer, writer->chat->start, err));
    for (size_t i = 0; i < DS_CHAT_ROLES; i++) {
        DS_TRY(collect_from(writer, writer->chat->roles[i].before, err));
        DS_TRY(collect_from(writer, writer->chat->roles[i].behind, err));
    }
    return collect_from(writer, writer->chat->answer, err);
}

static ds_status write_part(struct writer *writer, const char *part, struct ds_error *err) {
    while (part && *part) {
        if (*part == '{') {
            int32_t id;
            DS_TRY(find_control(writer, &part, &id, err));
            DS_TRY(flush(writer, err));
            DS_TRY(ds_ids_push(writer->out, id, err));
        } else {
            DS_TRY(ds_buffer_append(&writer->plain, part++, 1, err));
        }
    }
    return DS_OK;
}

static bool is_white(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

static struct ds_text trimmed(struct ds_text text) {
    while (text.length && is_white(text.data[0])) text = (struct ds_text){text.data + 1, text.length - 1};
    while (text.length && is_white(text.data[text.length - 1])) text.length--;
    return text;
}

/* `system` is put in front of the content where a template has no place of its own for it. */
static ds_status write_message(struct writer *writer, const struct ds_chat_role *role, const struct ds_text *system, struct ds_text content,
                               struct ds_error *err) {
    if (role->trim) content = trimmed(content);
    DS_TRY(write_part(writer, role->before, err));
    if (system) {
        DS_TRY(ds_buffer_append(&writer->plain, system->data, system->length, err));
        DS_TRY(ds_buffer_append(&writer->plain, "\n\n", 2, err));
    }
    DS_TRY(ds_buffer_append(&writer->plain, content.data, content.length, err));
    return write_part(writer, role->behind, err);
}

/* What is left of an answer behind the last end of its thoughts. */
static struct ds_text without_thoughts(struct ds_text content, const char *mark) {
    const size_t n = strlen(mark);
    for (size_t i = content.length; i >= n; i--) {
        if (memcmp(content.data + i - n, mark, n) != 0) continue;
        content = (struct ds_text){content.data + i, content.length - i};
        while (content.length && *content.data == '\n') content = (struct ds_text){content.data + 1, content.length - 1};
        break;
    }
    return content;
}

static const struct ds_chat_role *find_role(const struct ds_chat_template *chat, const char *name) {
    for (size_t i = 0; name && i < DS_CHAT_ROLES; i++)
        if (chat->roles[i].name && strcmp(chat->roles[i].name, name) == 0) return &chat->roles[i];
    return NULL;
}

/* How many messages at the beginning are a system message without a place of its own: 0 or 1. */
static size_t count_prefix(const struct ds_chat_template *chat, const ds_message *messages, size_t count) {
    const bool elsewhere = chat->system == DS_CHAT_SYSTEM_FIRST_USER || chat->system == DS_CHAT_SYSTEM_LAST_USER;
    return elsewhere && count > 0 && messages[0].role && strcmp(messages[0].role, "system") == 0;
}

static ds_status check_roles(const struct ds_chat_template *chat, const ds_message *messages, size_t first, size_t count, struct ds_error *err) {
    for (size_t i = first; i < count; i++) {
        const char *role = messages[i].role, *expected = (i - first) % 2 ? "assistant" : "user";
        if (!find_role(chat, role))
            return ds_fail(err, DS_ERROR_ARGUMENT, "message %zu: the chat template \"%s\" has no role \"%.40s\"%s", i, chat->name, role ? role : "(null)",
                           first < i && chat->system != DS_CHAT_SYSTEM_OWN ? " here" : "");
        if (chat->alternate && strcmp(role, expected) != 0)
            return ds_fail(err, DS_ERROR_ARGUMENT, "message %zu: with the chat template \"%s\" user and assistant take turns, beginning with the user: expected \"%s\", "
                           "found \"%s\"", i, chat->name, expected, role);
    }
    return DS_OK;
}

static bool takes_system(const struct ds_chat_template *chat, size_t index, size_t first, size_t count) {
    return first > 0 && index == (chat->system == DS_CHAT_SYSTEM_FIRST_USER ? first : count - 1);
}

static ds_status write_all(struct writer *writer, const ds_message *messages, size_t count, struct ds_error *err) {
    const struct ds_chat_template *chat = writer->chat;
    const size_t first = count_prefix(chat, messages, count);
    const struct ds_text system = first ? (struct ds_text){messages[0].content, messages[0].length} : (struct ds_text){0};
    size_t last_question = 0;
    DS_TRY(check_roles(chat, messages, first, count, err));
    for (size_t i = first; i < count; i++)
        if (strcmp(messages[i].role, "user") == 0) last_question = i;
    DS_TRY(collect_controls(writer, err));
    DS_TRY(write_part(writer, chat->start, err));
    if (chat->default_system && (count == 0 || strcmp(messages[0].role, "system") != 0))
        DS_TRY(write_message(writer, find_role(chat, "system"), NULL, (struct ds_text){chat->default_system, strlen(chat->default_system)}, err));
    for (size_t i = first; i < count; i++) {
        const struct ds_chat_role *role = find_role(chat, messages[i].role);
        struct ds_text content = {messages[i].content, messages[i].length};
        if (chat->thinking_end && i < last_question && strcmp(role->name, "assistant") == 0) content = without_thoughts(content, chat->thinking_end);
        const bool with_system = takes_system(chat, i, first, count) && strcmp(role->name, "user") == 0;
        DS_TRY(write_message(writer, role, with_system ? &system : NULL, content, err));
    }
    DS_TRY(write_part(writer, chat->answer, err));
    return flush(writer, err);
}

ds_status ds_chat_encode(const struct ds_chat_template *chat, const struct ds_tokenizer *tokenizer, const ds_message *messages,
                         size_t count, struct ds_ids *out, struct ds_error *err) {
    const size_t before = out->count;
    struct writer writer = {.chat = chat, .tokenizer = tokenizer, .out = out};
    const ds_status status = write_all(&writer, messages, count, err);
    if (status != DS_OK) out->count = before;
    free(writer.plain.data);
    return status;
}
