// Which experts a token goes to.

#define MOST_EXPERTS 1024
#define MOST_CHOSEN 32

// Sum of `count` floats in shared memory, as one warp adds them: 16 lanes, folded, and what is left behind the
// last 16 one by one.
__device__ __forceinline__ float lanes_total(const float* values, int count, int lane) {
    const int whole = count & ~15;
    float total = 0.0f, rest = 0.0f;
    for (int i = lane & 15; i < whole; i += 16) total = __fadd_rn(total, values[i]);
    for (int i = whole; i < count; i++) rest = __fadd_rn(rest, values[i]);
    return __fadd_rn(half_total(total), rest);
}

// Softmax over E experts by one warp: share, in shared memory, holds the logits and then their exponentials. The
// K most likely ones, the lower id first of two equal ones: chosen (K,), ascending; shares (K,), which sum to 1;
// gap: the last one chosen minus the first one not.
__device__ __forceinline__ void route_token(float* share, int E, int K, int lane, i64* chosen, float* shares, float* gap) {
    __shared__ bool taken[MOST_EXPERTS];
    __shared__ float picked[MOST_CHOSEN], edge[2];  // edge: the last one chosen, the first one not
    float top = BELOW_ALL;
    for (int e = lane; e < E; e += 32) top = share[e] > top ? share[e] : top;
    top = warp_highest(top);
    for (int e = lane; e < E; e += 32) {
        share[e] = exponential(__fadd_rn(share[e], -top));
        taken[e] = false;
    }
    if (lane == 0) edge[1] = 0.0f;
    __syncwarp();
    const float total = lanes_total(share, E, lane);
    if (total == total) {
        for (int e = lane; e < E; e += 32) {  // its place is how many come before it
            const float own = share[e];
            int rank = 0;
            for (int other = 0; other < E; other++) rank += share[other] > own || (share[other] == own && other < e);
            taken[e] = rank < K;
            if (rank == K - 1 || rank == K) edge[rank - K + 1] = __fdiv_rn(own, total);
        }
    } else {
        // What is NaN is larger than nothing and smaller than nothing: the first one free is taken if it is NaN,
        // else the largest that is not.
        for (int rank = 0; rank < K; rank++) {
            int first = -1, best = -1;
            for (int e = 0; e < E; e++) {
                if (taken[e]) continue;
                if (first < 0) first = e;
                if (share[e] == share[e] && (best < 0 || share[e] > share[best])) best = e;
            }
            const int id = share[first] != share[first] ? first : best;
            __syncwarp();
            if (lane == 0) taken[id] = true;
            __syncwarp();
        }
        if (lane == 0) edge[0] = edge[1] = NOT_A_NUMBER;
    }
    __syncwarp();
    int slots = 0;
    for (int from = 0; from < E; from += 32) {
        const int e = from + lane;
        const bool mine = e < E && taken[e];
        const unsigned all = __ballot_sync(ALL, mine);
        const int slot = slots + bits_set(all & ((1u << lane) - 1));
        if (mine) chosen[slot] = e, picked[slot] = __fdiv_rn(share[e], total);
        slots += bits_set(all);
    }
    __syncwarp();
    float sum = 0.0f;
    for (int j = 0; j < K; j++) sum = __fadd_rn(sum, picked[j]);
    if (lane < K) shares[lane] = __fdiv_rn(picked[lane], sum);
    if (lane == 0) *gap = K == E ? edge[0] : __fadd_rn(edge[0], -edge[1]);
}
