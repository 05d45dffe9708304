// The device: blocks of fibers, one after another, as the host asks through a
// pipe. Memory is one file that both map, here at the addresses of the device;
// what is not allocated has no access.
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <ucontext.h>
#include <unistd.h>

#include "shim.cuh"

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace rh::host {

char *dynamic_shared;

namespace {

constexpr size_t kPage = 4096;
constexpr unsigned kThreads = 1024;
constexpr size_t kStack = 64 << 10;     // of a fiber, with an inaccessible page below
constexpr size_t kShared = 228 << 10;   // dynamic, at most
constexpr int kRequests = 3, kReplies = 4, kMemory = 5;
constexpr unsigned kSecondsABlock = 60;

// Statics lie below 4 GB, for the binary is no position-independent one: a shared
// address fits in the 32 bits that PTX has for it.
alignas(kPage) char shared_memory[kShared + 2 * kPage];

struct Copy {
    void *to;
    const void *from;
    uint16_t bytes, from_bytes;
    uint32_t group;
};

struct Fiber {
    void *sp;
    uint3 at;
    bool waiting;  // in a barrier
    uint32_t groups;  // of copies that were committed
    // of an exchange or a barrier it waits in:
    Op op;
    const char *what;
    uint32_t mask;
    unsigned barrier, threads;
    int line;
};

struct Copies {
    Copy *list;
    size_t count, room;
};

Fiber fibers[kThreads];
Copies copies[kThreads];
Exchange exchanges[kThreads / 32];
uint32_t alive_lanes[kThreads / 32], ready_lanes[kThreads / 32], exchange_lanes[kThreads / 32];
char *stacks;
unsigned threads, current;
bool backwards;
void *scheduler;
const Kernel *kernels, *running;
const void *arguments;
uint64_t blocks_done;

// The stack switch: callee-saved registers go onto the old stack.
#if defined(__x86_64__)
extern "C" void rh_host_switch(void **save, void *to);
asm(R"(
.text
.globl rh_host_switch
.type rh_host_switch, @function
rh_host_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
)");
#else
#error "the stack switch is written for x86-64"
#endif

void report(const char *text) {
    uint32_t head[2] = {1, uint32_t(strlen(text))};
    if (write(kReplies, head, sizeof head) < 0 || write(kReplies, text, head[1]) < 0) _exit(3);
    _exit(2);
}

// where names the thread that runs.
int where(char *text, size_t n) {
    return snprintf(text, n, "%s, block (%u,%u,%u), thread (%u,%u,%u)", running ? running->name : "no kernel", blockIdx.x, blockIdx.y, blockIdx.z, threadIdx.x,
                    threadIdx.y, threadIdx.z);
}

// resume makes a thread the one that runs, and returns its stack.
void *resume(unsigned thread) {
    current = thread;
    ready_lanes[thread / 32] &= ~(1u << thread % 32);
    threadIdx = fibers[thread].at;
    return fibers[thread].sp;
}

// yield goes to the next lane of the warp that can run, or else to the scheduler.
void yield() {
    const unsigned lane = current % 32;
    const uint32_t next = ready_lanes[current / 32] & (backwards ? (1u << lane) - 1 : ~1u << lane);
    void **save = &fibers[current].sp;
    if (next == 0) rh_host_switch(save, scheduler);
    else rh_host_switch(save, resume(current - lane + (backwards ? 31 - __builtin_clz(next) : __builtin_ctz(next))));
}

extern "C" void rh_host_thread() {
    running->run(arguments);
    alive_lanes[current / 32] &= ~(1u << current % 32);
    yield();
    abort();  // never switched to again
}

void start(unsigned thread) {
    Fiber &f = fibers[thread];
    f.waiting = false;
    f.groups = 0;
    copies[thread].count = 0;
    f.at = {thread % blockDim.x, thread / blockDim.x % blockDim.y, thread / (blockDim.x * blockDim.y)};
    auto *top = reinterpret_cast<void **>(stacks + (thread + 1) * (kStack + kPage));
    *--top = nullptr;                                        // where rh_host_thread would return to
    *--top = reinterpret_cast<void *>(rh_host_thread);       // leaves the stack as a call does
    for (int i = 0; i < 6; i++) *--top = nullptr;
    f.sp = top;
}

// complete does what the lanes of an exchange wait for, and lets them go.
void complete(unsigned warp, Op op, uint32_t there) {
    exchanges[warp].mask = there;
    op(exchanges[warp]);
    ready_lanes[warp] |= exchange_lanes[warp] & there;
    exchange_lanes[warp] &= ~there;
}

// leave lets exchanges go on whose last lanes have ended: those that ended count
// as there, and what they would have brought is undefined.
bool leave(unsigned warps) {
    bool released = false;
    for (unsigned warp = 0; warp < warps; warp++)
        for (uint32_t left = exchange_lanes[warp]; left != 0;) {
            const Fiber &f = fibers[32 * warp + __builtin_ctz(left)];
            const uint32_t there = f.mask & alive_lanes[warp];
            left &= ~there;
            if ((exchange_lanes[warp] & there) != there) continue;
            complete(warp, f.op, there);
            released = true;
        }
    return released;
}

// release lets a barrier's threads go once all have come. A thread that ended has
// not come: a device may hang there.
bool release() {
    bool released = false;
    for (unsigned first = 0; first < threads; first++) {
        const Fiber &f = fibers[first];
        if (!f.waiting) continue;
        const unsigned want = f.threads ? f.threads : threads, id = f.barrier;
        unsigned come = 0;
        for (unsigned i = 0; i < threads; i++) {
            const Fiber &other = fibers[i];
            if (!other.waiting || other.barrier != id) continue;
            come++;
            if (other.line != f.line || other.threads != f.threads) {
                threadIdx = other.at;
                die("waits in the barrier of line %d, thread (%u,%u,%u) in that of line %d", other.line, f.at.x, f.at.y, f.at.z, f.line);
            }
        }
        if (come > want) die("%u threads in a barrier of %u, line %d", come, want, f.line);
        if (come < want) continue;
        for (unsigned i = 0; i < threads; i++)
            if (fibers[i].waiting && fibers[i].barrier == id) {
                fibers[i].waiting = false;
                ready_lanes[i / 32] |= 1u << i % 32;
            }
        released = true;
    }
    return released;
}

[[noreturn]] void stuck() {
    unsigned gone = threads;
    for (unsigned i = 0; i < threads; i++) gone -= alive_lanes[i / 32] >> i % 32 & 1;
    for (unsigned i = 0; i < threads; i++) {
        const Fiber &f = fibers[i];
        if (!(alive_lanes[i / 32] >> i % 32 & 1)) continue;
        threadIdx = f.at;
        if (f.waiting) die("waits in the barrier of line %d, which other threads never reach: %u of %u have ended", f.line, gone, threads);
        die("waits in %s for lanes %#x, of which some never come: %u of %u threads have ended", f.what, f.mask, gone, threads);
    }
    die("nothing to run");
}

// block runs one block, backwards from its last thread down: for threads that
// count on their neighbour having been there first.
void block() {
    const unsigned warps = (threads + 31) / 32;
    for (unsigned i = 0; i < threads; i++) start(i);
    for (unsigned w = 0; w < warps; w++) {
        alive_lanes[w] = ready_lanes[w] = threads - 32 * w >= 32 ? ~0u : (1u << (threads - 32 * w)) - 1;
        exchange_lanes[w] = 0;
    }
    for (;;) {
        bool over = true, ran = false;
        for (unsigned w = 0; w < warps; w++) {
            const unsigned warp = backwards ? warps - 1 - w : w;
            while (ready_lanes[warp] != 0) {
                ran = true;
                const unsigned lane = backwards ? 31 - __builtin_clz(ready_lanes[warp]) : __builtin_ctz(ready_lanes[warp]);
                rh_host_switch(&scheduler, resume(32 * warp + lane));
            }
            over = over && alive_lanes[warp] == 0;
        }
        if (over) return;
        if (!leave(warps) && !release() && !ran) stuck();
    }
}

struct Launch {
    uint32_t grid[3], block[3], shared, arg_size, name_size, number;
};

void launch(const Launch &l) {
    threads = l.block[0] * l.block[1] * l.block[2];
    if (threads == 0 || threads > kThreads || l.shared > kShared) die("a launch of %u threads with %u bytes of shared memory", threads, l.shared);
    gridDim = dim3(l.grid[0], l.grid[1], l.grid[2]);
    blockDim = dim3(l.block[0], l.block[1], l.block[2]);
    // It ends at a page without access, but for what its border asks.
    const size_t size = (l.shared + 127) / 128 * 128;
    dynamic_shared = shared_memory + kPage + kShared - size;
    for (uint32_t z = 0; z < l.grid[2]; z++)
        for (uint32_t y = 0; y < l.grid[1]; y++)
            for (uint32_t x = 0; x < l.grid[0]; x++) {
                blockIdx = {x, y, z};
                memset(dynamic_shared, 0xff, size);  // NaN, where it is read unwritten
                backwards = (x + y + z + l.number) % 2 != 0;
                block();
                blocks_done++;
            }
}

void read_all(void *to, size_t n) {
    for (auto *p = static_cast<char *>(to); n > 0;) {
        const ssize_t got = read(kRequests, p, n);
        if (got <= 0) _exit(0);  // the host has gone
        p += got, n -= size_t(got);
    }
}

// fault reports an access that is not allowed, with the place in the code.
void fault(int signal, siginfo_t *info, void *context) {
    char text[512];
    int n = where(text, sizeof text);
    const auto *machine = static_cast<ucontext_t *>(context);
    const char *what = signal == SIGSEGV || signal == SIGBUS ? "access to" : signal == SIGILL ? "misaligned, or index outside its array, at" : "signal at";
    const auto address = signal == SIGILL ? 0ull : (unsigned long long)info->si_addr;
    const char *base = stacks + current * (kStack + kPage);
    if (address >= (unsigned long long)base && address < (unsigned long long)base + kPage) what = "stack of 64 KiB overflows at";
    else if (address >= (unsigned long long)shared_memory && address < (unsigned long long)shared_memory + sizeof shared_memory) what = "outside dynamic shared memory: access to";
    snprintf(text + n, sizeof text - size_t(n), ": %s %#llx pc %#llx", what, address, (unsigned long long)machine->uc_mcontext.gregs[REG_RIP]);
    report(text);
}

// watch ends a block that does not end by itself.
void watch(int) {
    static uint64_t seen = ~0ull;
    if (running != nullptr && seen == blocks_done) {
        char text[512];
        const int n = where(text, sizeof text);
        snprintf(text + n, sizeof text - size_t(n), ": the block runs for more than %u s", kSecondsABlock);
        report(text);
    }
    seen = blocks_done;
}

void prepare() {
    const size_t size = kThreads * (kStack + kPage);
    stacks = static_cast<char *>(mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    if (stacks == MAP_FAILED) report("no memory for stacks");
    for (unsigned i = 0; i < kThreads; i++) mprotect(stacks + i * (kStack + kPage), kPage, PROT_NONE);
    mprotect(shared_memory, kPage, PROT_NONE);
    mprotect(shared_memory + kPage + kShared, kPage, PROT_NONE);
    stack_t alternate{};
    alternate.ss_size = 64 << 10;
    alternate.ss_sp = malloc(alternate.ss_size);
    sigaltstack(&alternate, nullptr);
    struct sigaction action {};
    action.sa_sigaction = fault;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    for (int s : {SIGSEGV, SIGBUS, SIGILL, SIGFPE}) sigaction(s, &action, nullptr);
    struct sigaction timer {};
    timer.sa_handler = watch;
    timer.sa_flags = SA_RESTART | SA_ONSTACK;
    sigaction(SIGALRM, &timer, nullptr);
    const itimerval every{{kSecondsABlock, 0}, {kSecondsABlock, 0}};
    setitimer(ITIMER_REAL, &every, nullptr);
}

}  // namespace

void die(const char *format, ...) {
    char text[1024];
    int n = where(text, sizeof text);
    n += snprintf(text + n, sizeof text - size_t(n), ": ");
    va_list list;
    va_start(list, format);
    vsnprintf(text + n, sizeof text - size_t(n), format, list);
    va_end(list);
    report(text);
    abort();
}

Kernel::Kernel(const char *name, uint32_t arg_size, void (*run)(const void *)) : name(name), arg_size(arg_size), run(run), next(kernels) { kernels = this; }

unsigned lane() { return current % 32; }

unsigned alive() { return alive_lanes[current / 32]; }

void exchange(Op op, uint32_t mask, const uint32_t *in, unsigned in_words, uint32_t *out, unsigned out_words, const char *what) {
    const unsigned warp = current / 32, lane = current % 32;
    Fiber &f = fibers[current];
    Exchange &e = exchanges[warp];
    if (!(mask >> lane & 1)) die("%s for lanes %#x, of which lane %u is none", what, mask, lane);
    for (unsigned i = 0; i < in_words; i++) e.in[lane][i] = in[i];
    f.op = op, f.what = what, f.mask = mask;
    const uint32_t there = mask & alive_lanes[warp], others = exchange_lanes[warp] & mask;
    if (others != 0) {
        const Fiber &o = fibers[32 * warp + __builtin_ctz(others)];
        if (o.op != op || o.mask != mask) die("%s for lanes %#x, while lane %d waits in %s for %#x", what, mask, __builtin_ctz(others), o.what, o.mask);
    }
    exchange_lanes[warp] |= 1u << lane;
    if ((exchange_lanes[warp] & there) == there) {
        complete(warp, op, there);
        ready_lanes[warp] &= ~(1u << lane);  // it runs on
    } else {
        yield();
    }
    for (unsigned i = 0; i < out_words; i++) out[i] = e.out[lane][i];
}

void barrier(unsigned id, unsigned wanted, int line) {
    Fiber &f = fibers[current];
    f.barrier = id, f.threads = wanted, f.line = line, f.waiting = true;
    yield();
}

void copy_later(void *to, const void *from, unsigned bytes, unsigned from_bytes) {
    Copies &c = copies[current];
    if (c.count == c.room) {
        c.room = c.room ? 2 * c.room : 16;
        c.list = static_cast<Copy *>(realloc(c.list, c.room * sizeof(Copy)));
    }
    c.list[c.count++] = {to, from, uint16_t(bytes), uint16_t(from_bytes), fibers[current].groups};
}

void copy_commit() { fibers[current].groups++; }

namespace {
// perform makes the copies of groups before end, in their order.
void perform(uint32_t end) {
    Copies &c = copies[current];
    size_t done = 0;
    for (; done < c.count && c.list[done].group < end; done++) {
        const Copy &one = c.list[done];
        memcpy(one.to, one.from, one.from_bytes);
        memset(static_cast<char *>(one.to) + one.from_bytes, 0, one.bytes - one.from_bytes);
    }
    c.count -= done;
    memmove(c.list, c.list + done, c.count * sizeof(Copy));
}
}  // namespace

void copy_wait(unsigned pending) {
    const uint32_t groups = fibers[current].groups;
    if (groups > pending) perform(groups - pending);
}

void copy_wait_all() { perform(~0u); }

}  // namespace rh::host

// Requests: a word that says what, then: 'm' base, size: the whole space; 'a' base,
// size: allocated; 'f' base, size: freed; 'l' a Launch, the name, the arguments.
// Each is answered with a status and the length of a message that follows.
int main() {
    using namespace rh::host;
    prepare();
    for (;;) {
        uint32_t what;
        read_all(&what, sizeof what);
        if (what == 'l') {
            Launch l;
            read_all(&l, sizeof l);
            char name[256] = {};
            alignas(64) static char args[4096];
            if (l.name_size >= sizeof name || l.arg_size > sizeof args) die("a launch with %u bytes of arguments", l.arg_size);
            read_all(name, l.name_size);
            read_all(args, l.arg_size);
            for (running = kernels; running != nullptr && strcmp(running->name, name) != 0;) running = running->next;
            if (running == nullptr) die("no kernel %s in the sources", name);
            if (running->arg_size != l.arg_size) die("%u bytes of arguments, the source has %u", l.arg_size, running->arg_size);
            arguments = args;
            launch(l);
            running = nullptr;
            fflush(stdout);
        } else {
            uint64_t place[2];
            read_all(place, sizeof place);
            void *base = reinterpret_cast<void *>(place[0]);
            int failed;
            if (what == 'm') failed = mmap(base, place[1], PROT_NONE, MAP_SHARED | MAP_NORESERVE | MAP_FIXED_NOREPLACE, kMemory, 0) != base;
            else failed = mprotect(base, place[1], what == 'a' ? PROT_READ | PROT_WRITE : PROT_NONE);
            if (failed) die("request %c for %#lx, %lu bytes: %s", char(what), (unsigned long)place[0], (unsigned long)place[1], strerror(errno));
        }
        const uint32_t reply[2] = {0, 0};
        if (write(kReplies, reply, sizeof reply) != sizeof reply) _exit(0);
    }
}
