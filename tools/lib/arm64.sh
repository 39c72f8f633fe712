# shellcheck shell=bash disable=SC2034,SC2154
# Builds dspark for 64-bit Arm and runs it under qemu's user mode, on any machine. Sourced by tools/test, whose `builds`, `count`,
# `build` and `run` it uses. Where the cross compiler, the emulator or the libraries cannot be had, all of it is skipped.

arm64_libraries=(libcmocka0 libcmocka-dev libjansson4 libjansson-dev libpcre2-8-0 libpcre2-dev libsodium23 libsodium-dev libutf8proc2 libutf8proc-dev)
# what is built, and what of it is run
arm64_units=(cpu numerics os philox pool ref rope_tables)
# instruction set, a processor that has it and nothing better, how `dspark devices` calls it
arm64_processors=("i8mm max NEON with int8 matrix products" "dotprod cortex-a76 NEON with dot products" "neon cortex-a72 NEON")

# arm64_fetch FOLDER: Debian's arm64 libraries, unpacked into FOLDER. apt works on lists of its own there, so that neither root nor
# a foreign architecture in the system's package database is needed, and nothing outside of FOLDER changes.
arm64_fetch() {
    local folder apt
    mkdir -p "$1/lists/partial" "$1/cache/archives/partial" "$1/packages" || return 1
    folder=$(cd "$1" && pwd) || return 1
    [ -e "$folder/done" ] && return 0
    : >"$folder/status"
    apt=(apt-get -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o Dir::State="$folder" -o Dir::State::lists="$folder/lists"
        -o Dir::State::status="$folder/status" -o Dir::Cache="$folder/cache" -o APT::Sandbox::User= -o Acquire::Languages=none
        -o Acquire::Retries=3)
    "${apt[@]}" update -qq # a list that has nothing for arm64 does not matter; what is missing shows in the next step
    (cd "$folder/packages" && "${apt[@]}" download -qq "${arm64_libraries[@]}") || return 1
    for package in "$folder"/packages/*.deb; do dpkg-deb -x "$package" "$folder" || return 1; done
    touch "$folder/done"
}

# arm64_cross_file FOLDER: adds the libraries in FOLDER to tests/cross/aarch64-linux-gnu.ini
arm64_cross_file() {
    local folder
    folder=$(cd "$1" && pwd)
    cat <<END
[binaries]
exe_wrapper = ['qemu-aarch64', '-L', '/usr/aarch64-linux-gnu', '-E', 'LD_LIBRARY_PATH=$folder/usr/lib/aarch64-linux-gnu', '-cpu', 'max']
[properties]
sys_root = '$folder'
pkg_config_libdir = '$folder/usr/lib/aarch64-linux-gnu/pkgconfig'
END
}

arm64_prepare() {
    (set_up arm64) && arm64_fetch "$builds/arm64-libraries" >"$builds/arm64-libraries.log" 2>&1 || return 1
    arm64_cross_file "$builds/arm64-libraries" >"$builds/arm64.ini"
}

# arm64_run CPU ARGUMENT...: the program on an emulated processor
arm64_run() {
    local cpu=$1
    shift
    qemu-aarch64 -L /usr/aarch64-linux-gnu -E LD_LIBRARY_PATH="$(cd "$builds/arm64-libraries" && pwd)/usr/lib/aarch64-linux-gnu" -cpu "$cpu" \
        "$builds/arm64/tools/dspark" "$@"
}

# arm64_answers OUT COMMAND...: what a user gets, of each type of weights: logits bit for bit, and tokens drawn with a drafter
arm64_answers() {
    local out=$1 type
    shift
    mkdir -p "$out"
    for type in bf16 q8_0 q4_0 q4_k_m; do
        "$@" logits -m "$builds/arm64-models/$type.gguf" --tokens 1,77,300,5,9,1000,42,17,900,33,2,640 --rows all --hidden -o "$out/$type.safetensors" || return 1
    done
    "$@" run -m "$builds/arm64-models/q4_k_m.gguf" -d models/tiny/dspark -p "Tom reads 20 pages a day." -n 16 --temp 1 --seed 7 --json |
        python3 -c 'import json, sys; print(json.load(sys.stdin)["tokens"])' >"$out/tokens"
    [ -s "$out/tokens" ]
}

# The same file, prompt and seed give the same bits on this machine and on each kind of arm64 processor.
arm64_sameness() {
    local native=$builds/gcc/tools/dspark type isa cpu label status
    mkdir -p "$builds/arm64-models"
    : >"$builds/arm64-same.log"
    for type in bf16 q8_0 q4_0 q4_k_m; do
        "$native" convert models/tiny/target "$builds/arm64-models/$type.gguf" --type $type >>"$builds/arm64-same.log" 2>&1
    done
    arm64_answers "$builds/arm64-native" "$native" >>"$builds/arm64-same.log" 2>&1
    count "this machine answers" $?
    for processor in "${arm64_processors[@]}"; do
        read -r isa cpu label <<<"$processor"
        arm64_run "$cpu" devices | grep -q "^cpu .*  $label, [0-9]* thread"
        count "a $cpu is found to have $isa" $?
        status=0
        arm64_answers "$builds/arm64-$isa" arm64_run "$cpu" >>"$builds/arm64-same.log" 2>&1 || status=1
        diff -r "$builds/arm64-native" "$builds/arm64-$isa" || status=1
        count "$isa gives the logits and tokens of this machine" $status
    done
}

test_arm64() {
    if [ "$(uname -m)" = aarch64 ]; then
        echo "        this is such a machine: tested above"
    elif ! arm64_prepare; then
        tail -n 5 "$builds/arm64-libraries.log" 2>/dev/null
        echo "SKIPPED everything for arm64: no gcc-aarch64-linux-gnu, qemu-user, or Debian's arm64 libraries (${arm64_libraries[*]})"
        skipped=$((skipped + ${#arm64_units[@]} + 3 * ${#arm64_processors[@]}))
    else
        local targets=(tools/dspark tests/checkops/checkops "${arm64_units[@]/#/tests/unit/test_}")
        local setup=(--cross-file tests/cross/aarch64-linux-gnu.ini --cross-file "$builds/arm64.ini")
        if build arm64 -Dbuildtype=debugoptimized; then
            run arm64 8 "${arm64_units[@]}" 'checkops cpu i8mm' 'checkops cpu dotprod' 'checkops cpu neon'
            if [ -x "$builds/gcc/tools/dspark" ]; then arm64_sameness; fi
        fi
    fi
}
