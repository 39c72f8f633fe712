#!/usr/bin/env python3
"""validated.py COMMAND [ARGUMENT...]: runs it under Vulkan's validation layer, synchronisation included, and fails if the layer has anything to say.

Exit 77 where the command finds no device, as it does where the layer is not installed."""
import os
import subprocess
import sys

LAYER = {"VK_INSTANCE_LAYERS": "VK_LAYER_KHRONOS_validation", "VK_LAYER_ENABLES": "VK_VALIDATION_FEATURE_ENABLE_SYNCHRONIZATION_VALIDATION_EXT"}
WORDS = "VUID-", "UNASSIGNED-", "SYNC-HAZARD", "Validation Error", "Validation Warning"


def main():
    run = subprocess.run(sys.argv[1:], env={**os.environ, **LAYER}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    said = [line for line in run.stdout.splitlines() if any(word in line for word in WORDS)]
    print("\n".join(said[:20] or run.stdout.splitlines()[-20:]))
    if said:
        sys.exit(f"the validation layer said {len(said)} things of {' '.join(sys.argv[1:])}")
    sys.exit(run.returncode)


if __name__ == "__main__":
    main()
