#include "text/chat.h"
#include "text/buffer.h"
#include "text/tokenizer_internal.h"

#include <string.h>

/*
 * A template is what stands before and behind a message's content and before the answer. "%r" is the role. Texts between
 * '{' and '}' are control tokens; all else is plain text, joined with the content before it is tokenised, as the
 * reference does it: the line end before a content may become one token with those the content begins with.
 */
struct ds_chat_template {
    const char *name;
    const char *marks[4];       /* all of these stand in the Jinja text ... */
    const char *foreign[8];     /* ... and none of these, which change what is written */
    const char *system_literal; /* what follows "<|im_start|>system\n" in the Jinja text; NULL: no text of its own */
    const char *roles[4];
    const char *before, *behind, *answer;
    const char *default_system; /* content of a system message where the conversation begins without one; NULL: none is added */
    const char *thinking_end;   /* answers before the last question lose their text up to this mark; NULL: they keep it */
};

#define CHATML                                                                                                                 \
    .roles = {"system", "user", "assistant"}, .before = "{<|im_start|>}%r\n", .behind = "{<|im_end|>}\n",                      \
    .answer = "{<|im_start|>}assistant\n"
#define CHATML_MARKS "<|im_start|>", "<|im_end|>"
#define QWEN25_SYSTEM "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
#define QWEN2_SYSTEM "You are a helpful assistant."

/* Signs of what none of these does: a begin token, changed contents, a system message kept in a variable. */
#define FOREIGN "bos_token", "system_message", "default_system"

/* The first that fits. Templates of later Qwens that open the answer with a thought are not "qwen3". */
static const struct ds_chat_template templates[] = {
    {.name = "qwen3",
     .marks = {CHATML_MARKS, "enable_thinking", "</think>"},
     .foreign = {FOREIGN, "'<think>\\n' }}"},
     CHATML,
     .thinking_end = "</think>"},
    {.name = "qwen2.5",
     .marks = {CHATML_MARKS},
     .foreign = {FOREIGN},
     CHATML,
     .system_literal = QWEN25_SYSTEM,
     .default_system = QWEN25_SYSTEM},
    {.name = "qwen2",
     .marks = {CHATML_MARKS},
     .foreign = {FOREIGN},
     CHATML,
     .system_literal = QWEN2_SYSTEM,
     .default_system = QWEN2_SYSTEM},
    {.name = "chatml", .marks = {CHATML_MARKS}, .foreign = {FOREIGN, "You are", "trim", "strip", "think"}, CHATML},
};

/* --- recognition --- */

/* The text a template writes behind the opening of a system message by itself; empty when that is the end of a literal. */
static const char *literal_behind(const char *at) {
    if (strncmp(at, "\\n", 2) == 0)
        at += 2;
    else if (*at == '\n')
        at++;
    return *at == '\'' || *at == '"' || *at == '{' ? "" : at;
}

/* Every system message the template opens by itself goes on as this template's does; `expected` occurs at least once. */
static bool has_system_literal(const char *jinja, const char *expected) {
    static const char opening[] = "<|im_start|>system";
    bool found = !expected;
    for (const char *at = jinja; (at = strstr(at, opening)); at += sizeof opening - 1) {
        const char *literal = literal_behind(at + sizeof opening - 1);
        if (*literal == '\0') continue;
        if (!expected || strncmp(literal, expected, strlen(expected)) != 0) return false;
        const char after = literal[strlen(expected)];
        /* "<|im_end|>", or the line end before the list of tools, which is written only when there are tools */
        if (after != '<' && after != '\'' && after != '"' && after != '\\' && after != '\n') return false;
        found = true;
    }
    return found;
}

static bool fits(const struct ds_chat_template *chat, const char *jinja) {
    for (size_t i = 0; i < DS_COUNT(chat->marks) && chat->marks[i]; i++)
        if (!strstr(jinja, chat->marks[i])) return false;
    for (size_t i = 0; i < DS_COUNT(chat->foreign) && chat->foreign[i]; i++)
        if (strstr(jinja, chat->foreign[i])) return false;
    return has_system_literal(jinja, chat->system_literal);
}

