// One token through attention in one kernel: norm and rotation of the heads, the cache's new row, the splits, and
// by the last block of threads of a kv head their merge.

// RMSNorm and rotation of a head by one warp, into `to`; cos and sin are the token's rows of the tables.
__device__ __forceinline__ void turned_head(
    const float* x, i64 D, const float* weight, const float* cos, const float* sin, float eps, int lane, float* to
) {
    const float scale = norm_scale(x, D, eps, lane);
    const i64 half = D / 2;
    for (i64 i = lane; i < half; i += 32) {
        const float a = __fmul_rn(__fmul_rn(x[i], scale), weight[i]);
        const float b = __fmul_rn(__fmul_rn(x[half + i], scale), weight[half + i]);
        to[i] = __fmaf_rn(a, cos[i], -__fmul_rn(b, sin[i]));
        to[half + i] = __fmaf_rn(b, cos[i], __fmul_rn(a, sin[i]));
    }
}

// Attention of the token that `state` describes: `both` ((N + 2 G) D,) are its projections, normed by q_weight and
// k_weight (D,) and rotated by row POSITION of the tables cos and sin (., D / 2). Row LENGTH of the caches k, v
// (., G, D) float16 is written, and the token sees it and all rows before. sums (N, S, 2) and parts (N, S, D): room
// for splits as in `attend`. counters (gridDim.y,) int32 zero: the last block of threads of a group of heads merges
// its splits, to out (N D,) and, where q is not null, rounded to q, d, sums_of (a group must be whole blocks of 256).
// Where counters is null nothing is merged; else S is at most 64.
// D: a multiple of 16, at most 256. Grid: (S, G * ceil(N / G / 8)), 256 threads.
extern "C" __global__ void __launch_bounds__(256, 2) attend_token(
    const float* both, i64 N, i64 G, i64 D, const float* q_weight, const float* k_weight, const float* cos,
    const float* sin, float eps, float scale, const i64* state, unsigned short* k, unsigned short* v, float* sums,
    float* parts, int* counters, float* out, signed char* q, float* d, short* sums_of
) {
    __shared__ Split<HEADS> split;
    __shared__ float totals[HEADS];
    float* const query = (float*)split.query;
    float* const shares = (float*)split.shares;
    const int thread = threadIdx.x, lane = thread & 31, warp = thread >> 5;
    begin_after_prefetch();
    const i64 S = gridDim.x, s = blockIdx.x, P = N / G, groups = (P + HEADS - 1) / HEADS;
    const i64 g = blockIdx.y / groups, first = (blockIdx.y % groups) * HEADS;
    const i64 length = state[LENGTH], seen = length + 1, left = seen - s * SPLIT;
    if (left <= 0) return;
    const int count = left < SPLIT ? (int)left : SPLIT, heads = P - first < HEADS ? (int)(P - first) : HEADS;
    const i64 head = g * P + first, width = G * D, from = s * SPLIT * width + g * D, turn = state[POSITION] * (D / 2);
    const int used = (int)((seen + SPLIT - 1) / SPLIT);

    if (warp < heads) {
        turned_head(both + (head + warp) * D, D, q_weight, cos + turn, sin + turn, eps, lane, query + warp * D);
    }
    if (left <= SPLIT) {  // the token's own row is among these
        unsigned short* const new_k = k + length * width + g * D;
        unsigned short* const new_v = v + length * width + g * D;
        float* const room = shares;  // free until there are scores
        if (warp == 7) {
            turned_head(both + (N + g) * D, D, k_weight, cos + turn, sin + turn, eps, lane, room);
            __syncwarp();
            for (i64 i = lane; i < D; i += 32) new_k[i] = float_to_half(room[i]);
        }
        for (i64 i = thread; i < D; i += 256) new_v[i] = float_to_half(both[(N + G + g) * D + i]);
    }
    __syncthreads();

    score_split<HEADS, 256>(split, k + from, width, D, heads, count, scale);
    __syncthreads();
    if (warp < heads) {
        const float2 found = soften(split, warp, count, lane);
        if (lane == 0) {
            sums[((head + warp) * S + s) * 2] = found.x;
            sums[((head + warp) * S + s) * 2 + 1] = found.y;
        }
    }
    __syncthreads();
    for (i64 i = thread & 127; i < D; i += 128) {  // half of the heads each
        const int begin = 4 * (thread >> 7);
        float total[4];
        weigh_element<HEADS, 4>(split, v + from + i, width, begin, &count, count, total);
#pragma unroll
        for (int p = 0; p < 4; p++) {
            if (begin + p < heads) parts[((head + begin + p) * S + s) * D + i] = total[p];
        }
    }
    if (!counters || !last_to_arrive(counters + blockIdx.y, used)) return;

    // Merge: shares and totals of the splits side by side, a warp to a head, then a thread to every 256th element.
    if (warp < heads) {
        const float* const own = sums + (head + warp) * S * 2;
        float top = BELOW_ALL, total = 0.0f;
        for (int i = lane; i < used; i += 32) top = fresh(own + 2 * i) > top ? fresh(own + 2 * i) : top;
        top = warp_highest(top);
        for (int i = lane; i < used; i += 32) {
            shares[warp * SPLIT + i] = exponential(__fadd_rn(fresh(own + 2 * i), -top));
            query[warp * SPLIT + i] = fresh(own + 2 * i + 1);
        }
        __syncwarp();
        for (int i = 0; i < used; i++) total = __fmaf_rn(query[warp * SPLIT + i], shares[warp * SPLIT + i], total);
        if (lane == 0) totals[warp] = total;
    }
    __syncthreads();
    const int elements = heads * (int)D;
#pragma unroll 1
    for (int at = thread; at < elements; at += 256) {
        const int p = at / (int)D;
        const float* const own = parts + (head + p) * S * D + at % (int)D;
        float value = 0.0f;
#pragma unroll 8
        for (int i = 0; i < used; i++) value = __fmaf_rn(fresh(own + i * D), shares[p * SPLIT + i], value);
        query[at] = __fdiv_rn(value, totals[p]);
        out[head * D + at] = query[at];
    }
    if (!q) return;
    __syncthreads();
    for (int block = warp; block < heads * D / 256; block += 8) {
        float own[8];
#pragma unroll
        for (int i = 0; i < 8; i++) own[i] = query[block * 256 + 8 * lane + i];
        round_block(own, 0, head * D / 256 + block, 0, lane, q, d, sums_of);
    }
}
