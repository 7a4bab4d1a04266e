// Attention over one split of the cache, by a block of threads, for several vectors: queries of heads that share a kv
// head, of one token or of a few. Scores and sums come in the order of `backends/simd/layers.py`.

#define HEADS 8 /* of one kv head and one token, in a block of threads */
#define WIDEST 256

// Shared memory for VECTORS queries: as rows (VECTORS, D), and each key's scores, then shares, side by side; the four
// floats of padding keep rows of these at 16 bytes and apart in the banks.
template <int VECTORS>
struct Split {
    static constexpr int STRIDE = VECTORS + 4;
    float4 query[VECTORS * WIDEST / 4];
    float4 shares[SPLIT * STRIDE / 4];
};

__device__ __forceinline__ void eight_halves(const int4 packed, float (&out)[8]) {
    const int words[4] = {packed.x, packed.y, packed.z, packed.w};
#pragma unroll
    for (int i = 0; i < 8; i++) out[i] = half_to_float((unsigned short)(words[i >> 1] >> (16 * (i & 1))));
}

__device__ __forceinline__ void add_products(const float4* query, const float (&key)[8], float (&total)[8]) {
    const float4 low = query[0], high = query[1];
    total[0] = __fmaf_rn(low.x, key[0], total[0]);
    total[1] = __fmaf_rn(low.y, key[1], total[1]);
    total[2] = __fmaf_rn(low.z, key[2], total[2]);
    total[3] = __fmaf_rn(low.w, key[3], total[3]);
    total[4] = __fmaf_rn(high.x, key[4], total[4]);
    total[5] = __fmaf_rn(high.y, key[5], total[5]);
    total[6] = __fmaf_rn(high.z, key[6], total[6]);
    total[7] = __fmaf_rn(high.w, key[7], total[7]);
}

// Total of a key's 16 lanes, of which two neighbouring threads have eight each.
__device__ __forceinline__ float score_of(const float (&total)[8]) {
    const float low = __fadd_rn(__fadd_rn(total[0], total[2]), __fadd_rn(total[1], total[3]));
    const float high = __fadd_rn(__fadd_rn(total[4], total[6]), __fadd_rn(total[5], total[7]));
    const float even = __fadd_rn(low, __shfl_xor_sync(ALL, low, 1));
    return __fadd_rn(even, __fadd_rn(high, __shfl_xor_sync(ALL, high, 1)));
}

// Scores of a key, whose half of lanes is at `key`, for vectors `first`, first + step ...; STEPS times 16 is D, so
// that the key stays in registers, or 0 for any D.
template <int VECTORS, int STEPS>
__device__ __forceinline__ void score_key(
    Split<VECTORS>& split, const unsigned short* key, i64 D, int vectors, int first, int step, int place, int upper,
    bool there, float scale
) {
    float element[STEPS ? STEPS : 1][8];
#pragma unroll
    for (int at = 0; at < STEPS; at++) eight_halves(*(const int4*)(key + 16 * at), element[at]);
#pragma unroll 1
    for (int p = first; p < vectors; p += step) {
        const float4* const query = split.query + (p * D + 8 * upper) / 4;
        float total[8] = {};
        if (STEPS) {
#pragma unroll
            for (int at = 0; at < STEPS; at++) add_products(query + 4 * at, element[at], total);
        } else {
            for (i64 at = 0; at < D / 16; at++) {
                eight_halves(*(const int4*)(key + 16 * at), element[0]);
                add_products(query + 4 * at, element[0], total);
            }
        }
        const float score = __fmul_rn(score_of(total), scale);
        if (upper == 0 && there) ((float*)split.shares)[place * Split<VECTORS>::STRIDE + p] = score;
    }
}

// Scores of `count` keys, `width` apart: two threads to a key; of more than 128 threads each 128 take vectors by turns.
template <int VECTORS, int THREADS>
__device__ __forceinline__ void score_split(
    Split<VECTORS>& split, const unsigned short* keys, i64 width, i64 D, int vectors, int count, float scale
) {
    const int thread = threadIdx.x, place = (thread & 127) >> 1, upper = thread & 1, first = thread >> 7;
    const bool there = place < count;
    const unsigned short* const key = keys + (there ? place : count - 1) * width + 8 * upper;
    constexpr int step = THREADS / 128;
    if (D == 128) {
        score_key<VECTORS, 8>(split, key, D, vectors, first, step, place, upper, there, scale);
    } else if (D == 64) {
        score_key<VECTORS, 4>(split, key, D, vectors, first, step, place, upper, there, scale);
    } else {
        score_key<VECTORS, 0>(split, key, D, vectors, first, step, place, upper, there, scale);
    }
}

// One vector's scores of `count` keys to exponentials, by one warp: gives the largest score and their total, in 16
// lanes, and what is left behind the last 16 one by one.
template <int VECTORS>
__device__ __forceinline__ float2 soften(Split<VECTORS>& split, int p, int count, int lane) {
    constexpr int STRIDE = Split<VECTORS>::STRIDE;
    float* const own = (float*)split.shares + p;
    float top = BELOW_ALL;
    for (int i = lane; i < count; i += 32) top = own[i * STRIDE] > top ? own[i * STRIDE] : top;
    top = warp_highest(top);
    for (int i = lane; i < count; i += 32) own[i * STRIDE] = exponential(__fadd_rn(own[i * STRIDE], -top));
    __syncwarp();
    const int whole = count & ~15;
    float total = 0.0f, rest = 0.0f;
    for (int i = lane & 15; i < whole; i += 16) total = __fadd_rn(total, own[i * STRIDE]);
    for (int i = whole; i < count; i++) rest = __fadd_rn(rest, own[i * STRIDE]);
    float2 found;
    found.x = top;
    found.y = __fadd_rn(half_total(total), rest);
    return found;
}

// Element i of the rows of values, weighed by the shares of MANY vectors from `first` on, row by row. count: rows of
// each eight vectors, most: of those that see most.
template <int VECTORS, int MANY>
__device__ __forceinline__ void weigh_element(
    const Split<VECTORS>& split, const unsigned short* values, i64 width, int first, const int* count, int most,
    float (&total)[MANY]
) {
#pragma unroll
    for (int p = 0; p < MANY; p++) total[p] = 0.0f;
    const float4* shares = split.shares + first / 4;
#pragma unroll 4
    for (int row = 0; row < most; row++) {
        const float value = half_to_float(values[row * width]);
#pragma unroll
        for (int p = 0; p < MANY; p += 4) {
            const float4 share = shares[row * (Split<VECTORS>::STRIDE / 4) + p / 4];
            if (row < count[(first + p) / HEADS]) {
                total[p] = __fmaf_rn(share.x, value, total[p]);
                total[p + 1] = __fmaf_rn(share.y, value, total[p + 1]);
                total[p + 2] = __fmaf_rn(share.z, value, total[p + 2]);
                total[p + 3] = __fmaf_rn(share.w, value, total[p + 3]);
            }
        }
    }
}
