// Activations of one token in shared memory, and warps that multiply them by rows of matrices: what the kernels
// of decoding are made of.

#define MOST_COLUMNS 16384 /* activations that fit */

// Room for one token's rounded activations.
struct Stage {
    int4 q[MOST_COLUMNS / 16];
    float d[MOST_COLUMNS / 256];
    short sums[MOST_COLUMNS / 32];
};

__device__ __forceinline__ Rounded staged(Stage& stage, i64 columns) {
    const Rounded found = {(const signed char*)stage.q, stage.d, stage.sums, (columns + 255) / 256};
    return found;
}

// Copy `rows` rounded rows, by all threads of the block; nobody may read before they have met.
__device__ __forceinline__ void stage_rows(
    Stage& stage, const signed char* q, const float* d, const short* sums, i64 rows, i64 columns
) {
    const i64 blocks = rows * ((columns + 255) / 256);
    for (i64 i = threadIdx.x; i < blocks * 16; i += blockDim.x) stage.q[i] = ((const int4*)q)[i];
    for (i64 i = threadIdx.x; i < blocks; i += blockDim.x) stage.d[i] = d[i];
    for (i64 i = threadIdx.x; i < blocks * 8; i += blockDim.x) stage.sums[i] = sums[i];
}

// A matrix that a kernel is given.
struct Stored {
    int kind;
    const u8* weights;
    i64 row_bytes, rows;
};

// Pieces of work of a warp: four rows of blocks, or one row of floats.
__device__ __forceinline__ i64 units_of(const Stored m) { return is_float(m.kind) ? m.rows : (m.rows + 3) / 4; }

__device__ __forceinline__ void prefetch_unit(const Stored m, i64 unit, int lane) {
    const bool one = is_float(m.kind);
    i64 row = one ? unit : 4 * unit + (lane >> 3);
    if (row >= m.rows) row = m.rows - 1;
    const u8* const at = m.weights + row * m.row_bytes;
    for (i64 line = one ? lane : lane & 7; line * 128 < m.row_bytes; line += one ? 32 : 8) prefetch(at + line * 128);
}

// Compute a unit: the total of row 4 unit + lane / 8 in eight lanes each, or of row `unit` in all lanes. Gives
// that row, or -1 in lanes that have none to write. value(at): an activation as float32, for floats.
template <int AHEAD = 8, class Value>
__device__ __forceinline__ i64 unit_row(
    const Stored m, i64 unit, i64 columns, const Rounded x, Value value, int lane, float& out
) {
    float found[1];
    if (is_float(m.kind)) {
        const auto first = [&](int, i64 at) { return value(at); };
        float_dot<1>(m.kind, m.weights + unit * m.row_bytes, columns, first, lane, found);
        out = found[0];
        return lane == 0 ? unit : -1;
    }
    const i64 row = 4 * unit + (lane >> 3), token[1] = {0};
    block_row<1, AHEAD>(
        m.kind, m.weights + (row < m.rows ? row : m.rows - 1) * m.row_bytes, columns, x, token, lane_of(lane), found
    );
    out = found[0];
    return (lane & 7) == 0 && row < m.rows ? row : -1;
}
