// A matrix of any type times 1, 4 or 8 tokens that lie side by side.

// out[t * stride + column + r] = row r of `weights` times token t.
//
// kind: the weights' type. weights: `rows` rows, `row_bytes` apart, of `columns` elements. q, d, sums: T rows of
// rounded activations, for blocks. x: the same (T, columns) as float32, for floats. Either may be null where
// the kind does not need it.
// Block: 128 threads; a warp has four rows of blocks (eight lanes each) or one row of floats.
// Grid: (ceil(rows / 16) or ceil(rows / 4), ceil(T / W)). Tokens beyond T are computed as the last one and
// not written.
template <int W>
__device__ __forceinline__ void multiply(
    int kind, const u8* weights, i64 row_bytes, i64 rows, i64 columns, const Rounded x, const float* floats, i64 T,
    float* out, i64 stride, i64 column
) {
    const int lane = threadIdx.x & 31;
    const i64 warp = (i64)blockIdx.x * 4 + (threadIdx.x >> 5), first = (i64)blockIdx.y * W;
    i64 token[W];
#pragma unroll
    for (int t = 0; t < W; t++) token[t] = first + t < T ? first + t : T - 1;
    const bool whole = !is_float(kind);
    const i64 row = whole ? 4 * warp + (lane >> 3) : warp, read = row < rows ? row : rows - 1;
    float found[W];
    if (whole) {
        block_row<W>(kind, weights + read * row_bytes, columns, x, token, lane_of(lane), found);
    } else {
        const auto value = [&](int t, i64 at) { return floats[token[t] * columns + at]; };
        float_dot<W>(kind, weights + read * row_bytes, columns, value, lane, found);
    }
    if (row >= rows || (whole ? lane & 7 : lane) != 0) return;
#pragma unroll
    for (int t = 0; t < W; t++) {
        if (first + t < T) out[(first + t) * stride + column + row] = found[t];
    }
}

#define MULTIPLY(NAME, W)                                                                                       \
    extern "C" __global__ void __launch_bounds__(128, 1) NAME(                                                     \
        i64 kind, const u8* weights, i64 row_bytes, i64 rows, i64 columns, const signed char* q, const float* d, \
        const short* sums, const float* x, i64 T, float* out, i64 stride, i64 column                            \
    ) {                                                                                                         \
        const Rounded rounded = {q, d, sums, (columns + 255) / 256};                                            \
        multiply<W>((int)kind, weights, row_bytes, rows, columns, rounded, x, T, out, stride, column);          \
    }

MULTIPLY(multiply_1, 1)
MULTIPLY(multiply_4, 4)
MULTIPLY(multiply_8, 8)