const struct ds_chat_template *ds_chat_recognise(const struct ds_tokenizer *tokenizer) {
    const char *jinja = ds_tokenizer_chat_template(tokenizer);
    for (size_t i = 0; jinja && i < DS_COUNT(templates); i++)
        if (fits(&templates[i], jinja)) return &templates[i];
    return NULL;
}

const struct ds_chat_template *ds_chat_by_name(const char *name) {
    for (size_t i = 0; i < DS_COUNT(templates); i++)
        if (strcmp(templates[i].name, name) == 0) return &templates[i];
    return NULL;
}

const char *ds_chat_name(const struct ds_chat_template *chat) {
    return chat->name;
}

/* --- writing --- */

enum { MAX_CONTROLS = 8 };

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
    *id = ds_tokenizer_find(writer->tokenizer, name);
    if (*id >= 0) return DS_OK;
    return ds_fail(err, DS_ERROR_FORMAT, "the chat template \"%s\" needs the token %s, which the vocabulary lacks",
                   writer->chat->name, name);
}

static ds_status collect_controls(struct writer *writer, struct ds_error *err) {
    const char *const parts[] = {writer->chat->before, writer->chat->behind, writer->chat->answer};
    for (size_t i = 0; i < DS_COUNT(parts); i++) {
        for (const char *at = parts[i]; (at = strchr(at, '{'));) {
            int32_t id;
            DS_TRY(find_control(writer, &at, &id, err));
            if (writer->n_controls < MAX_CONTROLS) writer->controls[writer->n_controls++] = id;
        }
    }
    return DS_OK;
}

static ds_status write_part(struct writer *writer, const char *part, const char *role, struct ds_error *err) {
    while (*part) {
        if (*part == '{') {
            int32_t id;
            DS_TRY(find_control(writer, &part, &id, err));
            DS_TRY(flush(writer, err));
            DS_TRY(ds_ids_push(writer->out, id, err));
        } else if (strncmp(part, "%r", 2) == 0) {
            DS_TRY(ds_buffer_append(&writer->plain, role, strlen(role), err));
            part += 2;
        } else {
            DS_TRY(ds_buffer_append(&writer->plain, part++, 1, err));
        }
    }
    return DS_OK;
}

static ds_status write_message(struct writer *writer, const char *role, struct ds_text content, struct ds_error *err) {
    DS_TRY(write_part(writer, writer->chat->before, role, err));
    DS_TRY(ds_buffer_append(&writer->plain, content.data, content.length, err));
    return write_part(writer, writer->chat->behind, role, err);
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

static ds_status check_role(const struct ds_chat_template *chat, const char *role, size_t index, struct ds_error *err) {
    for (size_t i = 0; i < DS_COUNT(chat->roles) && chat->roles[i]; i++)
        if (role && strcmp(chat->roles[i], role) == 0) return DS_OK;
    return ds_fail(err, DS_ERROR_ARGUMENT, "message %zu: the chat template \"%s\" has no role \"%.40s\"", index, chat->name,
                   role ? role : "(null)");
}

static ds_status write_all(struct writer *writer, const ds_message *messages, size_t count, struct ds_error *err) {
    const struct ds_chat_template *chat = writer->chat;
    size_t last_question = 0;
    for (size_t i = 0; i < count; i++) {
        DS_TRY(check_role(chat, messages[i].role, i, err));
        if (strcmp(messages[i].role, "user") == 0) last_question = i;
    }
    DS_TRY(collect_controls(writer, err));
    if (chat->default_system && (count == 0 || strcmp(messages[0].role, "system") != 0))
        DS_TRY(write_message(writer, "system", (struct ds_text){chat->default_system, strlen(chat->default_system)}, err));
    for (size_t i = 0; i < count; i++) {
        struct ds_text content = {messages[i].content, messages[i].length};
        if (chat->thinking_end && i < last_question && strcmp(messages[i].role, "assistant") == 0)
            content = without_thoughts(content, chat->thinking_end);
        DS_TRY(write_message(writer, messages[i].role, content, err));
    }
    DS_TRY(write_part(writer, chat->answer, "assistant", err));
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
