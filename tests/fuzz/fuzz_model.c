/* Targets, alone or with a drafter, as fuzz_model.h describes them. */
#include "fuzz_model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) { return run_models(data, size); }
