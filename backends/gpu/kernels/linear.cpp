/*
 * y = x W^T (+ bias) (+ residual). Meaning: cpu/ref/linear.c.
 *
 * A block computes a tile of 32 outputs for up to NT * 8 rows, and so reads its weights once for all of them. Its teams of 32 lanes take
 * runs of 256 inputs in turn; the runs' sums go through shared memory and are added in ascending order. Decoding is bound by memory: each
 * team reads a whole record before it uses any of it (lane_run), and there are several teams and blocks a multiprocessor, so that
 * reading never stops. With many rows weights are unpacked once for 64 of them. Linears that share their input share a launch.
 */
#include "linear_blocks.h"
#include "linear_floats.h"

namespace {

/* With one to sixteen rows 16 teams fit on a multiprocessor of 65536 registers: 128 registers a thread hold a record and what it becomes. */
enum { MOST_TEAMS = 16, RESIDENT_TEAMS = 16 };

template <ds_type TYPE, int NT, int COLS> struct run_sums : tile_run<TYPE, NT, COLS> {};
template <int NT, int COLS> struct run_sums<DS_TYPE_F32, NT, COLS> : tile_run_of_floats<DS_TYPE_F32, NT> {};
template <int NT, int COLS> struct run_sums<DS_TYPE_F16, NT, COLS> : tile_run_of_floats<DS_TYPE_F16, NT> {};
template <int NT, int COLS> struct run_sums<DS_TYPE_BF16, NT, COLS> : tile_run_of_floats<DS_TYPE_BF16, NT> {};

GPU_FN void finish(const struct linear &p, uint32_t row, uint32_t output, float sum) {
    if (p.bias) sum = sum + p.bias[output];
    if (p.residual.data) sum = sum + p.residual.row(row)[output];
    p.y.row(row)[output] = sum;
}

/* Linears of one input, one after the other in the grid. */
struct linears {
    struct linear part[DS_GPU_MOST_LINEARS];
    uint32_t end[DS_GPU_MOST_LINEARS]; /* tiles of a part and of those before it; of unused parts as of the last one */
};

GPU_FN struct linear part_of(const struct linears &all, uint32_t block, uint32_t *tile) {
    *tile = block;
    if (block < all.end[0]) return all.part[0];
    *tile = block - all.end[0];
    if (block < all.end[1]) return all.part[1];
    *tile = block - all.end[1];
    return all.part[2];
}
static_assert(DS_GPU_MOST_LINEARS == 3, "part_of goes through three");

/*
 * Shared memory: sums of [teams][NT * 8 rows][32 outputs], behind them the totals so far of [NT * 8][32]. A team's first weights are read
 * before gpu_begin: nobody writes them, and so they are on their way while the op before is still at work.
 */
template <ds_type TYPE, int NT, int TEAMS, int COLS> GPU_KERNEL_RESIDENT(TEAMS * GPU_TEAM, NT <= 2 ? RESIDENT_TEAMS / TEAMS : 1) multiply(struct linears all, struct active active) {
    GPU_DYNAMIC_SHARED(memory);
    using R = run_sums<TYPE, NT, COLS>;
    constexpr uint32_t ROWS = NT * 8, PAIRS = ROWS * DS_GPU_TILE;
    gpu_let_next();
    float *const sums = reinterpret_cast<float *>(memory), *const total = sums + gpu_teams() * PAIRS;
    uint32_t tile_number;
    const struct linear p = part_of(all, gpu_block_x(), &tile_number);
    const uint8_t *const tile = p.weight + tile_number * p.tile_bytes;
    const uint32_t runs = (p.inputs + DS_RUN - 1) / DS_RUN, teams = gpu_teams();
    typename R::held weights;
    R::read(p, tile, least(gpu_team(), runs - 1), weights);
    gpu_begin();
    const uint32_t rows = active.get(), first_row = gpu_block_y() * ROWS, first_output = tile_number * DS_GPU_TILE;
    if (first_row >= rows) return;
    const uint32_t pairs = least(rows - first_row, ROWS) * DS_GPU_TILE;
    for (uint32_t base = 0; base < runs; base += teams) {
        /* Teams without a run of their own repeat the last one: gpu_mma wants whole waves. Nobody reads their sums. */
        const uint32_t run = least(base + gpu_team(), runs - 1);
        if (base) R::read(p, tile, run, weights);
        R::go(p, weights, tile, run, first_row, rows, reinterpret_cast<float(*)[DS_GPU_TILE]>(sums + gpu_team() * PAIRS));
        gpu_barrier();
        const uint32_t filled = least(teams, runs - base);
        for (uint32_t pair = gpu_thread(); pair < pairs; pair += gpu_threads()) {
            float sum = base ? total[pair] : 0.0f;
            for (uint32_t k = 0; k < filled; k++) sum = sum + sums[k * PAIRS + pair];
            total[pair] = sum;
            const uint32_t output = first_output + pair % DS_GPU_TILE;
            if (base + filled == runs && output < p.outputs) finish(p, first_row + pair / DS_GPU_TILE, output, sum);
        }
        gpu_barrier();
    }
}

/* As many teams as divide the runs into equal rounds: no more than `most`, and whole waves. */
uint32_t teams_for(uint32_t runs, uint32_t most) {
    const uint32_t rounds = ceil_div(runs, most), teams = ceil_div(runs, rounds), whole = DS_GPU_WAVE / GPU_TEAM;
    return ceil_div(teams, whole) * whole;
}

template <ds_type TYPE, int NT, int TEAMS, int COLS = 2>
gpuError_t start(const struct ds_gpu_launch *launch, const struct linears &linears, const struct active &active) {
    const uint32_t teams = teams_for(ceil_div(linears.part[0].inputs, DS_RUN), TEAMS);
    const size_t shared = sizeof(float) * NT * 8 * DS_GPU_TILE * (teams + 1);
    return gpu_launch(multiply<TYPE, NT, TEAMS, COLS>, gpu_grid_of(linears.end[DS_GPU_MOST_LINEARS - 1], ceil_div(active.rows, NT * 8)), teams * GPU_TEAM, shared,
                      where_of(launch), linears, active);
}

/* Few tiles leave multiprocessors with one block: that one then has twice the teams. At most 48 KiB of shared memory anywhere. */
template <ds_type TYPE> gpuError_t start_rows(const struct ds_gpu_launch *launch, const struct linears &linears, const struct active &active) {
    const bool few = linears.end[DS_GPU_MOST_LINEARS - 1] < 2 * launch->processors;
    constexpr int ONE = TYPE == DS_TYPE_F32 || TYPE == DS_TYPE_F16 || TYPE == DS_TYPE_BF16 ? 2 : 1; /* floats make no products of several rows */
    if (active.rows == 1) return few ? start<TYPE, 1, MOST_TEAMS, ONE>(launch, linears, active) : start<TYPE, 1, 8, ONE>(launch, linears, active);
    if (active.rows <= 8) return few ? start<TYPE, 1, MOST_TEAMS>(launch, linears, active) : start<TYPE, 1, 8>(launch, linears, active);
    if (active.rows <= 16) return start<TYPE, 2, 8>(launch, linears, active);
    return start<TYPE, 8, 4>(launch, linears, active);
}

gpuError_t start_type(const struct ds_gpu_launch *launch, ds_type type, const struct linears &linears, const struct active &active) {
    switch (type) {
    case DS_TYPE_F32: return start_rows<DS_TYPE_F32>(launch, linears, active);
    case DS_TYPE_F16: return start_rows<DS_TYPE_F16>(launch, linears, active);
    case DS_TYPE_BF16: return start_rows<DS_TYPE_BF16>(launch, linears, active);
#define PACK(type, ...) \
    case DS_TYPE_##type: return start_rows<DS_TYPE_##type>(launch, linears, active);
        DS_GPU_PACKS(PACK)
#undef PACK
    default: return gpuErrorNoKernelImage; /* weight_bytes has refused it */
    }
}

struct linear linear_of(const struct ds_op_linear &p) {
    struct linear linear = linear_of(p.weight, p.weight.rows, p.x, p.y, matrix_of<const float>(p.residual));
    linear.bias = at<const float>(p.bias);
    linear.x_aligned = reinterpret_cast<uintptr_t>(linear.x) % DS_GPU_PIECE == 0 && linear.x_pitch % DS_GPU_PIECE == 0;
    return linear;
}

/* Whether two stretches of rows share a byte; rows that lie between each other count as such. */
bool meet(const struct ds_view &a, const struct ds_view &b) {
    const uint64_t a_end = a.at.offset + a.rows * ds_view_pitch(&a), b_end = b.at.offset + b.rows * ds_view_pitch(&b);
    return a.at.buffer && a.at.buffer == b.at.buffer && a.at.offset < b_end && b.at.offset < a_end;
}

} // namespace

