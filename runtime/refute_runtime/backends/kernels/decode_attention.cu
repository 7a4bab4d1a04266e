// One token through attention in one kernel: norm and rotation of the heads, the cache's new row, the splits, and
// by the last block of threads of a kv head their merge.

#define HEADS 8 /* of one kv head, in a block of threads */
#define WIDEST 256

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
// Where counters is null nothing is merged.
// D: a multiple of 16, at most 256. Grid: (S, G * ceil(N / G / 8)), 256 threads.
extern "C" __global__ void __launch_bounds__(256, 2) attend_token(
    const float* both, i64 N, i64 G, i64 D, const float* q_weight, const float* k_weight, const float* cos,
    const float* sin, float eps, float scale, const i64* state, unsigned short* k, unsigned short* v, float* sums,
    float* parts, int* counters, float* out, signed char* q, float* d, short* sums_of
) {
    __shared__ float query[HEADS * WIDEST];
    __shared__ float shares[HEADS * SPLIT];
    __shared__ float tops[HEADS], totals[HEADS];
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
        float* const room = shares;  // 512 floats, free until there are scores
        if (warp == 7) {
            turned_head(both + (N + g) * D, D, k_weight, cos + turn, sin + turn, eps, lane, room);
            __syncwarp();
            for (i64 i = lane; i < D; i += 32) new_k[i] = float_to_half(room[i]);
        }
        for (i64 i = thread; i < D; i += 256) new_v[i] = float_to_half(both[(N + G + g) * D + i]);
    }
    __syncthreads();

    // Scores: two threads to a key and every second head, each with 8 of its 16 lanes.
    const int key = (thread & 127) >> 1, upper = thread & 1;
    const unsigned short* const keys = k + from + (key < count ? key : count - 1) * width + 8 * upper;
    for (int p = 0; p < heads; p += 2) {
        const int own = p + (thread >> 7) < heads ? p + (thread >> 7) : p;
        float total[8] = {};
#pragma unroll 4
        for (i64 at = 0; at < D; at += 16) {
            const int4 packed = *(const int4*)(keys + at);
            const int words[4] = {packed.x, packed.y, packed.z, packed.w};
            const float* const with = query + own * D + at + 8 * upper;
#pragma unroll
            for (int i = 0; i < 8; i++) {
                const float element = half_to_float((unsigned short)(words[i >> 1] >> (16 * (i & 1))));
                total[i] = __fmaf_rn(with[i], element, total[i]);
            }
        }
        const float low = __fadd_rn(__fadd_rn(total[0], total[2]), __fadd_rn(total[1], total[3]));
        const float high = __fadd_rn(__fadd_rn(total[4], total[6]), __fadd_rn(total[5], total[7]));
        const float even = __fadd_rn(low, __shfl_xor_sync(ALL, low, 1));
        const float odd = __fadd_rn(high, __shfl_xor_sync(ALL, high, 1));
        if (upper == 0 && key < count) shares[own * SPLIT + key] = __fmul_rn(__fadd_rn(even, odd), scale);
    }
    __syncthreads();

    if (warp < heads) {
        float* const own = shares + warp * SPLIT;
        float top = BELOW_ALL;
        for (int i = lane; i < count; i += 32) top = own[i] > top ? own[i] : top;
        top = warp_highest(top);
        for (int i = lane; i < count; i += 32) own[i] = exponential(__fadd_rn(own[i], -top));
        __syncwarp();
        const float total = lanes_total(own, count, lane);
        if (lane == 0) {
            sums[((head + warp) * S + s) * 2] = top;
            sums[((head + warp) * S + s) * 2 + 1] = total;
        }
    }
    __syncthreads();

    for (i64 i = thread & 127; i < D; i += 128) {  // half of the heads each
        const int begin = 4 * (thread >> 7);
        float total[4] = {};
#pragma unroll 4
        for (int row = 0; row < count; row++) {
            const float value = half_to_float(v[from + row * width + i]);
#pragma unroll
            for (int p = 0; p < 4; p++) total[p] = __fmaf_rn(shares[(begin + p) * SPLIT + row], value, total[p]);
        }
#pragma unroll
        for (int p = 0; p < 4; p++) {
            if (begin + p < heads) parts[((head + begin + p) * S + s) * D + i] = total[p];
        }
    }
    if (!counters || !last_to_arrive(counters + blockIdx.y, used)) return;

    // Merge: the group's heads have heads * D elements, eight or fewer to a thread.
    if (warp < heads) {
        const float* const own = sums + (head + warp) * S * 2;
        float top = BELOW_ALL;
        for (int i = lane; i < used; i += 32) {
            const float value = fresh(own + 2 * i);
            top = value > top ? value : top;
        }
        top = warp_highest(top);
        if (lane == 0) tops[warp] = top, totals[warp] = 0.0f;
    }
    float value[8] = {};
    for (int begin = 0; begin < used; begin += SPLIT) {
        const int some = used - begin < SPLIT ? used - begin : SPLIT;
        __syncthreads();
        if (warp < heads) {
            const float* const own = sums + ((head + warp) * S + begin) * 2;
            for (int i = lane; i < some; i += 32) {
                shares[warp * SPLIT + i] = exponential(__fadd_rn(fresh(own + 2 * i), -tops[warp]));
            }
            __syncwarp();
            if (lane == 0) {
                float total = totals[warp];
                for (int i = 0; i < some; i++) total = __fmaf_rn(fresh(own + 2 * i + 1), shares[warp * SPLIT + i], total);
                totals[warp] = total;
            }
        }
        __syncthreads();
#pragma unroll
        for (int m = 0; m < 8; m++) {
            const int at = thread + 256 * m;
            if (at >= heads * D) continue;
            const int p = at / (int)D;
            const float* const own = parts + ((head + p) * S + begin) * D + at % (int)D;
#pragma unroll 2
            for (int i = 0; i < some; i++) value[m] = __fmaf_rn(fresh(own + i * D), shares[p * SPLIT + i], value[m]);
        }
    }
#pragma unroll
    for (int m = 0; m < 8; m++) {
        const int at = thread + 256 * m;
        if (at >= heads * D) continue;
        query[at] = __fdiv_rn(value[m], totals[at / (int)D]);
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
