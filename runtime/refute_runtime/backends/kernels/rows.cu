// Rows of tokens one by one: embedding, norms, rounding, sums.

// Element `i` of a stored row of `columns` elements, dequantized as `quant.py` does it.
__device__ __forceinline__ float element(int kind, const u8* row, i64 columns, i64 i) {
    const i64 block = i >> 8;
    const int at = (int)(i & 255), sub = at >> 5;
    if (is_float(kind)) return stored_float(kind, row, i);
    if (kind == Q8_0 || kind == Q4_0) {
        const i64 units = columns / 32, unit = i >> 5;
        const int in = (int)(i & 31);
        const float scale = half_at(row + units * (kind == Q8_0 ? 32 : 16) + 2 * unit);
        if (kind == Q8_0) return __fmul_rn((float)((const signed char*)row)[i], scale);
        return __fmul_rn(scale, (float)(((row[unit * 16 + (in & 15)] >> (4 * (in >> 4))) & 15) - 8));
    }
    if (kind == Q6_K) {
        const i64 blocks = columns >> 8;
        const int half = at >> 7, part = sub & 3;
        int q = (row[block * 128 + 64 * half + 32 * (part & 1) + (at & 31)] >> (4 * (part >> 1))) & 15;
        q |= ((row[blocks * 128 + block * 64 + 32 * half + (at & 31)] >> (2 * part)) & 3) << 4;
        const float scale = (float)((const signed char*)row)[blocks * 192 + block * 16 + (at >> 4)];
        return __fmul_rn(__fmul_rn(half_at(row + blocks * 208 + 2 * block), scale), (float)(q - 32));
    }
    const u8* const in = row + block * (kind == Q5_K ? 176 : 144);
    const int a = in[4 + (sub & 3)], b = in[8 + (sub & 3)], c = in[12 + (sub & 3)];
    const int scale = sub < 4 ? a & 63 : (c & 15) | ((a >> 2) & 48);
    const int minimum = sub < 4 ? b & 63 : (c >> 4) | ((b >> 2) & 48);
    int q = (in[(kind == Q5_K ? 48 : 16) + 32 * (sub >> 1) + (at & 31)] >> (4 * (sub & 1))) & 15;
    if (kind == Q5_K) q |= ((in[16 + (at & 31)] >> sub) & 1) << 4;
    const float d = __fmul_rn(half_at(in), (float)scale), m = __fmul_rn(half_at(in + 2), (float)minimum);
    return __fadd_rn(__fmul_rn(d, (float)q), -m);
}

// out (T, columns) = rows tokens[t] of a stored table. tokens: int64 (T,); while decoding, the state.
// Grid: (T,), 256 threads.
extern "C" __global__ void __launch_bounds__(256) embed(
    i64 kind, const u8* table, i64 row_bytes, i64 columns, const i64* tokens, float* out
) {
    begin_after_prefetch();
    const u8* const row = table + tokens[blockIdx.x] * row_bytes;
    for (i64 i = threadIdx.x; i < columns; i += 256) {
        out[blockIdx.x * columns + i] = element((int)kind, row, columns, i);
    }
}

// RMSNorm of rows x (T, H) by weight (H,). out (T, H) and the rounded rows q, d, sums are each written where
// they are not null. Grid: (T,), 256 threads: every warp computes the scale, and rounds every eighth block.
extern "C" __global__ void __launch_bounds__(256) rms_norm(
    const float* x, const float* weight, float eps, i64 H, float* out, signed char* q, float* d, short* sums
) {
    begin_after_prefetch();
    const int lane = threadIdx.x & 31;
    const i64 t = blockIdx.x, blocks = (H + 255) / 256;
    const float* const row = x + t * H;
    const float scale = norm_scale(row, H, eps, lane);
    for (i64 block = threadIdx.x >> 5; block < blocks; block += 8) {
        float value[8];
#pragma unroll
        for (int i = 0; i < 8; i++) {
            const i64 at = block * 256 + 8 * lane + i;
            value[i] = at < H ? __fmul_rn(__fmul_rn(row[at], scale), weight[at]) : 0.0f;
            if (out && at < H) out[t * H + at] = value[i];
        }
        if (q) round_block(value, t, block, blocks, lane, q, d, sums);
    }
}

// Element `at` of row t by `value_of(t, at)`, of rows of C: into out (T, C), and rounded, each where it is not null.
// A warp has a block of a row. Grid: (ceil(T * B / 8),), 256 threads.
template <typename Value>
__device__ __forceinline__ void rows_of(
    i64 T, i64 C, float* out, signed char* q, float* d, short* sums, const Value& value_of
) {
    const int lane = threadIdx.x & 31;
    const i64 blocks = (C + 255) / 256, task = (i64)blockIdx.x * 8 + (threadIdx.x >> 5);
    if (task >= T * blocks) return;
    const i64 t = task / blocks, block = task % blocks;
    float value[8];
#pragma unroll
    for (int i = 0; i < 8; i++) {
        const i64 at = block * 256 + 8 * lane + i;
        value[i] = at < C ? value_of(t, at) : 0.0f;
        if (out && at < C) out[t * C + at] = value[i];
    }
    if (q) round_block(value, t, block, blocks, lane, q, d, sums);
}

// Round rows x (T, C). Grid as `rows_of`.
extern "C" __global__ void __launch_bounds__(256) round_rows(
    const float* x, i64 T, i64 C, signed char* q, float* d, short* sums
) {
    rows_of(T, C, 0, q, d, sums, [&](i64 t, i64 at) { return x[t * C + at]; });
}

// silu(gate) * up of rows of F floats, `stride` apart. out (T, F) and the rounded rows are each written where
// they are not null. Grid as `rows_of`.
extern "C" __global__ void __launch_bounds__(256) swiglu(
    const float* gate, const float* up, i64 stride, i64 T, i64 F, float* out, signed char* q, float* d, short* sums
) {
    rows_of(T, F, out, q, d, sums, [&](i64 t, i64 at) {
        return silu_times(gate[t * stride + at], up[t * stride + at]);
    });
}

// out = x + y of `count` floats; out may be x. Grid: (ceil(count / 256),), 256 threads.
extern "C" __global__ void __launch_bounds__(256) add(const float* x, const float* y, i64 count, float* out) {
    const i64 i = (i64)blockIdx.x * 256 + threadIdx.x;
    if (i < count) out[i] = __fadd_rn(x[i], y[i]);
}

// Sum over K of shares (T, K) times results (T * K, H), in order; plus x (T, H) where it is not null.
// out (T, H) may be x. Grid: (ceil(H / 256), T), 256 threads.
extern "C" __global__ void __launch_bounds__(256) weighted_sum(
    const float* results, const float* shares, const float* x, i64 K, i64 H, float* out
) {
    const i64 i = (i64)blockIdx.x * 256 + threadIdx.x, t = blockIdx.y;
    if (i >= H) return;
    float total = 0.0f;
    for (i64 j = 0; j < K; j++) total = __fmaf_rn(shares[t * K + j], results[(t * K + j) * H + i], total);
    out[t * H + i] = x ? __fadd_rn(x[t * H + i], total) : total;
}