bool DS_GPU_JOIN(DS_GPU_NAME(may_join_), DS_GPU_WAVE)(const union ds_op_params *a, const union ds_op_params *b) {
    const struct ds_op_linear &p = a->linear, &q = b->linear;
    const bool alike = p.weight.type == q.weight.type && p.x.at.buffer == q.x.at.buffer && p.x.at.offset == q.x.at.offset && p.x.rows == q.x.rows &&
                       p.x.cols == q.x.cols && p.x.stride == q.x.stride && p.count.buffer == q.count.buffer && p.count.offset == q.count.offset;
    return alike && !meet(p.y, q.y) && !meet(p.y, q.residual) && !meet(q.y, p.residual);
}

gpuError_t DS_GPU_JOIN(DS_GPU_NAME(linears_), DS_GPU_WAVE)(const struct ds_gpu_launch *launch, const union ds_op_params *const *params, uint32_t n) {
    struct linears linears = {};
    uint32_t tiles = 0;
    for (uint32_t i = 0; i < DS_GPU_MOST_LINEARS; i++) {
        linears.part[i] = linear_of(params[i < n ? i : n - 1]->linear);
        tiles += i < n ? ceil_div(linears.part[i].outputs, DS_GPU_TILE) : 0;
        linears.end[i] = tiles;
    }
    const struct ds_op_linear &p = params[0]->linear;
    return start_type(launch, p.weight.type, linears, active_of(p.count, p.x.rows));
}

gpuError_t GPU_OP(linear)(const struct ds_gpu_launch *launch, const union ds_op_params *params) {
    return DS_GPU_JOIN(DS_GPU_NAME(linears_), DS_GPU_WAVE)(launch, &params, 1);
}
