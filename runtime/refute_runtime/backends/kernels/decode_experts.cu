// One token through its experts in three kernels: which ones; gate, up and SwiGLU; down and their weighted sum.

// RMSNorm of x (H,) by weight (H,), and the router's row e times it, by block e of 32 threads; the last block chooses
// the experts, see `route_token`: chosen int64 (K,), shares (K,), gaps (1,). The normed row is written to `normed`
// (H,) where it is not null and rounded to q, d, sums where q is not null. logits (E,): room. counters int32 (1,) zero.
// kind, weights, row_bytes: of the router, (E, H) of F32, F16 or BF16. Grid: (E,), 32 threads.
extern "C" __global__ void __launch_bounds__(32) route_one(
    const float* x, const float* weight, float eps, i64 H, i64 kind, const u8* weights, i64 row_bytes, i64 K,
    float* logits, i64* chosen, float* shares, float* gaps, float* normed, signed char* q, float* d, short* sums,
    int* counters
) {
    __shared__ float share[MOST_EXPERTS];
    const int lane = threadIdx.x;
    const i64 expert = blockIdx.x, E = gridDim.x, blocks = (H + 255) / 256;
    const Stored router = {(int)kind, weights, row_bytes, E};
    prefetch_unit(router, expert, lane);
    begin_after_prefetch();
    const float scale = norm_scale(x, H, eps, lane);
    const auto value = [&](int, i64 at) { return __fmul_rn(__fmul_rn(x[at], scale), weight[at]); };
    float found[1];
    float_dot<1>((int)kind, weights + expert * row_bytes, H, value, lane, found);
    if (lane == 0) logits[expert] = found[0];
    for (i64 block = expert; block < blocks; block += E) {
        float own[8];
#pragma unroll
        for (int i = 0; i < 8; i++) {
            const i64 at = block * 256 + 8 * lane + i;
            own[i] = at < H ? value(0, at) : 0.0f;
            if (normed && at < H) normed[at] = own[i];
        }
        if (q) round_block(own, 0, block, blocks, lane, q, d, sums);
    }
    if (!last_to_arrive(counters, (int)E)) return;
    for (int e = lane; e < E; e += 32) share[e] = fresh(logits + e);
    __syncwarp();
    route_token(share, (int)E, (int)K, lane, chosen, shares, gaps);
}

// h (K, F) = silu(gate) * up of the experts `chosen` (K,), of one rounded row q, d, sums, or of floats (C,). Where
// q_of is not null, the last block of threads of each 256 columns of h rounds these to q_of, d_of, sums_of (K rows).
// chosen null: the only matrices there are. gate and up: matrices of experts (rows F, C columns), one after the other.
// counters int32 (K, ceil(F / 256)) zero.
// Grid: (ceil(F / 8), K), or (ceil(F / 2), K) where gate or up is of floats; 64 threads.
extern "C" __global__ void __launch_bounds__(64) gate_up(
    i64 gate_kind, const u8* gate_weights, i64 gate_row_bytes, i64 up_kind, const u8* up_weights, i64 up_row_bytes, i64 F,
    i64 C, const signed char* q, const float* d, const short* sums, const float* floats, const i64* chosen, float* h,
    signed char* q_of, float* d_of, short* sums_of, int* counters
) {
    __shared__ Stage stage;
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    const i64 j = blockIdx.y, blocks = (F + 255) / 256;
    const bool one = is_float((int)gate_kind) || is_float((int)up_kind);
    const i64 rows = one ? 2 : 8, unit = (i64)blockIdx.x * 2 + warp;
    begin_after_prefetch();
    const i64 expert = chosen ? chosen[j] : 0;
    const Stored gate = {(int)gate_kind, gate_weights + expert * F * gate_row_bytes, gate_row_bytes, F};
    const Stored up = {(int)up_kind, up_weights + expert * F * up_row_bytes, up_row_bytes, F};
    const Rounded rounded = staged(stage, C);
    const auto value = [&](i64 at) { return floats[at]; };
    if (!one) {
        prefetch_unit(gate, unit, lane);
        prefetch_unit(up, unit, lane);
    }
    if (q) stage_rows(stage, q, d, sums, 1, C);
    __syncthreads();
    float a = 0.0f, b = 0.0f;
    i64 row = -1;
    if (!one) {
        if (unit * 4 < F) {
            unit_row<4>(gate, unit, C, rounded, value, lane, a);
            row = unit_row<4>(up, unit, C, rounded, value, lane, b);
        }
    } else if (unit < F) {  // one row: of four in a unit of blocks the first, which is given that row's address
        const Stored gate_row = {gate.kind, gate.weights + unit * gate.row_bytes, gate.row_bytes, 1};
        const Stored up_row = {up.kind, up.weights + unit * up.row_bytes, up.row_bytes, 1};
        unit_row<4>(gate_row, 0, C, rounded, value, lane, a);
        unit_row<4>(up_row, 0, C, rounded, value, lane, b);
        row = lane == 0 ? unit : -1;
    }
    if (row >= 0) h[j * F + row] = silu_times(a, b);
    if (!q_of) return;
    const i64 block = (i64)blockIdx.x * rows / 256, columns = F - block * 256 < 256 ? F - block * 256 : 256;
    if (!last_to_arrive(counters + j * blocks + block, (int)((columns + rows - 1) / rows))) return;
    if (warp != 0) return;
    float own[8];
#pragma unroll
    for (int i = 0; i < 8; i++) {
        const i64 at = block * 256 + 8 * lane + i;
        own[i] = at < F ? fresh(h + j * F + at) : 0.0f;
    }
    round_block(own, j, block, blocks, lane, q_of, d_of, sums_of);
}

