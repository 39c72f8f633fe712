# shellcheck shell=bash
# What a build needs, and how to get it. Sourced by tools/demo and tools/test.
#
# A need is looked for as the build will use it (a command, a pkg-config module, a program that links), so that whatever provides it
# is fine. What is missing is installed with apt where there is apt, and named elsewhere.

heading() {
    printf '\n== %s\n' "$*"
}

links_fuzzers() {
    local out
    out=$(mktemp) || return 1
    # shellcheck disable=SC2016
    printf '#include <stddef.h>\nint LLVMFuzzerTestOneInput(const unsigned char *d, size_t n) { return d && n > 9999; }\n' |
        clang -fsanitize=fuzzer,address -x c -o "$out" - 2>/dev/null
    local status=$?
    rm -f "$out"
    return $status
}

compiles_c() {
    printf '#include <stdio.h>\n' | gcc -E -x c -o /dev/null - 2>/dev/null
}

# A Vulkan driver that needs no GPU, and the layer that watches how it is used.
has_software_vulkan() {
    ls /usr/share/vulkan/icd.d/lvp_icd.*json
}
has_validation() {
    ls /usr/share/vulkan/explicit_layer.d/VkLayer_khronos_validation.json
}

# need PACKAGE COMMAND...: adds the Debian package to `missing` unless the command succeeds
need() {
    local package=$1
    shift
    "$@" >/dev/null 2>&1 || missing+=("$package")
}

# The package with clang's sanitizer and fuzzer runtime has clang's version in its name.
fuzzer_package() {
    local version
    version=$(apt-cache depends clang 2>/dev/null | sed -n 's/.*Depends: clang-\([0-9][0-9]*\)$/\1/p' | head -n 1)
    echo "libclang-rt-${version:-14}-dev"
}

find_missing() {
    missing=()
    need gcc command -v gcc
    need libc6-dev compiles_c
    need meson command -v meson
    need ninja-build command -v ninja
    need pkg-config command -v pkg-config
    need python3 command -v python3
    need libjansson-dev pkg-config --exists jansson
    need libpcre2-dev pkg-config --exists libpcre2-8
    need libutf8proc-dev pkg-config --exists libutf8proc
    need libsodium-dev pkg-config --exists libsodium
    if [ "$1" = arm64 ]; then
        need gcc-aarch64-linux-gnu command -v aarch64-linux-gnu-gcc
        need libc6-dev-arm64-cross test -e /usr/aarch64-linux-gnu/include/stdio.h
        need qemu-user command -v qemu-aarch64
    fi
    [ "$1" = test ] || return 0
    need libcmocka-dev pkg-config --exists cmocka
    need libvulkan-dev pkg-config --exists vulkan
    need glslang-tools command -v glslangValidator
    need spirv-tools command -v spirv-val
    need mesa-vulkan-drivers has_software_vulkan
    need vulkan-validationlayers has_validation
    need clang command -v clang
    need "$(fuzzer_package)" links_fuzzers
}

# set_up build|test|arm64: makes sure that everything is there, or exits with 1 naming what is not
set_up() {
    local missing
    find_missing "$1"
    [ ${#missing[@]} -eq 0 ] && return 0

    heading "Missing: ${missing[*]}"
    local as_root=()
    if [ "$(id -u)" -ne 0 ]; then as_root=(sudo); fi
    if ! command -v apt-get >/dev/null || { [ ${#as_root[@]} -gt 0 ] && ! command -v sudo >/dev/null; }; then
        echo "Please install them (the names are Debian 12's), then start this again." >&2
        exit 1
    fi
    echo "They will be installed with: ${as_root[*]} apt-get install ${missing[*]}"
    if [ "${CI:-}" != true ] && [ -t 0 ] && [ -t 1 ]; then
        local answer
        read -r -p "Go on? [Y/n] " answer
        case $answer in [nN]*) exit 1 ;; esac
    fi
    "${as_root[@]}" apt-get update -qq || exit 1
    find_missing "$1" # now apt knows clang's version
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null || {
        echo "apt-get could not install them; its messages are above." >&2
        exit 1
    }
    find_missing "$1"
    if [ ${#missing[@]} -gt 0 ]; then
        echo "Installed, and still not usable: ${missing[*]}" >&2
        exit 1
    fi
}
