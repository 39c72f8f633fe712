/*
 * The alphabet of byte-level BPE (GPT-2): every byte is written as one printable character, so that a vocabulary is
 * valid text. Printable Latin-1 stands for itself; the 68 other bytes are U+0100, U+0101, .. in order of their value.
 */
#ifndef DSPARK_TEXT_BYTE_ALPHABET_H
#define DSPARK_TEXT_BYTE_ALPHABET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The character (1 or 2 bytes of UTF-8) a byte is written as; returns its length. */
size_t ds_byte_alphabet_encode(uint8_t byte, char out[2]);

/*
 * Translates `n` bytes of valid UTF-8 in the alphabet to the bytes they stand for; `out` has room for n bytes. False
 * when a character does not belong to the alphabet: the text then stands for itself (as an added token may).
 */
bool ds_byte_alphabet_decode(const char *text, size_t n, char *out, size_t *length);

#endif
