// Runs CUDA C on the host: each thread of a block is a fiber, blocks run one after the other. x86-64, Linux and g++.
// A fiber gives way where threads meet (shuffles, ballots, barriers), to whom `order` says; memory accesses that a
// GPU reorders between two meetings are not tried here. Shared memory is filled anew for each block.
// What is wrong ends the launch with a sentence: threads that wait for one another, lanes of a warp that meet in
// different places, an address that nobody gave, and what -fsanitize=undefined sees (misaligned loads among it).
#include <cmath>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>

struct int2 { int x, y; };
struct int4 { int x, y, z, w; };
struct uint4 { unsigned x, y, z, w; };
struct float2 { float x, y; };
struct float4 { float x, y, z, w; };
struct dim3 { unsigned x, y, z; };

#define __device__ static
#define __global__ __attribute__((noinline))
#define __forceinline__ inline
#define __shared__ static __attribute__((section("shared_memory")))
#define __launch_bounds__(...)

static dim3 threadIdx, blockIdx, gridDim, blockDim;

// -- fibers -----------------------------------------------------------------------------------------------------

extern "C" void emulator_switch(void** from, void* to);
__asm__(
    ".text\n.type emulator_switch, @function\nemulator_switch:\n"
    "pushq %rbx\npushq %rbp\npushq %r12\npushq %r13\npushq %r14\npushq %r15\nmovq %rsp, (%rdi)\n"
    "movq %rsi, %rsp\npopq %r15\npopq %r14\npopq %r13\npopq %r12\npopq %rbp\npopq %rbx\nret\n"
);

static const int MOST = 1024, STACK = 1 << 16;
static const unsigned ALL_LANES = 0xffffffffu;
enum Meeting { RUNNING, ENDED, BLOCK, WARP, SHUFFLE, BALLOT };
static const char* const NAMES[] = {"run", "ended", "__syncthreads", "__syncwarp", "a shuffle", "a ballot"};

struct Fiber { void* stack; Meeting at; const int* awaited; int before; };
static char* stacks;
static Fiber fibers[MOST];
static void* host;
static long long slots[MOST];
static int threads, current, alive, waiting, phase;
static int warp_alive[32], warp_waiting[32], warp_phase[32];
static Meeting warp_at[32];
static long long order;  // 0: the first warp goes on as far as it can, -1: the last one does, else a seed
static bool anew;  // a barrier has let the whole block go on
static unsigned long long random_state;
static void* way_out[5];
static char fault[512];

// End the launch; what is left of the block is forgotten.
[[noreturn]] static void fail(const char* what) {
    snprintf(fault, sizeof fault, "block (%u, %u, %u), thread %d: %s", blockIdx.x, blockIdx.y, blockIdx.z, current, what);
    __builtin_longjmp(way_out, 1);
}

static unsigned drawn(unsigned below) {
    random_state = random_state * 6364136223846793005ull + 1442695040888963407ull;
    return (unsigned)(random_state >> 33) % below;
}

static void become(int thread) {
    current = thread;
    threadIdx = {thread % blockDim.x, thread / blockDim.x % blockDim.y, thread / (blockDim.x * blockDim.y)};
}

static bool can_run(const Fiber& one) { return one.at == RUNNING || (one.at != ENDED && *one.awaited != one.before); }

[[noreturn]] static void fail_stuck() {
    int count[6] = {}, first[6] = {};
    for (int i = threads - 1; i >= 0; i--) count[fibers[i].at]++, first[fibers[i].at] = i;
    char said[300] = "threads wait for one another:";
    for (int i = ENDED; i <= BALLOT; i++) {
        const size_t at = strlen(said);
        if (count[i]) snprintf(said + at, sizeof said - at, " %d %s %s (thread %d ...)", count[i], i == ENDED ? "have" : "at", NAMES[i], first[i]);
    }
    fail(said);
}

