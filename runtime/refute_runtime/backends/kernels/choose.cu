// The end of a decoded token: the highest logit, and the state that the next token begins with.

// Order of logits: NaN above all as NumPy has it, the lower id first of two equal ones.
__device__ __forceinline__ bool above(float value, i64 id, float other, i64 other_id) {
    const bool none = value != value, other_none = other != other;
    if (none || other_none) return none && (!other_none || id < other_id);
    return value > other || (value == other && id < other_id);
}

// Two highest of a set: ids, so that one of them twice in two sets does not count twice; -1 for none.
struct Highest {
    float first, second;
    i64 id, second_id;
};

__device__ __forceinline__ void take(Highest& of, float value, i64 id) {
    if (id < 0) return;
    if (of.id < 0 || above(value, id, of.first, of.id)) {
        of.second = of.first, of.second_id = of.id;
        of.first = value, of.id = id;
    } else if (of.second_id < 0 || above(value, id, of.second, of.second_id)) {
        of.second = value, of.second_id = id;
    }
}

// Greedy: the id of the highest of `logits` (V,), the lowest of equal ones. state becomes that of the next
// token, see TOKEN: LENGTH, POSITION and STEP each grow by one. ring int64 (entries, 4), memory that the host
// sees: entry STEP % entries gets the id, top logit and second as two float32 (the second in the upper half;
// minus infinity where there is none), how many logits are not finite, and last of all STEP + 1, which tells
// the host that the entry is there. Grid: (1,), 1024 threads.
extern "C" __global__ void __launch_bounds__(1024) choose(const float* logits, i64 V, i64* state, i64* ring, i64 entries) {
    __shared__ Highest found[32];
    __shared__ int flaws[32];
    begin_after_prefetch();
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    Highest own = {BELOW_ALL, BELOW_ALL, -1, -1};
    int bad = 0;
    for (i64 from = threadIdx.x; from < V; from += 8 * 1024) {
        float value[8];
#pragma unroll
        for (int i = 0; i < 8; i++) value[i] = from + 1024 * i < V ? logits[from + 1024 * i] : 0.0f;
#pragma unroll
        for (int i = 0; i < 8; i++) {
            if (from + 1024 * i >= V) break;
            bad += (__float_as_int(value[i]) & 0x7f800000) == 0x7f800000;
            take(own, value[i], from + 1024 * i);
        }
    }
    for (int step = 0; step < 2; step++) {
#pragma unroll
        for (int apart = 16; apart > 0; apart >>= 1) {
            Highest other;
            other.first = __shfl_xor_sync(ALL, own.first, apart);
            other.second = __shfl_xor_sync(ALL, own.second, apart);
            other.id = (int)__shfl_xor_sync(ALL, (int)own.id, apart);
            other.second_id = (int)__shfl_xor_sync(ALL, (int)own.second_id, apart);
            bad += __shfl_xor_sync(ALL, bad, apart);
            take(own, other.first, other.id);
            take(own, other.second, other.second_id);
        }
        if (step == 1) break;
        if (lane == 0) found[warp] = own, flaws[warp] = bad;
        __syncthreads();
        if (warp != 0) return;
        own = found[lane], bad = flaws[lane];
    }
    if (lane != 0) return;
    const i64 step = state[STEP];
    state[TOKEN] = own.id;
    state[POSITION] += 1;
    state[LENGTH] += 1;
    state[STEP] = step + 1;
    if (!ring) return;
    volatile i64* const entry = ring + 4 * (step % entries);
    entry[0] = own.id;
    entry[1] = ((i64)__float_as_int(own.second) << 32) | (unsigned)__float_as_int(own.first);
    entry[2] = bad;
    host_sees();
    entry[3] = step + 1;
}
