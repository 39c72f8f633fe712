/* The templates we know, and how their Jinja texts are told apart: by what they write, never by a file's name. */
#include "text/chat_internal.h"
#include "text/tokenizer_internal.h"

#include <stdio.h>
#include <string.h>

#define CHATML_ROLE(role) {role, "{<|im_start|>}" role "\n", "{<|im_end|>}\n", false}
#define CHATML .roles = {CHATML_ROLE("system"), CHATML_ROLE("user"), CHATML_ROLE("assistant")}
#define CHATML_ANSWER "{<|im_start|>}assistant\n"
#define CHATML_MARKS "<|im_start|>", "<|im_end|>"
#define QWEN25_SYSTEM "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
#define QWEN2_SYSTEM "You are a helpful assistant."

#define LLAMA_ROLE(role, text) {role, "{<|start_header_id|>}" role "{<|end_header_id|>}\n\n" text, "{<|eot_id|>}", true}
#define LLAMA_MARKS "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"
#define LLAMA_ANSWER "{<|start_header_id|>}assistant{<|end_header_id|>}\n\n"
/* The template's own day, so that a prompt does not change from day to day; llama 3.2's takes today where it is told. */
#define LLAMA_DATES "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n"

#define GEMMA_ROLE(role, name) {role, "{<start_of_turn>}" name "\n", "{<end_of_turn>}\n", true}
#define GEMMA_MARKS "<start_of_turn>", "<end_of_turn>"
#define GEMMA4_ROLE(role, name, text) {role, "{<|turn>}" name "\n" text, "{<turn|>}\n", true}

/* Signs of what no ChatML template here does: a begin token, changed contents, a system message kept in a variable. */
#define FOREIGN "bos_token", "system_message", "default_system"

