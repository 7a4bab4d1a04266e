// Matrices of blocks times many tokens on tensor cores: exact integers within a block of 256, then each row's float
// chain, block after block, as `products.cuh` has it; the same bits.
//
// A warp has 16 rows and up to TOKENS tokens, a block of 128 threads 64 rows. Lane 4 r + j has rows r and r + 8, the
// tokens r, r + 8 ... of activations that it reads, and tokens 8 n + 2 j and 8 n + 2 j + 1 of results.

#define TOKENS 32
#define N 4 /* times 8 tokens */

struct Tile {
    const u8* rows[2];
    unsigned read[N];       // offset of a token's blocks in q
    unsigned result[N][2];  // and of those whose results the lane has, in d
    int j;
};

// A block's scales or minimums, of which sub-blocks 0 to 3 are in one word and 4 to 7 in the other.
struct Eight {
    int low, high;
};

__device__ __forceinline__ void six_bits_of(const int4 head, Eight& scales, Eight& minimums) {
    scales.low = head.y & 0x3f3f3f3f;
    minimums.low = head.z & 0x3f3f3f3f;
    scales.high = (head.w & 0x0f0f0f0f) | ((head.y >> 2) & 0x30303030);
    minimums.high = ((head.w >> 4) & 0x0f0f0f0f) | ((head.z >> 2) & 0x30303030);
}

__device__ __forceinline__ int minimums_sum(const Eight minimums, const int4 sums) {
    int sum = dot2<0>(sums.x, minimums.low, 0);
    sum = dot2<1>(sums.y, minimums.low, sum);
    sum = dot2<0>(sums.z, minimums.high, sum);
    return dot2<1>(sums.w, minimums.high, sum);
}

// Q4_K and Q5_K. Lane j has bytes 8 j to 8 j + 7 of each run of 32.
template <int KIND>
__device__ __forceinline__ void tile_of_five_or_four(const Tile& tile, const Rounded x, float (&out)[N][4]) {
    const int size = KIND == Q5_K ? 176 : 144, data = KIND == Q5_K ? 48 : 16, blocks = (int)x.blocks;
    float below[N][4] = {};
#pragma unroll 1
    for (int block = 0; block < blocks; block++) {
        const u8* const at[2] = {tile.rows[0] + (i64)block * size, tile.rows[1] + (i64)block * size};
        const int4 head[2] = {*(const int4*)at[0], *(const int4*)at[1]};
        Eight scales[2], minimums[2];
        six_bits_of(head[0], scales[0], minimums[0]);
        six_bits_of(head[1], scales[1], minimums[1]);
        int2 bits[2];
        if (KIND == Q5_K) {
            bits[0] = *(const int2*)(at[0] + 16 + 8 * tile.j);
            bits[1] = *(const int2*)(at[1] + 16 + 8 * tile.j);
        }
        int sum[N][4] = {};
#pragma unroll
        for (int pair = 0; pair < 4; pair++) {
            const int2 upper = *(const int2*)(at[0] + data + 32 * pair + 8 * tile.j);
            const int2 lower = *(const int2*)(at[1] + data + 32 * pair + 8 * tile.j);
#pragma unroll
            for (int high = 0; high < 2; high++) {
                const int sub = 2 * pair + high;
                int a[4] = {upper.x, lower.x, upper.y, lower.y};
#pragma unroll
                for (int i = 0; i < 4; i++) a[i] = (a[i] >> (4 * high)) & 0x0f0f0f0f;
                if (KIND == Q5_K) {
                    const int fifth[4] = {bits[0].x, bits[1].x, bits[0].y, bits[1].y};
#pragma unroll
                    for (int i = 0; i < 4; i++) a[i] |= ((fifth[i] >> sub) & 0x01010101) << 4;
                }
                const int scale_0 = byte_of(sub < 4 ? scales[0].low : scales[0].high, sub & 3);
                const int scale_1 = byte_of(sub < 4 ? scales[1].low : scales[1].high, sub & 3);
#pragma unroll
                for (int n = 0; n < N; n++) {
                    const int2 b = *(const int2*)(x.q + (tile.read[n] + block) * 256ull + 32 * sub + 8 * tile.j);
                    int c[4] = {};
                    multiply_32(c, a, b.x, b.y);
                    sum[n][0] += scale_0 * c[0];
                    sum[n][1] += scale_0 * c[1];
                    sum[n][2] += scale_1 * c[2];
                    sum[n][3] += scale_1 * c[3];
                }
            }
        }
        float d[2], lowest[2];
#pragma unroll
        for (int r = 0; r < 2; r++) {
            d[r] = half_to_float((unsigned short)head[r].x);
            lowest[r] = half_to_float((unsigned short)(head[r].x >> 16));
        }
#pragma unroll
        for (int n = 0; n < N; n++) {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const i64 place = tile.result[n][i & 1] + (i64)block;
                const float step = x.d[place];
                const int under = minimums_sum(minimums[i >> 1], *(const int4*)(x.sums + place * 8));
                out[n][i] = __fmaf_rn((float)sum[n][i], __fmul_rn(step, d[i >> 1]), out[n][i]);
                below[n][i] = __fmaf_rn((float)under, __fmul_rn(step, lowest[i >> 1]), below[n][i]);
            }
        }
    }
