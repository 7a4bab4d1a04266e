// From the projections to the result of attention: QK-norm, rotation, the cache's new rows, splits, their merge.

// Cut rows `both` (T, (N + 2 G) D) into queries, keys and values. Queries and keys are normed per head by
// q_weight and k_weight (D,) and rotated by row rows[t] of the tables cos and sin (., D / 2), or by row t where
// rows is null. q (T, N, D). Keys and values are written where their pointers are not null: k, v (T, G, D) as
// float32, k_cache, v_cache (., G, D) as float16 (nearest, ties to even) from row first + t on; first is
// *length where length is not null, else `before`.
// Grid: (N + 2 G, T), 32 threads.
extern "C" __global__ void __launch_bounds__(32) heads(
    const float* both, i64 N, i64 G, i64 D, const float* q_weight, const float* k_weight, const float* cos,
    const float* sin, const i64* rows, float eps, float* q, float* k, float* v, unsigned short* k_cache,
    unsigned short* v_cache, const i64* length, i64 before
) {
    const int lane = threadIdx.x;
    const i64 head = blockIdx.x, t = blockIdx.y, half = D / 2;
    const float* const x = both + (t * (N + 2 * G) + head) * D;
    const i64 row = (length ? *length : before) + t;
    if (head >= N + G) {
        const i64 to = (head - N - G) * D;
        for (i64 i = lane; i < D; i += 32) {
            if (v) v[t * G * D + to + i] = x[i];
            if (v_cache) v_cache[row * G * D + to + i] = float_to_half(x[i]);
        }
        return;
    }
    const bool query = head < N;
    const float* const weight = query ? q_weight : k_weight;
    const float scale = norm_scale(x, D, eps, lane);
    const i64 turn = (rows ? rows[t] : t) * half;
    const i64 to = query ? (t * N + head) * D : (t * G + head - N) * D;
    unsigned short* const kept = query || !k_cache ? 0 : k_cache + (row * G + head - N) * D;
    float* const out = query ? q : k;
    for (i64 i = lane; i < half; i += 32) {
        const float a = __fmul_rn(__fmul_rn(x[i], scale), weight[i]);
        const float b = __fmul_rn(__fmul_rn(x[half + i], scale), weight[half + i]);
        const float c = cos[turn + i], s = sin[turn + i];
        const float low = __fmaf_rn(a, c, -__fmul_rn(b, s)), high = __fmaf_rn(b, c, __fmul_rn(a, s));
        if (out) {
            out[to + i] = low;
            out[to + half + i] = high;
        }
        if (kept) {
            kept[i] = float_to_half(low);
            kept[half + i] = float_to_half(high);
        }
    }
}

// Rows that query t sees: those before the first query, and one for each query up to itself; at least one.
__device__ __forceinline__ i64 rows_seen(const i64* length, i64 before, i64 t) {
    const i64 first = (length ? *length : before) + t;
    return (first > 0 ? first : 0) + 1;
}

#define QUERIES 4 /* tokens of a block of threads */

