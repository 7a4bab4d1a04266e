// What all kernels share: `*.cuh` are put before each of them by text, in
// alphabetical order, so that they need no header and no include path.
//
// The numerics are `q8`, bit for bit those of the `cpu` backend: integers within a block are exact, and every
// float is rounded where, and added in the order in which, `backends/simd` does it. Compiled with --fmad=false;
// a fused multiply-add is written __fmaf_rn. Every integer that a kernel is given is a `long long`.
//
// Letters: T tokens, C columns of a matrix, B = ceil(C / 256) blocks of activations, H hidden, N query heads,
// G kv heads, D head size, E experts, K experts per token, F width of an expert, V vocabulary. Arrays are
// C-contiguous, float32 unless said otherwise.
//
// Rounded activations, three arrays of T rows: q int8 (T, 256 B), zero behind column C; d (T, B), what one of
// them is worth; sums int16 (T, 8 B), the sums of 32 of them.
//
// Weights as they lie on the device, `row_bytes` apart (`gpu/layouts.py` makes them): F32, F16, BF16, Q4_K and
// Q5_K as in the file; others as planes, so that 16 bytes are read at an aligned address:
//   Q6_K  low halves 128 | upper bits 64 | scales 16 | d 2 bytes a block, each plane for all blocks of the row
//   Q8_0  elements 32 | d 2 bytes a block        Q4_0  elements 16 | d 2 bytes a block

typedef unsigned char u8;
typedef long long i64;

#define F32 0
#define F16 1
#define Q4_0 2
#define Q8_0 8
#define Q4_K 12
#define Q5_K 13
#define Q6_K 14
#define BF16 30
#define SPLIT 64 /* rows of the cache that a part of attention covers, at absolute positions */
#define ALL 0xffffffffu

// What is decoded, int64 in device memory, so that one recorded graph computes every token.
#define TOKEN 0    /* id of the token to compute */
#define POSITION 1 /* its row of the rotation's tables */
#define LENGTH 2   /* rows in the cache before it */
#define STEP 3     /* tokens chosen so far */

#ifdef __CUDA_ARCH__
#define NOT_A_NUMBER __int_as_float(0x7fffffff)
#define BELOW_ALL __int_as_float(0xff800000)
#else
#define NOT_A_NUMBER __builtin_nanf("")
#define BELOW_ALL (-__builtin_inff())
#endif

struct Rounded {
    const signed char* q;
    const float* d;
    const short* sums;
    i64 blocks;  // B
};

// -- numbers --------------------------------------------------------------------------------------------------

#ifdef __CUDA_ARCH__
__device__ __forceinline__ float half_to_float(unsigned short bits) {
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
    return value;
}

__device__ __forceinline__ unsigned short float_to_half(float value) {  // nearest, ties to even
    unsigned short bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
    return bits;
}

__device__ __forceinline__ void host_sees() { __threadfence_system(); }  // what was written, before what comes

__device__ __forceinline__ int bits_set(unsigned word) { return __popc(word); }

// Ask for a line of 128 bytes of weights, to be near when it is read.
__device__ __forceinline__ void prefetch(const u8* at) { asm volatile("prefetch.global.L2 [%0];" ::"l"(at)); }

// Where kernels of a graph are launched before their predecessor has ended (programmatic dependent launch): let
// the next one begin, and wait until all before have ended. What is read above the wait are weights only. All kernels
// of a decoded token have it, so each of them may be launched so.
__device__ __forceinline__ void begin_after_prefetch() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;");
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
#else
__device__ __forceinline__ float half_to_float(unsigned short bits) {
    _Float16 half;
    __builtin_memcpy(&half, &bits, 2);
    return (float)half;
}

__device__ __forceinline__ unsigned short float_to_half(float value) {
    const _Float16 half = (_Float16)value;
    unsigned short bits;
    __builtin_memcpy(&bits, &half, 2);
    return bits;
}

__device__ __forceinline__ void host_sees() {}
__device__ __forceinline__ int bits_set(unsigned word) { return __builtin_popcount(word); }
__device__ __forceinline__ void prefetch(const u8*) {}
__device__ __forceinline__ void begin_after_prefetch() {}
#endif

__device__ __forceinline__ float half_at(const u8* at) { return half_to_float(*(const unsigned short*)at); }

__device__ __forceinline__ int byte_of(int word, int index) { return (word >> (8 * index)) & 255; }

__device__ __forceinline__ int sign_extended(int word, int index) { return (int)(signed char)(word >> (8 * index)); }

// The one exponential of all backends (`Emitter.exp`): Cephes' polynomial, from -87 to 88.
__device__ __forceinline__ float exponential(float x) {
    float y = x > 88.0f ? 88.0f : x;
    y = y < -87.0f ? -87.0f : y;
    const float n = rintf(__fmul_rn(y, 1.4426950216293335f));
    float r = __fmaf_rn(n, -0.693359375f, y);
    r = __fmaf_rn(n, 2.1219444170128554e-04f, r);
    float p = 0.00019875691214110702f;
    p = __fmaf_rn(p, r, 0.0013981999363750219f);
    p = __fmaf_rn(p, r, 0.008333452045917511f);
    p = __fmaf_rn(p, r, 0.041665799915790558f);
    p = __fmaf_rn(p, r, 0.16666665673255920f);
    p = __fmaf_rn(p, r, 0.5f);
    p = __fadd_rn(__fmaf_rn(p, __fmul_rn(r, r), r), 1.0f);
    if (x != x) return x;
    return __fmul_rn(p, __int_as_float(((int)n + 127) << 23));
}

