// Rows of quantized blocks times rounded activations. Eight lanes of a warp go through a row together, so a
// warp has four rows: the eight load 128 adjacent bytes, add the block's integers by three shuffles, and each
// of them then holds the block's integer and carries the row's float chain, block after block.

// A row as all its blocks read it: `lane` is that of the eight.
struct Lane {
    int lane;
    int pair, half;  // of the 64 elements that 32 bytes of halves hold, and of which 16 of these bytes
};

__device__ __forceinline__ Lane lane_of(int lane) {
    Lane found;
    found.lane = lane & 7;
    found.pair = found.lane >> 1;
    found.half = found.lane & 1;
    return found;
}

__device__ __forceinline__ int dot16(const int (&w)[4], const int4 x, int sum) {
    sum = __dp4a(w[0], x.x, sum);
    sum = __dp4a(w[1], x.y, sum);
    sum = __dp4a(w[2], x.z, sum);
    return __dp4a(w[3], x.w, sum);
}

__device__ __forceinline__ void halves_of(const int4 packed, int (&low)[4], int (&high)[4]) {
    const int words[4] = {packed.x, packed.y, packed.z, packed.w};
#pragma unroll
    for (int i = 0; i < 4; i++) {
        low[i] = words[i] & 0x0f0f0f0f;
        high[i] = (words[i] >> 4) & 0x0f0f0f0f;
    }
}

// What a lane reads of a block, before anything is computed with it, so that several blocks are on their way.
struct Raw {
    int4 head;    // Q4_K, Q5_K: d, dmin, 12 bytes of scales. Q6_K: the lane's two scales, and d
    int4 packed;  // 16 bytes of halves
    int4 top;     // 16 bytes of the bits above these
};

// Q4_K: head 16 bytes, then 4 x 32 bytes: a sub-block of 32 in the low halves, the next one in the high halves.
// Q5_K has 32 bytes of fifth bits before these: bit s of byte i belongs to element i of sub-block s.
// Q6_K: 2 x 64 bytes of low halves, 2 x 32 of upper two bits; its planes are described in common.cuh.
template <int KIND>
__device__ __forceinline__ Raw read_block(const u8* row, i64 blocks, i64 block, const Lane at) {
    Raw raw;
    if (KIND == Q6_K) {
        const int upper = at.lane >> 2, odd = (at.lane >> 1) & 1;
        raw.packed = *(const int4*)(row + block * 128 + 16 * at.lane);
        raw.top = *(const int4*)(row + blocks * 128 + block * 64 + 32 * upper + 16 * at.half);
        const signed char* const scales = (const signed char*)row + blocks * 192 + block * 16 + 8 * upper + 2 * odd;
        raw.head.x = scales[at.half];
        raw.head.y = scales[at.half + 4];
        raw.head.z = *(const unsigned short*)(row + blocks * 208 + 2 * block);
    } else {
        const u8* const from = row + block * (KIND == Q5_K ? 176 : 144);
        raw.head = *(const int4*)from;
        raw.packed = *(const int4*)(from + (KIND == Q5_K ? 48 : 16) + 16 * at.lane);
        if (KIND == Q5_K) raw.top = *(const int4*)(from + 16 + 16 * at.half);
    }
    return raw;
}

// What a lane has of a block: two runs of 16 elements, their scales, and what its chain multiplies with.
struct Part {
    int low[4], high[4];
    int low_scale, high_scale, minimum;
    float scale;  // of the elements in even lanes, of the minimums in odd ones; Q6_K has no minimums
};

template <int KIND>
__device__ __forceinline__ Part part_of(const Raw raw, const Lane at) {
    Part part;
    const int tops[4] = {raw.top.x, raw.top.y, raw.top.z, raw.top.w};
    if (KIND == Q6_K) {
        // An element q - 32 is kept times four, as int8: its six bits at the top with the highest one turned
        // over. A block's integer is exact, and so is its fourth.
        const int words[4] = {raw.packed.x, raw.packed.y, raw.packed.z, raw.packed.w};
        const int shift = 2 * ((at.lane >> 1) & 1);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const int low = ((tops[i] >> shift) & 0x03030303) << 6;
            const int high = ((tops[i] >> (4 + shift)) & 0x03030303) << 6;
            part.low[i] = (((words[i] & 0x0f0f0f0f) << 2) | low) ^ 0x80808080;
            part.high[i] = (((words[i] >> 2) & 0x3c3c3c3c) | high) ^ 0x80808080;
        }
        part.low_scale = raw.head.x;
        part.high_scale = raw.head.y;
        part.minimum = 0;
        part.scale = half_to_float((unsigned short)raw.head.z);
        return part;
    }
    const int4 head = raw.head;
    const int low_scales = head.y & 0x3f3f3f3f, low_minimums = head.z & 0x3f3f3f3f;
    const int high_scales = (head.w & 0x0f0f0f0f) | ((head.y >> 2) & 0x30303030);
    const int high_minimums = ((head.w >> 4) & 0x0f0f0f0f) | ((head.z >> 2) & 0x30303030);
    const int scales = at.pair < 2 ? low_scales : high_scales;
    part.low_scale = byte_of(scales, 2 * (at.pair & 1));
    part.high_scale = byte_of(scales, 2 * (at.pair & 1) + 1);
    part.minimum = byte_of(at.lane < 4 ? low_minimums : high_minimums, at.lane & 3);
    part.scale = half_to_float((unsigned short)((at.lane & 1) ? head.x >> 16 : head.x));
    halves_of(raw.packed, part.low, part.high);
    if (KIND == Q5_K) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            part.low[i] |= ((tops[i] >> (2 * at.pair)) & 0x01010101) << 4;
            part.high[i] |= ((tops[i] >> (2 * at.pair + 1)) & 0x01010101) << 4;
        }
    }
    return part;
}

