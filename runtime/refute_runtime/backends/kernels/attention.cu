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

// k, v (T, width) float32 to rows first + t of caches (., width) of float16; first as in `heads`.
// Grid: (ceil(T * width / 256),), 256 threads.
extern "C" __global__ void __launch_bounds__(256) append(
    const float* k, const float* v, i64 T, i64 width, unsigned short* k_cache, unsigned short* v_cache,
    const i64* length, i64 before
) {
    const i64 i = (i64)blockIdx.x * 256 + threadIdx.x, first = (length ? *length : before) * width;
    if (i >= T * width) return;
    k_cache[first + i] = float_to_half(k[i]);
    v_cache[first + i] = float_to_half(v[i]);
}

// Rows that query t sees: those before the first query, and one for each query up to itself; at least one.
__device__ __forceinline__ i64 rows_seen(const i64* length, i64 before, i64 t) {
    const i64 first = (length ? *length : before) + t;
    return (first > 0 ? first : 0) + 1;
}

#define HEADS 8 /* of one kv head, at a time */
#define WIDEST 256

// Attention of queries q (T, N, D) over each split of SPLIT rows of k, v (., G, D) float16, causal: sums
// (T, N, S, 2), the largest score and the total of the exponentials; parts (T, N, S, D), rows weighed by these.
// scale: of scores. length, before: rows before the first query, as in `heads`.
// D: a multiple of 16, at most 256. Grid: (S, G * ceil(N / G / 8), T), 128 threads; splits that a query does
// not reach end at once.
extern "C" __global__ void __launch_bounds__(128) attend(
    const float* q, const unsigned short* k, const unsigned short* v, i64 N, i64 G, i64 D, float scale,
    const i64* length, i64 before, float* sums, float* parts
) {
    __shared__ float query[HEADS * WIDEST];
    __shared__ float shares[HEADS * SPLIT];
    const int thread = threadIdx.x, lane = thread & 31;
    const i64 S = gridDim.x, s = blockIdx.x, t = blockIdx.z, P = N / G, groups = (P + HEADS - 1) / HEADS;
    const i64 g = blockIdx.y / groups, first = (blockIdx.y % groups) * HEADS;  // query head within the kv head
    const i64 left = rows_seen(length, before, t) - s * SPLIT;
    if (left <= 0) return;
    const int count = left < SPLIT ? (int)left : SPLIT, heads = P - first < HEADS ? (int)(P - first) : HEADS;
    const i64 head = t * N + g * P + first, width = G * D, from = s * SPLIT * width + g * D;
    for (i64 i = thread; i < heads * D; i += 128) query[i] = q[head * D + i];
    __syncthreads();

    // Scores: two threads to a key, each with 8 of its 16 lanes; lane l takes elements l, l + 16 ... in order.
    const int key = thread >> 1, upper = thread & 1;
    const unsigned short* const keys = k + from + (key < count ? key : count - 1) * width + 8 * upper;
    for (int p = 0; p < heads; p++) {
        float total[8] = {};
        for (i64 at = 0; at < D; at += 16) {
            const int4 packed = *(const int4*)(keys + at);
            const int words[4] = {packed.x, packed.y, packed.z, packed.w};
            const float* const with = query + p * D + at + 8 * upper;
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
        if (upper == 0 && key < count) shares[p * SPLIT + key] = __fmul_rn(__fadd_rn(even, odd), scale);
    }
    __syncthreads();

    // Exponentials: a warp to a head; their total in 16 lanes, and what is left behind the last 16 one by one.
    for (int p = thread >> 5; p < heads; p += 4) {
        float* const own = shares + p * SPLIT;
        float top = BELOW_ALL;
        for (int i = lane; i < count; i += 32) top = own[i] > top ? own[i] : top;
        top = warp_highest(top);
        for (int i = lane; i < count; i += 32) own[i] = exponential(__fadd_rn(own[i], -top));
        __syncwarp();
        const int whole = count & ~15;
        float total = 0.0f, rest = 0.0f;
        for (int i = lane & 15; i < whole; i += 16) total = __fadd_rn(total, own[i]);
        for (int i = whole; i < count; i++) rest = __fadd_rn(rest, own[i]);
        total = __fadd_rn(half_total(total), rest);
        if (lane == 0) {
            sums[((head + p) * S + s) * 2] = top;
            sums[((head + p) * S + s) * 2 + 1] = total;
        }
    }
    __syncthreads();

    // Rows weighed, row by row: a thread to an element, for all heads at once.
    for (i64 i = thread; i < D; i += 128) {
        float total[HEADS] = {};
        for (int row = 0; row < count; row++) {
            const float value = half_to_float(v[from + row * width + i]);
#pragma unroll
            for (int p = 0; p < HEADS; p++) {
                if (p < heads) total[p] = __fmaf_rn(shares[p * SPLIT + row], value, total[p]);
            }
        }
#pragma unroll
        for (int p = 0; p < HEADS; p++) {
            if (p < heads) parts[((head + p) * S + s) * D + i] = total[p];
        }
    }
}

// Put the splits of `attend` together, in order: out (T, N * D). S: splits that there is room for.
// Grid: (N, T), 128 threads.
extern "C" __global__ void __launch_bounds__(128) merge(
    const float* sums, const float* parts, i64 S, i64 D, const i64* length, i64 before, float* out
) {
    __shared__ float tops[4], shares[128], totals[128];
    const int thread = threadIdx.x, lane = thread & 31;
    const i64 N = gridDim.x, t = blockIdx.y, head = t * N + blockIdx.x;
    const int used = (int)((rows_seen(length, before, t) + SPLIT - 1) / SPLIT);
    const float* const own = sums + head * S * 2;
    const float* const from = parts + head * S * D;
    float top = BELOW_ALL;
    for (int s = thread; s < used; s += 128) top = own[2 * s] > top ? own[2 * s] : top;
    top = warp_highest(top);
    if (lane == 0) tops[thread >> 5] = top;
    __syncthreads();
    top = warp_highest(tops[lane & 3]);
    float total = 0.0f, value[2] = {};
    for (int begin = 0; begin < used; begin += 128) {
        const int some = used - begin < 128 ? used - begin : 128;
        __syncthreads();
        if (thread < some) {
            shares[thread] = exponential(__fadd_rn(own[2 * (begin + thread)], -top));
            totals[thread] = own[2 * (begin + thread) + 1];
        }
        __syncthreads();
#pragma unroll 8
        for (int i = 0; i < some; i++) {
            total = __fmaf_rn(totals[i], shares[i], total);
#pragma unroll
            for (int m = 0; m < 2; m++) {
                const int at = thread + 128 * m;
                if (at < D) value[m] = __fmaf_rn(from[(begin + i) * D + at], shares[i], value[m]);
            }
        }
    }
#pragma unroll
    for (int m = 0; m < 2; m++) {
        const int at = thread + 128 * m;
        if (at < D) out[head * D + at] = __fdiv_rn(value[m], total);
    }
}