// The thread that goes on in the order that is asked for: one drawn by lot, or one of the own warp as long as any
// can, and then the first or the last of all. A warp is ahead of the others by as much as barriers allow.
static int next_thread() {
    if (order > 0) {
        const int first = (int)drawn(threads);
        for (int i = 0; i < threads; i++) {
            const int to = (first + i) % threads;
            if (can_run(fibers[to])) return to;
        }
        fail_stuck();
    }
    const bool last = order == -1, whole = anew;
    const int warp = current / 32 * 32, lanes = threads - warp < 32 ? threads - warp : 32;
    anew = false;
    for (int i = 1; !whole && i <= lanes; i++) {
        const int to = warp + (current - warp + (last ? lanes - i : i)) % lanes;
        if (can_run(fibers[to])) return to;
    }
    for (int i = 0; i < threads; i++) {
        const int to = last ? threads - 1 - i : i;
        if (can_run(fibers[to])) return to;
    }
    fail_stuck();
}

// Let another thread go on; the same one where it alone can.
static void give_way() {
    const int from = current, to = next_thread();
    fibers[to].at = RUNNING;
    if (to == from) return;
    become(to);
    emulator_switch(&fibers[from].stack, fibers[to].stack);
    become(from);
}

static void release_warp(int warp) {
    if (warp_alive[warp] && warp_waiting[warp] >= warp_alive[warp]) warp_waiting[warp] = 0, warp_phase[warp]++;
}

static void release_block() {
    if (alive && waiting >= alive) waiting = 0, phase++, anew = true;
}

static void wait_for(Meeting at, const int& counter, int before) {
    fibers[current].at = at, fibers[current].awaited = &counter, fibers[current].before = before;
    give_way();
}

static void meet_warp(unsigned mask, Meeting at) {
    const int warp = current / 32, before = warp_phase[warp], all = threads - 32 * warp < 32 ? threads - 32 * warp : 32;
    char said[200];
    if (mask != ALL_LANES) fail("only masks of all lanes are emulated");
    if (warp_alive[warp] < all) {
        snprintf(said, sizeof said, "%s asks for all lanes, of which %d have ended", NAMES[at], all - warp_alive[warp]);
        fail(said);
    }
    if (warp_waiting[warp] && warp_at[warp] != at) {
        snprintf(said, sizeof said, "is at %s while lanes of its warp are at %s", NAMES[at], NAMES[warp_at[warp]]);
        fail(said);
    }
    warp_at[warp] = at;
    warp_waiting[warp]++;
    release_warp(warp);
    wait_for(at, warp_phase[warp], before);
}

static void __syncwarp(unsigned mask = ALL_LANES) { meet_warp(mask, WARP); }

static void __syncthreads() {
    const int before = phase;
    waiting++;
    release_block();
    wait_for(BLOCK, phase, before);
}

template <class T> static T exchanged(unsigned mask, T value, int lane) {
    const int other = current / 32 * 32 + lane;
    if (other >= threads) fail("shuffles with a lane that there is not");
    memcpy(&slots[current], &value, sizeof value);
    meet_warp(mask, SHUFFLE);
    memcpy(&value, &slots[other], sizeof value);
    meet_warp(mask, SHUFFLE);
    return value;
}

template <class T> static T __shfl_xor_sync(unsigned mask, T value, int with) { return exchanged(mask, value, (current & 31) ^ with); }
template <class T> static T __shfl_sync(unsigned mask, T value, int lane) { return exchanged(mask, value, lane & 31); }

