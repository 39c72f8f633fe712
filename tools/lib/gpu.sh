# shellcheck shell=bash disable=SC2034,SC2154
# The modules for GPUs, compiled for every architecture they are made for, on a machine that needs no GPU. Sourced by tools/test, whose `builds`, `count`
# and `skipped` it uses. Without nvcc it is skipped; where hipcc is found, the build with gcc has compiled the HIP module for AMD.

gpu_compiled() {
    local what=$1 name=$2 started=$SECONDS status=0
    shift 2
    "$@" >"$builds/$name.log" 2>&1 || status=1
    if [ $status -ne 0 ]; then grep -E -A 12 'error|FAILED|ERROR' "$builds/$name.log" | head -n 60; fi
    count "$what without a warning; a machine without such a GPU says so and goes on ($((SECONDS - started)) s)" $status
}

test_gpu_modules() {
    if command -v nvcc >/dev/null || [ -x /usr/local/cuda/bin/nvcc ]; then
        gpu_compiled "nvcc compiles the CUDA module, and the HIP module, for 7.5 to 12.0" gpu tests/gpu/compile "$builds/gpu" "" "$builds/gcc/tools/dspark"
    else
        echo "skipped: there is no nvcc"
        skipped=$((skipped + 1))
    fi
}