#pragma unroll
    for (int n = 0; n < N; n++) {
#pragma unroll
        for (int i = 0; i < 4; i++) out[n][i] = __fadd_rn(out[n][i], -below[n][i]);
    }
}

// Q6_K. Lane j has bytes 4 j to 4 j + 3 of each run of 16, which have one scale; elements are kept times four.
__device__ __forceinline__ void tile_of_six(const Tile& tile, const Rounded x, float (&out)[N][4]) {
    const int blocks = (int)x.blocks;
#pragma unroll 1
    for (int block = 0; block < blocks; block++) {
        int sum[N][4] = {};
#pragma unroll 1
        for (int half = 0; half < 2; half++) {
            int top[2][2];  // row, run of 16
            int2 scales[2];
#pragma unroll
            for (int r = 0; r < 2; r++) {
                const u8* const bits = tile.rows[r] + blocks * 128 + block * 64 + 32 * half + 4 * tile.j;
                top[r][0] = *(const int*)bits;
                top[r][1] = *(const int*)(bits + 16);
                scales[r] = *(const int2*)(tile.rows[r] + (i64)blocks * 192 + block * 16 + 8 * half);
            }
#pragma unroll
            for (int odd = 0; odd < 2; odd++) {
#pragma unroll
                for (int run = 0; run < 2; run++) {
                    int halves[2];
#pragma unroll
                    for (int r = 0; r < 2; r++) {
                        halves[r] = *(const int*)(tile.rows[r] + block * 128 + 64 * half + 32 * odd + 16 * run + 4 * tile.j);
                    }
#pragma unroll
                    for (int high = 0; high < 2; high++) {
                        const int part = odd + 2 * high, sub = 2 * part + run;  // of the eight of this half
                        int a[2], scale[2];
#pragma unroll
                        for (int r = 0; r < 2; r++) {
                            const int low = high ? (halves[r] >> 2) & 0x3c3c3c3c : (halves[r] & 0x0f0f0f0f) << 2;
                            a[r] = (low | (((top[r][run] >> (2 * part)) & 0x03030303) << 6)) ^ 0x80808080;
                            scale[r] = sign_extended(sub < 4 ? scales[r].x : scales[r].y, sub & 3);
                        }
#pragma unroll
                        for (int n = 0; n < N; n++) {
                            const signed char* const q = x.q + (tile.read[n] + block) * 256ull;
                            int c[4] = {};
                            multiply_16(c, a[0], a[1], *(const int*)(q + 128 * half + 16 * sub + 4 * tile.j));
                            sum[n][0] += scale[0] * c[0];
                            sum[n][1] += scale[0] * c[1];
                            sum[n][2] += scale[1] * c[2];
                            sum[n][3] += scale[1] * c[3];
                        }
                    }
                }
            }
        }
        float d[2];
#pragma unroll
        for (int r = 0; r < 2; r++) d[r] = half_at(tile.rows[r] + (i64)blocks * 208 + 2 * block);
#pragma unroll
        for (int n = 0; n < N; n++) {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const float step = x.d[tile.result[n][i & 1] + (i64)block];
                out[n][i] = __fmaf_rn((float)(sum[n][i] >> 2), __fmul_rn(step, d[i >> 1]), out[n][i]);
            }
        }
    }
}

// Q8_0 and Q4_0: of 32 elements the lane has 8; eight chains, folded at the end. Q4_0's are kept times 16.
template <int KIND>
__device__ __forceinline__ void tile_of_small(const Tile& tile, i64 columns, const Rounded x, float (&out)[N][4]) {
    const int units = (int)(columns / 32), size = KIND == Q8_0 ? 32 : 16;
    const int first = (KIND == Q8_0 ? 8 : 4) * tile.j, second = KIND == Q8_0 ? 4 : 16;
    float folded[2][N][4];  // lanes 0 and 4, 2 and 6, then 1 and 5, 3 and 7, each pair as it is done
#pragma unroll
    for (int chain = 0; chain < 8; chain++) {
        const int lane = (chain & 1) * 4 + ((chain >> 1) & 1) * 2 + (chain >> 2);  // 0 4 2 6 1 5 3 7
        float total[N][4] = {};
#pragma unroll 1
        for (int unit = lane; unit < units; unit += 8) {
            int a[4];
            float scale[2];
#pragma unroll
            for (int r = 0; r < 2; r++) {
                const u8* const at = tile.rows[r] + (i64)unit * size + first;
                const int word = *(const int*)at;
                a[r] = KIND == Q8_0 ? word : ((word & 0x0f0f0f0f) << 4) ^ 0x80808080;
                a[2 + r] = KIND == Q8_0 ? *(const int*)(at + 4) : (word & 0xf0f0f0f0) ^ 0x80808080;
                scale[r] = half_at(tile.rows[r] + (i64)units * size + 2 * unit);
            }
#pragma unroll
            for (int n = 0; n < N; n++) {
                const signed char* const q = x.q + (tile.read[n] + (unit >> 3)) * 256ull + 32 * lane + first;
                int c[4] = {};
                multiply_32(c, a, *(const int*)q, *(const int*)(q + second));
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    const float step = x.d[tile.result[n][i & 1] + (unit >> 3)];
                    const int exact = KIND == Q8_0 ? c[i] : c[i] >> 4;
                    total[n][i] = __fmaf_rn((float)exact, __fmul_rn(scale[i >> 1], step), total[n][i]);
                }
            }
        }
#pragma unroll
        for (int n = 0; n < N; n++) {
#pragma unroll
            for (int i = 0; i < 4; i++) {  // ((0 + 4) + (2 + 6)) + ((1 + 5) + (3 + 7))
                float value = total[n][i];
                if (chain & 1) value = __fadd_rn(folded[0][n][i], value);
                if (!(chain & 1)) folded[0][n][i] = value;
                if (chain == 1 || chain == 5) folded[1][n][i] = value;
                if (chain == 3) out[n][i] = __fadd_rn(folded[1][n][i], value);
                if (chain == 7) out[n][i] = __fadd_rn(out[n][i], __fadd_rn(folded[1][n][i], value));
            }
        }
    }
}