__device__ __forceinline__ float silu_times(float gate, float up) {
    return __fmul_rn(__fdiv_rn(gate, __fadd_rn(1.0f, exponential(-gate))), up);
}

// -- a warp ---------------------------------------------------------------------------------------------------

__device__ __forceinline__ float warp_total(float value) {  // of 32 lanes: halves folded, in all lanes
#pragma unroll
    for (int apart = 16; apart > 0; apart >>= 1) value = __fadd_rn(value, __shfl_xor_sync(ALL, value, apart));
    return value;
}

__device__ __forceinline__ float half_total(float value) {  // of the 16 lanes of each half
#pragma unroll
    for (int apart = 8; apart > 0; apart >>= 1) value = __fadd_rn(value, __shfl_xor_sync(ALL, value, apart));
    return value;
}

__device__ __forceinline__ float warp_highest(float value) {  // of lanes none of which is NaN
#pragma unroll
    for (int apart = 16; apart > 0; apart >>= 1) {
        const float other = __shfl_xor_sync(ALL, value, apart);
        value = other > value ? other : value;
    }
    return value;
}

// Element `index` of a row of floats stored as `kind`: F32, F16 or BF16.
__device__ __forceinline__ float stored_float(int kind, const u8* row, i64 index) {
    if (kind == F32) return ((const float*)row)[index];
    const unsigned short bits = ((const unsigned short*)row)[index];
    return kind == F16 ? half_to_float(bits) : __int_as_float((int)bits << 16);
}

// Dot product of a stored row with W rows of float32, by one warp: lane l takes elements l, l + 32 ..., the
// lanes are folded, and what is left behind the last 32 is added one by one. The total is in all lanes.
// value(t, at): element `at` of row t.
template <int W, class Value>
__device__ __forceinline__ void float_dot(int kind, const u8* row, i64 count, Value value, int lane, float (&out)[W]) {
    const i64 whole = count & ~31ll;
    float total[W] = {}, rest[W] = {};
#pragma unroll(W == 1 ? 8 : 4)
    for (i64 at = lane; at < whole; at += 32) {
        const float weight = stored_float(kind, row, at);
#pragma unroll
        for (int t = 0; t < W; t++) total[t] = __fmaf_rn(weight, value(t, at), total[t]);
    }
    for (i64 at = whole; at < count; at++) {
        const float weight = stored_float(kind, row, at);
#pragma unroll
        for (int t = 0; t < W; t++) rest[t] = __fmaf_rn(weight, value(t, at), rest[t]);
    }
#pragma unroll
    for (int t = 0; t < W; t++) out[t] = __fadd_rn(warp_total(total[t]), rest[t]);
}

// What RMSNorm multiplies a row with, before its weight.
__device__ __forceinline__ float norm_scale(const float* x, i64 count, float eps, int lane) {
    float square[1];
    float_dot<1>(F32, (const u8*)x, count, [=](int, i64 at) { return x[at]; }, lane, square);
    return __fdiv_rn(1.0f, __fsqrt_rn(__fadd_rn(__fdiv_rn(square[0], (float)count), eps)));
}

// Round a block of 256 activations, of which each lane has eight in order, to row `row` of a Rounded.
__device__ __forceinline__ void round_block(
    const float (&x)[8], i64 row, i64 block, i64 blocks, int lane, signed char* q, float* d, short* sums
) {
    int largest = 0;
#pragma unroll
    for (int i = 0; i < 8; i++) {
        const int bits = __float_as_int(x[i]) & 0x7fffffff;
        largest = bits > largest ? bits : largest;
    }
#pragma unroll
    for (int apart = 16; apart > 0; apart >>= 1) {
        const int other = __shfl_xor_sync(ALL, largest, apart);
        largest = other > largest ? other : largest;
    }
    const bool sound = largest < 0x7f800000;  // neither infinite nor NaN
    const float top = __int_as_float(largest);
    const bool counts = sound && top >= 7.888609052210118e-31f;  // 2 ** -100
    const float inverse = counts ? __fdiv_rn(127.0f, top) : 0.0f;
    const float worth = counts ? __fdiv_rn(top, 127.0f) : 0.0f;
    int sum = 0, packed[2] = {0, 0};
#pragma unroll
    for (int i = 0; i < 8; i++) {
        const float value = __fmul_rn(x[i], inverse);
        const int rounded = value == value ? (int)rintf(value) : 0;
        sum += rounded;
        packed[i >> 2] |= (rounded & 255) << (8 * (i & 3));
    }
    sum += __shfl_xor_sync(ALL, sum, 1);
    sum += __shfl_xor_sync(ALL, sum, 2);
    const i64 at = row * blocks + block;
    int* const to = (int*)(q + at * 256 + 8 * lane);
    to[0] = packed[0];
    to[1] = packed[1];
    if ((lane & 3) == 0) sums[at * 8 + (lane >> 2)] = (short)sum;
    if (lane == 0) d[at] = sound ? worth : NOT_A_NUMBER;
}

// -- blocks of threads that finish together ---------------------------------------------------------------------

// Whether this block of threads is the last of `all` to come here; the counter is then zero again. What any of
// them wrote before is seen by the last one, if it reads with `fresh`.
__device__ __forceinline__ bool last_to_arrive(int* counter, int all) {
    __shared__ int before;
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) {
        before = atomicAdd(counter, 1);
        if (before == all - 1) *counter = 0;
    }
    __syncthreads();
    const bool last = before == all - 1;
    if (last) __threadfence();
    return last;
}

__device__ __forceinline__ float fresh(const float* at) { return *(const volatile float*)at; }