// Attention of queries q (T, N, D) over each split of SPLIT rows of k, v (., G, D) float16, causal: sums
// (T, N, S, 2), the largest score and the total of the exponentials; parts (T, N, S, D), rows weighed by these.
// scale: of scores. length, before: rows before the first query, as in `heads`.
// D: a multiple of 16, at most 256. Grid: (S, G * ceil(N / G / 8), ceil(T / 4)), 128 threads; splits that a query
// does not reach are left alone.
extern "C" __global__ void __launch_bounds__(128) attend(
    const float* q, const unsigned short* k, const unsigned short* v, i64 T, i64 N, i64 G, i64 D, float scale,
    const i64* length, i64 before, float* sums, float* parts
) {
    __shared__ Split<QUERIES * HEADS> split;
    __shared__ int count[QUERIES];
    const int thread = threadIdx.x, lane = thread & 31;
    const i64 S = gridDim.x, s = blockIdx.x, P = N / G, groups = (P + HEADS - 1) / HEADS;
    const i64 g = blockIdx.y / groups, first = (blockIdx.y % groups) * HEADS;  // query head within the kv head
    const i64 t = (i64)blockIdx.z * QUERIES;
    const int queries = T - t < QUERIES ? (int)(T - t) : QUERIES;
    const int heads = P - first < HEADS ? (int)(P - first) : HEADS;
    const i64 left = rows_seen(length, before, t + queries - 1) - s * SPLIT;
    if (left <= 0) return;
    const int most = left < SPLIT ? (int)left : SPLIT;
    if (thread < QUERIES) {
        const i64 own = thread < queries ? rows_seen(length, before, t + thread) - s * SPLIT : 0;
        count[thread] = own < 0 ? 0 : own < SPLIT ? (int)own : SPLIT;
    }
    for (i64 i = thread; i < queries * HEADS * D; i += 128) {  // vectors of heads that are not there stay zero
        const i64 of = i / (HEADS * D), p = i / D % HEADS;
        ((float*)split.query)[i] = p < heads ? q[((t + of) * N + g * P + first + p) * D + i % D] : 0.0f;
    }
    __syncthreads();
    const i64 width = G * D, from = s * SPLIT * width + g * D;
    score_split<QUERIES * HEADS, 128>(split, k + from, width, D, queries * HEADS, most, scale);
    __syncthreads();
    for (int p = thread >> 5; p < queries * HEADS; p += 4) {
        const int of = p / HEADS;
        if (p % HEADS >= heads || count[of] == 0) continue;
        const float2 found = soften(split, p, count[of], lane);
        const i64 head = (t + of) * N + g * P + first + p % HEADS;
        if (lane == 0) {
            sums[(head * S + s) * 2] = found.x;
            sums[(head * S + s) * 2 + 1] = found.y;
        }
    }
    __syncthreads();
    for (i64 i = thread; i < D; i += 128) {
        float total[QUERIES * HEADS];
        weigh_element<QUERIES * HEADS, QUERIES * HEADS>(split, v + from + i, width, 0, count, most, total);
#pragma unroll
        for (int p = 0; p < QUERIES * HEADS; p++) {
            const i64 head = (t + p / HEADS) * N + g * P + first + p % HEADS;
            if (p % HEADS < heads && count[p / HEADS] > 0) parts[(head * S + s) * D + i] = total[p];
        }
    }
}

#define MOST_HEADS 17 /* that 256 elements can be of */

// Put the splits of `attend` together, in order: out (T, N D), and, where q is not null, rounded to q, d, sums_of.
// S: splits that there is room for. Grid: (ceil(N D / 256), T), 256 threads: a thread has an element.
extern "C" __global__ void __launch_bounds__(256, 2) merge(
    const float* sums, const float* parts, i64 S, i64 N, i64 D, const i64* length, i64 before, float* out,
    signed char* q, float* d, short* sums_of
) {
    __shared__ float tops[MOST_HEADS], shares[MOST_HEADS * SPLIT], totals[MOST_HEADS * SPLIT];
    begin_after_prefetch();
    const int thread = threadIdx.x, lane = thread & 31;
    const i64 t = blockIdx.y, width = N * D, start = (i64)blockIdx.x * 256, end = start + 256 < width ? start + 256 : width;
    const i64 first = start / D;
    const int heads = (int)((end + D - 1) / D - first);
    const int used = (int)((rows_seen(length, before, t) + SPLIT - 1) / SPLIT);
    const float* const own = sums + (t * N + first) * S * 2;
    for (int p = thread >> 5; p < heads; p += 8) {
        float top = BELOW_ALL;
        for (int s = lane; s < used; s += 32) top = own[(p * S + s) * 2] > top ? own[(p * S + s) * 2] : top;
        top = warp_highest(top);
        if (lane == 0) tops[p] = top;
    }
    const i64 at = start + thread < end ? start + thread : start;
    const int head = (int)(at / D - first);
    const float* const from = parts + (t * N + first + head) * S * D + at % D;
    float total = 0.0f, value = 0.0f;
    for (int begin = 0; begin < used; begin += SPLIT) {
        const int some = used - begin < SPLIT ? used - begin : SPLIT;
        __syncthreads();
        for (int i = thread; i < heads * SPLIT; i += 256) {
            const int p = i / SPLIT, s = i % SPLIT;
            if (s >= some) continue;
            shares[i] = exponential(__fadd_rn(own[(p * S + begin + s) * 2], -tops[p]));
            totals[i] = own[(p * S + begin + s) * 2 + 1];
        }
        __syncthreads();
#pragma unroll 8
        for (int i = 0; i < some; i++) {
            total = __fmaf_rn(totals[head * SPLIT + i], shares[head * SPLIT + i], total);
            value = __fmaf_rn(from[(begin + i) * D], shares[head * SPLIT + i], value);
        }
    }
    value = __fdiv_rn(value, total);
    if (start + thread < end) out[t * width + at] = value;
    if (!q) return;
    __syncthreads();
    shares[thread] = start + thread < end ? value : 0.0f;
    __syncthreads();
    if (thread >= 32) return;
    float eight[8];
#pragma unroll
    for (int i = 0; i < 8; i++) eight[i] = shares[8 * lane + i];
    round_block(eight, t, blockIdx.x, gridDim.x, lane, q, d, sums_of);
}
