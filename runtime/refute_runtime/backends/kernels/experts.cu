// Which experts tokens go to, and the experts. A choice is a token's j-th expert: choice t * K + j.

#define TILE 8 /* tokens of one expert that are computed together */

// Experts of tokens by logits (T, E): chosen int64 (T, K), ascending; shares (T, K), which sum to 1; gaps (T,), see
// `route_token`. E at most 1024, K at most 32. Grid: (T,), 32 threads.
extern "C" __global__ void __launch_bounds__(32) route(
    const float* logits, i64 E, i64 K, i64* chosen, float* shares, float* gaps
) {
    __shared__ float share[MOST_EXPERTS];
    const i64 t = blockIdx.x;
    for (i64 e = threadIdx.x; e < E; e += 32) share[e] = logits[t * E + e];
    __syncwarp();
    route_token(share, (int)E, (int)K, threadIdx.x, chosen + t * K, shares + t * K, gaps + t);
}

// How many of `choices` experts `chosen` (choices,) each expert is: counts int64 (E,). Grid: (E,), 32 threads.
extern "C" __global__ void __launch_bounds__(32) count(const i64* chosen, i64 choices, i64* counts) {
    const int lane = threadIdx.x;
    int found = 0;
    for (i64 i = lane; i < choices; i += 32) found += chosen[i] == (i64)blockIdx.x;
#pragma unroll
    for (int apart = 16; apart > 0; apart >>= 1) found += __shfl_xor_sync(ALL, found, apart);
    if (lane == 0) counts[blockIdx.x] = found;
}

// Put choices of one expert side by side, in the order of tokens whatever the GPU does first. order int64
// (choices,): choices expert by expert; tiles int64 (., 3): expert, where its up to `most` choices begin in order,
// how many; tile_count int64 (1,). counts: of `count`. Grid: (E,), 32 threads.
extern "C" __global__ void __launch_bounds__(32) arrange(
    const i64* chosen, i64 choices, const i64* counts, i64 most, i64* order, i64* tiles, i64* tile_count
) {
    const int lane = threadIdx.x;
    const i64 expert = blockIdx.x, E = gridDim.x;
    i64 start = 0, tile = 0, all_tiles = 0;
    for (i64 e = 0; e < E; e++) {
        const i64 of = (counts[e] + most - 1) / most;
        if (e < expert) start += counts[e], tile += of;
        all_tiles += of;
    }
    const i64 own = counts[expert];
    for (i64 i = lane; i * most < own; i += 32) {
        i64* const to = tiles + 3 * (tile + i);
        to[0] = expert;
        to[1] = start + i * most;
        to[2] = own - i * most < most ? own - i * most : most;
    }
    if (lane == 0 && expert == 0) *tile_count = all_tiles;
    i64 next = start;
    for (i64 from = 0; from < choices; from += 32) {
        const bool mine = from + lane < choices && chosen[from + lane] == expert;
        const unsigned all = __ballot_sync(ALL, mine);
        if (mine) order[next + bits_set(all & ((1u << lane) - 1))] = from + lane;
        next += bits_set(all);
    }
}

// out[choice * stride + column + r] = row r of the choice's expert times row choice / per of the activations.
//
// kind, weights, row_bytes, rows, columns: matrices of experts, one after the other, as in `multiply`. q, d,
// sums or x: rows of activations, one to a token (per = K) or one to a choice (per = 1).
// Block: 128 threads; a warp has four rows of blocks, or one of floats.
template <int W>
__device__ __forceinline__ void expert_rows(
    int kind, const u8* weights, i64 row_bytes, i64 rows, i64 columns, const Rounded x, const float* floats,
    i64 expert, const i64 (&choice)[W], i64 choices, i64 per, float* out, i64 stride, i64 column
) {
    const int lane = threadIdx.x & 31;
    const i64 warp = (i64)blockIdx.x * 4 + (threadIdx.x >> 5);
    const bool whole = !is_float(kind);
    const i64 row = whole ? 4 * warp + (lane >> 3) : warp, read = row < rows ? row : rows - 1;
    const u8* const at = weights + (expert * rows + read) * row_bytes;
    i64 token[W];
#pragma unroll
    for (int t = 0; t < W; t++) token[t] = choice[t] / per;
    float found[W];
    if (whole) {
        block_row<W>(kind, at, columns, x, token, lane_of(lane), found);
    } else {
        const auto value = [&](int t, i64 at) { return floats[token[t] * columns + at]; };
        float_dot<W>(kind, at, columns, value, lane, found);
    }
    if (row >= rows || (whole ? lane & 7 : lane) != 0) return;
#pragma unroll
    for (int t = 0; t < W; t++) {
        if (t < choices) out[choice[t] * stride + column + row] = found[t];
    }
}

// One choice at a time: chosen int64 (choices,). Grid: (ceil(rows / 16) or ceil(rows / 4), choices).
extern "C" __global__ void __launch_bounds__(128, 1) expert_multiply_1(
    i64 kind, const u8* weights, i64 row_bytes, i64 rows, i64 columns, const signed char* q, const float* d,
    const short* sums, const float* x, const i64* chosen, i64 per, float* out, i64 stride, i64 column
) {
    const Rounded rounded = {q, d, sums, (columns + 255) / 256};
    const i64 choice[1] = {(i64)blockIdx.y};
    expert_rows<1>(
        (int)kind, weights, row_bytes, rows, columns, rounded, x, chosen[blockIdx.y], choice, 1, per, out, stride, column
    );
}

// Up to eight choices of one expert at a time: order, tiles, tile_count of `arrange`.
// Grid: (ceil(rows / 16) or ceil(rows / 4), as many tiles as there can be).
extern "C" __global__ void __launch_bounds__(128, 1) expert_multiply_8(
    i64 kind, const u8* weights, i64 row_bytes, i64 rows, i64 columns, const signed char* q, const float* d,
    const short* sums, const float* x, const i64* order, const i64* tiles, const i64* tile_count, i64 per, float* out,
    i64 stride, i64 column
) {
    if ((i64)blockIdx.y >= *tile_count) return;
    const Rounded rounded = {q, d, sums, (columns + 255) / 256};
    const i64* const tile = tiles + 3 * (i64)blockIdx.y;
    i64 choice[TILE];
#pragma unroll
    for (int t = 0; t < TILE; t++) choice[t] = order[tile[1] + (t < tile[2] ? t : 0)];
    expert_rows<TILE>(
        (int)kind, weights, row_bytes, rows, columns, rounded, x, tile[0], choice, tile[2], per, out, stride, column
    );
}