// What both kernels do, given the token (row of activations) and the row of `out` of each of TOKENS.
template <class Index>
__device__ __forceinline__ void multiply_tile(
    int kind, const u8* weights, i64 row_bytes, i64 rows, i64 columns, const Rounded x, Index index, int tokens, i64 per,
    float* out, i64 stride, i64 column
) {
    const int lane = threadIdx.x & 31, r = lane >> 2;
    const i64 row = (i64)blockIdx.x * 64 + 16 * (threadIdx.x >> 5) + r;
    Tile tile;
    tile.j = lane & 3;
    tile.rows[0] = weights + (row < rows ? row : rows - 1) * row_bytes;
    tile.rows[1] = weights + (row + 8 < rows ? row + 8 : rows - 1) * row_bytes;
#pragma unroll
    for (int n = 0; n < N; n++) {
        tile.read[n] = (unsigned)(index(8 * n + r) / per * x.blocks);
        tile.result[n][0] = (unsigned)(index(8 * n + 2 * tile.j) / per * x.blocks);
        tile.result[n][1] = (unsigned)(index(8 * n + 2 * tile.j + 1) / per * x.blocks);
    }
    float found[N][4] = {};
    switch (kind) {
        case Q4_K: tile_of_five_or_four<Q4_K>(tile, x, found); break;
        case Q5_K: tile_of_five_or_four<Q5_K>(tile, x, found); break;
        case Q6_K: tile_of_six(tile, x, found); break;
        case Q8_0: tile_of_small<Q8_0>(tile, columns, x, found); break;
        default: tile_of_small<Q4_0>(tile, columns, x, found);
    }
#pragma unroll
    for (int n = 0; n < N; n++) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const int token = 8 * n + 2 * tile.j + (i & 1);
            const i64 to = row + 8 * (i >> 1);
            if (token < tokens && to < rows) out[index(token) * stride + column + to] = found[n][i];
        }
    }
}

// As `multiply` of blocks, by TOKENS tokens at a time. Grid: (ceil(rows / 64), ceil(T / 32)), 128 threads.
extern "C" __global__ void __launch_bounds__(128, 1) multiply_tiles(
    i64 kind, const u8* weights, i64 row_bytes, i64 rows, i64 columns, const signed char* q, const float* d,
    const short* sums, i64 T, float* out, i64 stride, i64 column
) {
    const Rounded x = {q, d, sums, (columns + 255) / 256};
    const i64 first = (i64)blockIdx.y * TOKENS;
    const int tokens = T - first < TOKENS ? (int)(T - first) : TOKENS;
    const auto index = [=](int t) { return first + (t < tokens ? t : tokens - 1); };
    multiply_tile((int)kind, weights, row_bytes, rows, columns, x, index, tokens, 1, out, stride, column);
}

// As `expert_multiply_8` of blocks, by tiles of 32 choices. Grid: (ceil(rows / 64), as many tiles as there can be).
extern "C" __global__ void __launch_bounds__(128, 1) expert_multiply_tiles(
    i64 kind, const u8* weights, i64 row_bytes, i64 rows, i64 columns, const signed char* q, const float* d,
    const short* sums, const i64* order, const i64* tiles, const i64* tile_count, i64 per, float* out, i64 stride,
    i64 column
) {
    if ((i64)blockIdx.y >= *tile_count) return;
    const Rounded x = {q, d, sums, (columns + 255) / 256};
    const i64* const tile = tiles + 3 * (i64)blockIdx.y;
    const int tokens = (int)tile[2];
    const i64* const choices = order + tile[1];
    const auto index = [=](int t) { return choices[t < tokens ? t : tokens - 1]; };
    const u8* const own = weights + tile[0] * rows * row_bytes;
    multiply_tile((int)kind, own, row_bytes, rows, columns, x, index, tokens, per, out, stride, column);
}