// The block's integer of elements (in odd lanes, where there are minimums, that of these), in all of the eight.
template <int KIND>
__device__ __forceinline__ int block_integer(const Part& part, const Rounded x, i64 place, int low, const Lane at) {
    const signed char* const q = x.q + place * 256 + low;
    int sum = part.low_scale * dot16(part.low, *(const int4*)q, 0);
    sum += part.high_scale * dot16(part.high, *(const int4*)(q + (KIND == Q6_K ? 64 : 32)), 0);
    if (KIND == Q6_K) {
        sum += __shfl_xor_sync(ALL, sum, 1);
    } else {  // even lanes go on with the elements, odd ones with the minimums
        const int below = part.minimum * x.sums[place * 8 + at.lane];
        const int other = __shfl_xor_sync(ALL, at.half ? sum : below, 1);
        sum = (at.half ? below : sum) + other;
    }
    sum += __shfl_xor_sync(ALL, sum, 2);
    sum += __shfl_xor_sync(ALL, sum, 4);
    return KIND == Q6_K ? sum >> 2 : sum;
}

// Q4_K, Q5_K and Q6_K. AHEAD blocks are read before the first of them is computed with.
template <int KIND, int W, int AHEAD>
__device__ __forceinline__ void k_row(
    const u8* row, const Rounded x, const i64 (&token)[W], const Lane at, float (&out)[W]
) {
    const int low = KIND == Q6_K ? 128 * (at.lane >> 2) + 32 * ((at.lane >> 1) & 1) + 16 * at.half
                                 : 64 * at.pair + 16 * at.half;
    float chain[W] = {};
#pragma unroll 1
    for (i64 first = 0; first < x.blocks; first += AHEAD) {
        Raw raw[AHEAD];
#pragma unroll
        for (int i = 0; i < AHEAD; i++) {
            raw[i] = read_block<KIND>(row, x.blocks, first + i < x.blocks ? first + i : x.blocks - 1, at);
        }
#pragma unroll
        for (int i = 0; i < AHEAD; i++) {
            if (first + i >= x.blocks) break;
            const Part part = part_of<KIND>(raw[i], at);
#pragma unroll
            for (int t = 0; t < W; t++) {
                const i64 place = token[t] * x.blocks + first + i;
                const int sum = block_integer<KIND>(part, x, place, low, at);
                chain[t] = __fmaf_rn((float)sum, __fmul_rn(x.d[place], part.scale), chain[t]);
            }
        }
    }
#pragma unroll
    for (int t = 0; t < W; t++) {
        const float other = __shfl_xor_sync(ALL, chain[t], 1);
        out[t] = KIND == Q6_K ? chain[t] : __fadd_rn(at.half ? other : chain[t], -(at.half ? chain[t] : other));
    }
}

// Q8_0 and Q4_0, blocks of 32: each lane has every eighth block and a chain of its own; the eight are folded.
template <int KIND, int W>
__device__ __forceinline__ void small_row(
    const u8* row, i64 columns, const Rounded x, const i64 (&token)[W], const Lane at, float (&out)[W]
) {
    const i64 units = columns / 32;
    const u8* const scales = row + units * (KIND == Q8_0 ? 32 : 16);
    float chain[W] = {};
#pragma unroll(W == 1 ? 4 : 1)
    for (i64 unit = at.lane; unit < units; unit += 8) {
        int low[4], high[4];
        if (KIND == Q8_0) {
            const int4 a = *(const int4*)(row + unit * 32), b = *(const int4*)(row + unit * 32 + 16);
            low[0] = a.x, low[1] = a.y, low[2] = a.z, low[3] = a.w;
            high[0] = b.x, high[1] = b.y, high[2] = b.z, high[3] = b.w;
        } else {
            halves_of(*(const int4*)(row + unit * 16), low, high);
        }
        const float scale = half_at(scales + 2 * unit);
#pragma unroll
        for (int t = 0; t < W; t++) {
            const i64 place = token[t] * x.blocks + (unit >> 3);
            const int4* const q = (const int4*)(x.q + place * 256 + 32 * at.lane);
            int sum = dot16(high, q[1], dot16(low, q[0], 0));
            if (KIND == Q4_0) sum -= 8 * x.sums[place * 8 + at.lane];
            chain[t] = __fmaf_rn((float)sum, __fmul_rn(scale, x.d[place]), chain[t]);
        }
    }
#pragma unroll
    for (int t = 0; t < W; t++) {
        float total = chain[t];
#pragma unroll
        for (int apart = 4; apart > 0; apart >>= 1) total = __fadd_rn(total, __shfl_xor_sync(ALL, total, apart));
        out[t] = total;
    }
}

__device__ __forceinline__ bool is_float(int kind) { return kind == F32 || kind == F16 || kind == BF16; }

// Rows of any type of blocks with W tokens; `kind` is the same in all lanes. A total is in all of the eight.
template <int W, int AHEAD = W == 1 ? 8 : 1>
__device__ __forceinline__ void block_row(
    int kind, const u8* row, i64 columns, const Rounded x, const i64 (&token)[W], const Lane at, float (&out)[W]
) {
    switch (kind) {
        case Q4_K: return k_row<Q4_K, W, AHEAD>(row, x, token, at, out);
        case Q5_K: return k_row<Q5_K, W, AHEAD>(row, x, token, at, out);
        case Q6_K: return k_row<Q6_K, W, AHEAD>(row, x, token, at, out);
        case Q8_0: return small_row<Q8_0, W>(row, columns, x, token, at, out);
        default: return small_row<Q4_0, W>(row, columns, x, token, at, out);
    }
}
