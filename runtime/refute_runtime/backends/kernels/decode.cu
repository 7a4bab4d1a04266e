// One token through what surrounds attention and experts: norm and projections, projection and residual. Each
// kernel begins with what it needs of the row before, so that a layer is few kernels; see `decode_*.cu`.

// out = up to three matrices times RMSNorm of x (C,) by weight (C,): their totals one after the other. Every block
// of threads norms and rounds x itself. rows of a matrix that is not there are 0. kind, weights, row_bytes, rows:
// as in `multiply`, all of C columns, at most 16384.
// Grid: as many blocks of 256 threads as are wanted, best two to a multiprocessor: warps share the rows evenly.
extern "C" __global__ void __launch_bounds__(256, 2) norm_multiply(
    const float* x, const float* weight, float eps, i64 C, i64 kind_0, const u8* weights_0, i64 row_bytes_0, i64 rows_0,
    i64 kind_1, const u8* weights_1, i64 row_bytes_1, i64 rows_1, i64 kind_2, const u8* weights_2, i64 row_bytes_2,
    i64 rows_2, float* out
) {
    __shared__ Stage stage;
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    const Stored a = {(int)kind_0, weights_0, row_bytes_0, rows_0};
    const Stored b = {(int)kind_1, weights_1, row_bytes_1, rows_1};
    const Stored c = {(int)kind_2, weights_2, row_bytes_2, rows_2};
    const i64 end_a = units_of(a), end_b = end_a + units_of(b), end = end_b + units_of(c);
    const i64 first = (i64)warp * gridDim.x + blockIdx.x, step = (i64)gridDim.x * 8;
    if (first < end_a) {
        prefetch_unit(a, first, lane);
    } else if (first < end) {
        prefetch_unit(first < end_b ? b : c, first - (first < end_b ? end_a : end_b), lane);
    }
    begin_after_prefetch();

    const Rounded rounded = staged(stage, C);
    const float scale = norm_scale(x, C, eps, lane);
    const auto normed = [&](i64 at) { return __fmul_rn(__fmul_rn(x[at], scale), weight[at]); };
    for (i64 block = warp; block < rounded.blocks; block += 8) {
        float value[8];
#pragma unroll
        for (int i = 0; i < 8; i++) {
            const i64 at = block * 256 + 8 * lane + i;
            value[i] = at < C ? normed(at) : 0.0f;
        }
        round_block(value, 0, block, rounded.blocks, lane, (signed char*)stage.q, stage.d, stage.sums);
    }
    __syncthreads();
#pragma unroll 1
    for (i64 unit = first; unit < end; unit += step) {
        const Stored m = unit < end_a ? a : unit < end_b ? b : c;
        const i64 from = unit < end_a ? 0 : unit < end_b ? end_a : end_b;
        const i64 column = unit < end_a ? 0 : unit < end_b ? rows_0 : rows_0 + rows_1;
        if (unit + step < end_a) prefetch_unit(a, unit + step, lane);
        float total;
        const i64 row = unit_row<4>(m, unit - from, C, rounded, normed, lane, total);
        if (row >= 0) out[column + row] = total;
    }
}

// out = x + a matrix times one rounded row q, d, sums, or `floats` (C,) where the matrix is of floats. out (rows,) may
// be x. Grid: (ceil(rows / 8) or ceil(rows / 2),), 64 threads.
extern "C" __global__ void __launch_bounds__(64) multiply_add(
    i64 kind, const u8* weights, i64 row_bytes, i64 rows, i64 C, const signed char* q, const float* d, const short* sums,
    const float* floats, const float* x, float* out
) {
    __shared__ Stage stage;
    const int lane = threadIdx.x & 31;
    const Stored m = {(int)kind, weights, row_bytes, rows};
    const i64 unit = (i64)blockIdx.x * 2 + (threadIdx.x >> 5);
    const bool mine = unit < units_of(m);
    if (mine) prefetch_unit(m, unit, lane);
    begin_after_prefetch();
    if (!is_float(m.kind)) stage_rows(stage, q, d, sums, 1, C);
    __syncthreads();
    if (!mine) return;
    float total;
    const i64 row = unit_row(m, unit, C, staged(stage, C), [&](i64 at) { return floats[at]; }, lane, total);
    if (row >= 0) out[row] = __fadd_rn(x[row], total);
}
