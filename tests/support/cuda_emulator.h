// Runs CUDA C on the host: each thread of a block is a fiber, blocks run one after the other. x86-64 and g++.
// A fiber gives way where threads meet (shuffles, ballots, barriers), so any other order of memory accesses
// that a GPU may take is not tried here.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>

struct int2 { int x, y; };
struct int4 { int x, y, z, w; };
struct uint4 { unsigned x, y, z, w; };
struct float2 { float x, y; };
struct float4 { float x, y, z, w; };
struct dim3 { unsigned x, y, z; };

#define __device__
#define __global__ __attribute__((noinline))
#define __forceinline__ inline
#define __shared__ static
#define __launch_bounds__(...)

static dim3 threadIdx, blockIdx, gridDim, blockDim;

// -- fibers -----------------------------------------------------------------------------------------------------

extern "C" void emulator_switch(void** from, void* to);
__asm__(
    ".text\n.type emulator_switch, @function\nemulator_switch:\n"
    "pushq %rbx\npushq %rbp\npushq %r12\npushq %r13\npushq %r14\npushq %r15\nmovq %rsp, (%rdi)\n"
    "movq %rsi, %rsp\npopq %r15\npopq %r14\npopq %r13\npopq %r12\npopq %rbp\npopq %rbx\nret\n"
);

static const int MOST = 1024, STACK = 1 << 16, PATIENCE = 10000000;
static char* stacks;
static void *fibers[MOST], *host;
static bool ended[MOST];
static long long slots[MOST];
static int threads, current, alive, waiting, phase;
static int warp_alive[32], warp_waiting[32], warp_phase[32];

static void become(int thread) {
    current = thread;
    threadIdx = {thread % blockDim.x, thread / blockDim.x % blockDim.y, thread / (blockDim.x * blockDim.y)};
}

static void give_way() {
    const int from = current;
    int to = from;
    do to = (to + 1) % threads;
    while (ended[to] && to != from);
    if (to == from) return;
    become(to);
    emulator_switch(&fibers[from], fibers[to]);
    become(from);
}

static void release_warp(int warp) {
    if (warp_alive[warp] && warp_waiting[warp] >= warp_alive[warp]) warp_waiting[warp] = 0, warp_phase[warp]++;
}

static void release_block() {
    if (alive && waiting >= alive) waiting = 0, phase++;
}

static void wait_for(const int& counter, int before) {
    for (int turns = 0; counter == before; turns++) {
        if (turns > PATIENCE) {
            fprintf(stderr, "thread %d waits for threads that never come\n", current);
            abort();
        }
        give_way();
    }
}

static void __syncwarp(unsigned = 0xffffffffu) {
    const int warp = current / 32, before = warp_phase[warp];
    warp_waiting[warp]++;
    release_warp(warp);
    wait_for(warp_phase[warp], before);
}

static void __syncthreads() {
    const int before = phase;
    waiting++;
    release_block();
    wait_for(phase, before);
}

template <class T> static T exchanged(T value, int lane) {
    memcpy(&slots[current], &value, sizeof value);
    __syncwarp();
    memcpy(&value, &slots[current / 32 * 32 + lane], sizeof value);
    __syncwarp();
    return value;
}

template <class T> static T __shfl_xor_sync(unsigned, T value, int mask) { return exchanged(value, (current & 31) ^ mask); }
template <class T> static T __shfl_sync(unsigned, T value, int lane) { return exchanged(value, lane & 31); }

static unsigned __ballot_sync(unsigned, bool vote) {
    slots[current] = vote;
    __syncwarp();
    unsigned all = 0;
    for (int i = 0; i < 32; i++) all |= (unsigned)(slots[current / 32 * 32 + i] != 0) << i;
    __syncwarp();
    return all;
}

// -- arithmetic -------------------------------------------------------------------------------------------------

static int __dp4a(int a, int b, int sum) {
    for (int i = 0; i < 32; i += 8) sum += (int)(signed char)(a >> i) * (int)(signed char)(b >> i);
    return sum;
}
static float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
static float __fmul_rn(float a, float b) { return a * b; }
static float __fadd_rn(float a, float b) { return a + b; }
static float __fdiv_rn(float a, float b) { return a / b; }
static float __fsqrt_rn(float a) { return sqrtf(a); }
static int __float_as_int(float value) { int bits; memcpy(&bits, &value, 4); return bits; }
static float __int_as_float(int bits) { float value; memcpy(&value, &bits, 4); return value; }
template <class T> static T atomicAdd(T* at, T value) { const T old = *at; *at += value; return old; }
static void __threadfence() {}

// -- launches ---------------------------------------------------------------------------------------------------

static void (*kernel)(long long*);
static long long* given;

static void fiber() {
    kernel(given);
    const int warp = current / 32;
    ended[current] = true;
    alive--, warp_alive[warp]--;
    release_warp(warp);
    release_block();
    void* unused;
    if (!alive) emulator_switch(&unused, host);
    give_way();
    abort();
}

static void run(void (*called)(long long*), long long* arguments, const long long* shape) {
    if (!stacks) stacks = (char*)malloc((size_t)STACK * MOST);
    kernel = called, given = arguments;
    gridDim = {(unsigned)shape[0], (unsigned)shape[1], (unsigned)shape[2]};
    blockDim = {(unsigned)shape[3], (unsigned)shape[4], (unsigned)shape[5]};
    threads = blockDim.x * blockDim.y * blockDim.z;
    for (unsigned z = 0; z < gridDim.z; z++) for (unsigned y = 0; y < gridDim.y; y++) for (unsigned x = 0; x < gridDim.x; x++) {
        blockIdx = {x, y, z};
        memset(warp_alive, 0, sizeof warp_alive), memset(warp_waiting, 0, sizeof warp_waiting);
        waiting = 0, alive = threads;
        for (int i = 0; i < threads; i++) {
            ended[i] = false;
            warp_alive[i / 32]++;
            void** top = (void**)(stacks + (size_t)STACK * (i + 1));
            *--top = 0;  // so that the stack is aligned as after a call
            *--top = (void*)fiber;
            for (int saved = 0; saved < 6; saved++) *--top = 0;
            fibers[i] = top;
        }
        become(0);
        emulator_switch(&host, fibers[0]);
    }
}