static unsigned __ballot_sync(unsigned mask, bool vote) {
    slots[current] = vote;
    meet_warp(mask, BALLOT);
    unsigned all = 0;
    for (int i = 0; i < 32 && current / 32 * 32 + i < threads; i++) all |= (unsigned)(slots[current / 32 * 32 + i] != 0) << i;
    meet_warp(mask, BALLOT);
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

// -- what the compiler checks -----------------------------------------------------------------------------------

struct Place { const char* file; unsigned line, column; };
[[noreturn]] static void fail_at(const Place* place, const char* what) {
    char said[300];
    snprintf(said, sizeof said, "%s:%u: %s", place->file, place->line, what);
    fail(said);
}
// In each function's data the place comes first.
#define CHECK(NAME, WHAT) \
    extern "C" __attribute__((visibility("hidden"))) void __ubsan_handle_##NAME##_abort(Place* place, ...) { fail_at(place, WHAT); }
CHECK(out_of_bounds, "an index is outside its array")
CHECK(type_mismatch_v1, "an address is not aligned to what is read or written")
CHECK(add_overflow, "a sum overflows")
CHECK(sub_overflow, "a difference overflows")
CHECK(mul_overflow, "a product overflows")
CHECK(negate_overflow, "a negation overflows")
CHECK(divrem_overflow, "a division by zero, or an overflow")
CHECK(shift_out_of_bounds, "a shift by too many bits")
CHECK(float_cast_overflow, "a float that no integer holds is made one")

static char signal_stack[1 << 16];
static void touched(int, siginfo_t* told, void*) {
    char said[100];
    snprintf(said, sizeof said, "touches the address %p, which is in no buffer", told->si_addr);
    fail(said);
}

// -- launches ---------------------------------------------------------------------------------------------------

static void (*kernel)(long long*);
static long long* given;
extern char __start_shared_memory[] __attribute__((weak, visibility("hidden")));
extern char __stop_shared_memory[] __attribute__((weak, visibility("hidden")));

static void fiber() {
    kernel(given);
    const int warp = current / 32;
    fibers[current].at = ENDED;
    alive--, warp_alive[warp]--;
    if (warp_waiting[warp]) fail("has ended while lanes of its warp meet");
    release_block();
    void* unused;
    if (!alive) emulator_switch(&unused, host);
    give_way();
    abort();
}

static void run_block() {
    memset(warp_alive, 0, sizeof warp_alive), memset(warp_waiting, 0, sizeof warp_waiting);
    memset(__start_shared_memory, 0xff, __stop_shared_memory - __start_shared_memory);
    waiting = 0, alive = threads, anew = false;
    for (int i = 0; i < threads; i++) {
        warp_alive[i / 32]++;
        void** top = (void**)(stacks + (size_t)STACK * (i + 1));
        *--top = 0;  // so that the stack is aligned as after a call
        *--top = (void*)fiber;
        for (int saved = 0; saved < 6; saved++) *--top = 0;
        fibers[i] = {top, RUNNING, 0, 0};
    }
    become(order > 0 ? (int)drawn(threads) : order == -1 ? threads - 1 : 0);
    emulator_switch(&host, fibers[current].stack);
}

// Gives what was wrong, or nothing. in_order: of threads and blocks; see `order`.
static const char* run(void (*called)(long long*), long long* arguments, const long long* shape, long long in_order) {
    if (!stacks) stacks = (char*)malloc((size_t)STACK * MOST);
    kernel = called, given = arguments, order = in_order, random_state = in_order, fault[0] = 0;
    gridDim = {(unsigned)shape[0], (unsigned)shape[1], (unsigned)shape[2]};
    blockDim = {(unsigned)shape[3], (unsigned)shape[4], (unsigned)shape[5]};
    threads = blockDim.x * blockDim.y * blockDim.z;
    if (threads < 1 || threads > MOST) {
        snprintf(fault, sizeof fault, "a block has %d threads, expected 1 to %d", threads, MOST);
        return fault;
    }
    struct sigaction ours = {}, theirs;
    stack_t on = {}, off;
    on.ss_sp = signal_stack, on.ss_size = sizeof signal_stack;
    ours.sa_sigaction = touched, ours.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
    sigaltstack(&on, &off);
    sigaction(SIGSEGV, &ours, &theirs);
    if (!__builtin_setjmp(way_out)) {
        const unsigned all = gridDim.x * gridDim.y * gridDim.z, first = order > 0 ? drawn(all) : 0;
        for (unsigned i = 0; i < all; i++) {
            const unsigned at = order == -1 ? all - 1 - i : (first + i) % all;
            blockIdx = {at % gridDim.x, at / gridDim.x % gridDim.y, at / (gridDim.x * gridDim.y)};
            run_block();
        }
    }
    sigaction(SIGSEGV, &theirs, 0);
    sigaltstack(&off, 0);
    return fault;
}
