/* A manifest, a signature: what is read can be written, and nothing else happens. */
#include "ckpt/manifest.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct ds_manifest manifest;
    struct ds_signature signature;
    struct ds_error err = {0};
    if (ds_manifest_parse((const char *)data, size, &manifest, &err) == DS_OK) {
        char *text;
        size_t length;
        if (ds_manifest_text(&manifest, &text, &length, &err) != DS_OK || length != size || memcmp(text, data, size) != 0) abort();
        free(text);
        ds_manifest_free(&manifest);
    } else if (err.message[0] == '\0' || manifest.files) {
        abort();
    }
    (void)ds_signature_parse((const char *)data, size, &signature, &err);
    return 0;
}
