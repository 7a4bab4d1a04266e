// Integer products on tensor cores: a warp multiplies 16 rows of weights by 8 tokens. The host's stand-in, which
// gathers by shuffles what each lane multiplies, gives the same integers.
//
// Lane 4 r + j holds of A four elements of row r, then of row r + 8 (and the same again for 32 elements a row), of B
// four (or twice four) of token r, and of the result rows r and r + 8 of tokens 2 j and 2 j + 1. Which elements of a
// row `four` are does not matter, as long as they are the same in A and B.

#ifdef __CUDA_ARCH__
__device__ __forceinline__ void multiply_32(int (&c)[4], const int (&a)[4], int b_0, int b_1) {
    asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b_0), "r"(b_1));
}

__device__ __forceinline__ void multiply_16(int (&c)[4], int a_0, int a_1, int b) {
    asm("mma.sync.aligned.m16n8k16.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
        : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
        : "r"(a_0), "r"(a_1), "r"(b));
}

// sum + two int16 of `pair` times the bytes 2 half and 2 half + 1 of `bytes`.
template <int HALF>
__device__ __forceinline__ int dot2(int pair, int bytes, int sum) {
    return HALF ? __dp2a_hi(pair, bytes, sum) : __dp2a_lo(pair, bytes, sum);
}
#else
__device__ __forceinline__ void multiply_16(int (&c)[4], int a_0, int a_1, int b) {
    const int lane = threadIdx.x & 31;
    for (int j = 0; j < 4; j++) {
        const int upper = __shfl_sync(ALL, a_0, (lane & ~3) + j), lower = __shfl_sync(ALL, a_1, (lane & ~3) + j);
        const int even = __shfl_sync(ALL, b, 8 * (lane & 3) + j), odd = __shfl_sync(ALL, b, 8 * (lane & 3) + 4 + j);
        c[0] = __dp4a(upper, even, c[0]);
        c[1] = __dp4a(upper, odd, c[1]);
        c[2] = __dp4a(lower, even, c[2]);
        c[3] = __dp4a(lower, odd, c[3]);
    }
}

__device__ __forceinline__ void multiply_32(int (&c)[4], const int (&a)[4], int b_0, int b_1) {
    multiply_16(c, a[0], a[1], b_0);
    multiply_16(c, a[2], a[3], b_1);
}

template <int HALF>
__device__ __forceinline__ int dot2(int pair, int bytes, int sum) {
    sum += (int)(short)pair * sign_extended(bytes, 2 * HALF);
    return sum + (pair >> 16) * sign_extended(bytes, 2 * HALF + 1);
}
#endif