// out (H,) = x + the sum over K of shares (K,) times the down matrices of the experts `chosen` (K,) times rows of
// K rounded rows q, d, sums, or of floats (K, F), in order. chosen null: the only matrix there is; shares null: the
// first result itself. kind, weights, row_bytes: matrices of experts (H rows, F columns). out may be x.
// Grid: (ceil(H / 4),), 128 threads: a warp has a row of all experts.
extern "C" __global__ void __launch_bounds__(128) down_add(
    i64 kind, const u8* weights, i64 row_bytes, i64 H, i64 F, const signed char* q, const float* d, const short* sums,
    const float* floats, const i64* chosen, const float* shares, i64 K, const float* x, float* out
) {
    __shared__ Stage stage;
    const int lane = threadIdx.x & 31, group = lane >> 3;
    const i64 row = (i64)blockIdx.x * 4 + (threadIdx.x >> 5);
    const bool whole = !is_float((int)kind);
    begin_after_prefetch();
    if (whole && row < H && lane < K) {  // a lane to an expert
        const u8* const at = weights + ((chosen ? chosen[lane] : 0) * H + row) * row_bytes;
        for (i64 line = 0; line < row_bytes; line += 128) prefetch(at + line);
    }
    if (whole) stage_rows(stage, q, d, sums, K, F);
    __syncthreads();
    if (row >= H) return;
    const Rounded rounded = staged(stage, F);
    float total = 0.0f, found[1];
    if (whole) {
        for (i64 first = 0; first < K; first += 4) {  // four experts at once
            const i64 slot = first + group < K ? first + group : K - 1, token[1] = {slot};
            const u8* const at = weights + ((chosen ? chosen[slot] : 0) * H + row) * row_bytes;
            block_row<1>((int)kind, at, F, rounded, token, lane_of(lane), found);
#pragma unroll
            for (int of = 0; of < 4; of++) {
                const float result = __shfl_sync(ALL, found[0], 8 * of);
                if (first + of < K) total = shares ? __fmaf_rn(shares[first + of], result, total) : result;
            }
        }
    } else {
        for (i64 slot = 0; slot < K; slot++) {
            const u8* const at = weights + ((chosen ? chosen[slot] : 0) * H + row) * row_bytes;
            const auto value = [&](int, i64 i) { return floats[slot * F + i]; };
            float_dot<1>((int)kind, at, F, value, lane, found);
            total = shares ? __fmaf_rn(shares[slot], found[0], total) : found[0];
        }
    }
    if (lane == 0) out[row] = __fadd_rn(x[row], total);
}