/* The first that fits. Templates of later Qwens that open the answer with a thought are not "qwen3". */
static const struct ds_chat_template templates[] = {
    {.name = "qwen3", .marks = {CHATML_MARKS, "enable_thinking", "</think>"}, .foreign = {FOREIGN, "'<think>\\n' }}", "assistant\\n<think>"}, CHATML, .answer = CHATML_ANSWER,
     .thinking_end = "</think>"},
    {.name = "qwen3-nothink", CHATML, .answer = CHATML_ANSWER "{<think>}\n\n{</think>}\n\n", .thinking_end = "</think>"},
    {.name = "qwen2.5", .marks = {CHATML_MARKS}, .foreign = {FOREIGN}, CHATML, .answer = CHATML_ANSWER, .system_literal = QWEN25_SYSTEM,
     .default_system = QWEN25_SYSTEM},
    {.name = "qwen2", .marks = {CHATML_MARKS}, .foreign = {FOREIGN}, CHATML, .answer = CHATML_ANSWER, .system_literal = QWEN2_SYSTEM,
     .default_system = QWEN2_SYSTEM},
    {.name = "chatml", .marks = {CHATML_MARKS}, .foreign = {FOREIGN, "You are", "trim", "strip", "think"}, CHATML, .answer = CHATML_ANSWER},
    {.name = "llama3.1", .marks = {LLAMA_MARKS, "Cutting Knowledge Date: December 2023", "26 Jul 2024"}, .foreign = {"You are a", "default_system", "think>"},
     .start = "{bos}", .roles = {LLAMA_ROLE("system", LLAMA_DATES), LLAMA_ROLE("user", ""), LLAMA_ROLE("assistant", "")}, .answer = LLAMA_ANSWER,
     .default_system = ""},
    {.name = "llama3", .marks = {LLAMA_MARKS, "bos_token", "trim"}, .foreign = {"Cutting Knowledge", "You are", "system_message", "default_system", "think>"},
     .start = "{bos}", .roles = {LLAMA_ROLE("system", ""), LLAMA_ROLE("user", ""), LLAMA_ROLE("assistant", "")}, .answer = LLAMA_ANSWER},
    {.name = "mistral-v7", .marks = {"[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[INST]", "[/INST]"},
     .foreign = {"default_system_message", "[SYSTEM_PROMPT] ", "[INST] ", "[/INST] ", "trim", "[THINK]"}, .start = "{bos}",
     .roles = {{"system", "{[SYSTEM_PROMPT]}", "{[/SYSTEM_PROMPT]}", false}, {"user", "{[INST]}", "{[/INST]}", false}, {"assistant", "", "{eos}", false}},
     .answer = ""},
    {.name = "mistral-nemo", .marks = {"bos_token", "\"[INST]\" + ", "+ \"[/INST]\"", "loop.last and system_message", "message[\"content\"] + eos_token"},
     .foreign = {"[SYSTEM_PROMPT]", "\"[INST] \"", "|trim", "default_system"}, .start = "{bos}",
     .roles = {{NULL}, {"user", "{[INST]}", "{[/INST]}", false}, {"assistant", "", "{eos}", false}}, .system = DS_CHAT_SYSTEM_LAST_USER, .answer = "",
     .alternate = true},
    {.name = "mistral-v3", .marks = {"bos_token", "\"[INST] \" + ", "+ \"[/INST]\"", "loop.last and system_message", "\" \" + message[\"content\"]|trim + eos_token"},
     .foreign = {"[SYSTEM_PROMPT]", "\"[INST]\"", "default_system"}, .start = "{bos}",
     .roles = {{NULL}, {"user", "{[INST]} ", "{[/INST]}", false}, {"assistant", " ", "{eos}", true}}, .system = DS_CHAT_SYSTEM_LAST_USER, .answer = "",
     .alternate = true},
    {.name = "gemma3", .marks = {GEMMA_MARKS, "first_user_prefix", "bos_token"}, .foreign = {"System role not supported", "default_system", "tools"},
     .start = "{bos}", .roles = {{NULL}, GEMMA_ROLE("user", "user"), GEMMA_ROLE("assistant", "model")}, .system = DS_CHAT_SYSTEM_FIRST_USER,
     .answer = "{<start_of_turn>}model\n", .alternate = true},
    {.name = "gemma2", .marks = {GEMMA_MARKS, "System role not supported", "bos_token"}, .foreign = {"first_user_prefix"}, .start = "{bos}",
     .roles = {{NULL}, GEMMA_ROLE("user", "user"), GEMMA_ROLE("assistant", "model")}, .system = DS_CHAT_SYSTEM_NONE,
     .answer = "{<start_of_turn>}model\n", .alternate = true},
    {.name = "gemma4", .marks = {"<|turn>", "<turn|>", "enable_thinking", "<|channel>thought\\n<channel|>"}, .foreign = {"default_system"}, .start = "{bos}",
     .roles = {GEMMA4_ROLE("system", "system", ""), GEMMA4_ROLE("user", "user", ""), GEMMA4_ROLE("assistant", "model", "")},
     .answer = "{<|turn>}model\n{<|channel>}thought\n{<channel|>}"},
    {.name = "gemma4-small", .marks = {"<|turn>", "<turn|>", "enable_thinking"}, .foreign = {"default_system", "<|channel>thought\\n<channel|>"}, .start = "{bos}",
     .roles = {GEMMA4_ROLE("system", "system", ""), GEMMA4_ROLE("user", "user", ""), GEMMA4_ROLE("assistant", "model", "")}, .answer = "{<|turn>}model\n"},
    {.name = "gemma4-think", .start = "{bos}", .default_system = "",
     .roles = {GEMMA4_ROLE("system", "system", "{<|think|>}\n"), GEMMA4_ROLE("user", "user", ""), GEMMA4_ROLE("assistant", "model", "")},
     .answer = "{<|turn>}model\n"},
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
    if (!chat->marks[0]) return false;
    for (size_t i = 0; i < DS_CHAT_MARKS && chat->marks[i]; i++)
        if (!strstr(jinja, chat->marks[i])) return false;
    for (size_t i = 0; i < DS_CHAT_FOREIGN && chat->foreign[i]; i++)
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

const char *ds_chat_name(const struct ds_chat_template *chat) { return chat->name; }

void ds_chat_list(char *out, size_t size) {
    size_t n = 0;
    out[0] = '\0';
    for (size_t i = 0; i < DS_COUNT(templates) && n < size; i++) n += (size_t)snprintf(out + n, size - n, "%s%s", i ? ", " : "", templates[i].name);
}
