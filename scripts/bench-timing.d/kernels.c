// Loops that are bound by one thing each, and what a model of this machine needs to know.
//
//   kernels KERNEL STEPS   does a kernel between the marks "kernel" and "end"; prints its CPU seconds
//   kernels machine        prints what takes how many nanoseconds: a cycle, a load from memory, a page walk, a line of a stream, an
//                          operation's dispatch, a load of chains of 16 KiB to 48 MiB
//
// Kernels, by what bounds them: add, multiply, divide, float (latencies of units); wide (as many operations as fit); branch (guesses
// that fail); forward (what was just stored is loaded); chain-l1, chain-l2, chain (latency of loads); gather (misses that
// overlap); read (a prefetched stream); write (a written stream); scatter (stores that miss).
#define _GNU_SOURCE
#include "tierscope.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <x86intrin.h>

enum { HUGE_PAGE = 2 << 20, LINE = 64 };

static double seconds(void) {
    struct timespec time;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return time.tv_sec + 1e-9 * time.tv_nsec;
}

static uint64_t state = 88172645463325252u;

// Marsaglia's xorshift.
static uint64_t chance(void) {
    state ^= state << 13;
    state ^= state >> 7;
    return state ^= state << 17;
}

static char *memory(size_t bytes, int advice) {
    char *start = mmap(NULL, bytes + HUGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (start == MAP_FAILED)
        exit(2);
    start += -(uintptr_t)start % HUGE_PAGE;
    madvise(start, bytes, advice);
    memset(start, 0, bytes);
    return start;
}

// One cycle through so many places, each so many bytes after the one before, in an order by chance (Sattolo). The nth place is `skewed` times n
// farther from its beginning, modulo a page: lines at the same place of each page would share a few sets.
static void **linked(char *start, size_t places, size_t apart, size_t skewed) {
    uint32_t *order = malloc(places * sizeof *order);
    if (!order)
        exit(2);
    for (size_t i = 0; i < places; i++)
        order[i] = i;
    for (size_t i = places - 1; i > 0; i--) {
        size_t other = chance() % i;
        uint32_t swapped = order[i];
        order[i] = order[other];
        order[other] = swapped;
    }
    for (size_t i = 0; i < places; i++)
        *(void **)(start + i * apart + i * skewed % 4096) = start + order[i] * apart + order[i] * skewed % 4096;
    free(order);
    return (void **)start;
}

static void **chain(size_t bytes, int advice) {
    return linked(memory(bytes, advice), bytes / LINE, LINE, 0);
}

__attribute__((noinline)) static void **follow(void **at, long steps) {
    for (long step = 0; step < steps; step++)
        at = *at;
    return at;
}

// Nanoseconds of a step, over as long as a workload's kernel is timed: what others leave of a cache is not the same in a lucky moment.
static double latency(void **at, size_t lines) {
    at = follow(at, lines);
    long steps = 0, once = lines < 100000 ? 100000 : lines;
    double start = seconds(), spent;
    do {
        at = follow(at, once);
        steps += once;
        spent = seconds() - start;
    } while (spent < 0.03);
    if (!at)
        exit(2);
    return spent * 1e9 / steps;
}

// Nanoseconds of a load from memory, of few pages, so that no walk is part of it.
static double flushed(void) {
    enum { BYTES = 2 << 20 };
    void **at = chain(BYTES, MADV_NOHUGEPAGE);
    double best = 1;
    for (int round = 0; round < 5; round++) {
        for (char *line = (char *)at; line < (char *)at + BYTES; line += LINE)
            _mm_clflush(line);
        _mm_mfence();
        double start = seconds();
        if (!follow(at, BYTES / LINE))
            exit(2);
        double spent = (seconds() - start) / (BYTES / LINE);
        if (spent < best)
            best = spent;
    }
    munmap(at, BYTES);
    return best * 1e9;
}

// Nanoseconds of a chain through 8192 lines, of as many pages or of as few as can be: the difference is what a page walk adds to a load. Both fit
// into the second-level cache, with the pages' tables.
static double paged(int apart) {
    enum { LINES = 8192, PAGE = 4096 };
    char *start = memory((size_t)LINES * PAGE, MADV_NOHUGEPAGE);
    double found = latency(linked(start, LINES, apart ? PAGE : LINE, apart ? LINE : 0), LINES);
    munmap(start, (size_t)LINES * PAGE);
    return found;
}

// Nanoseconds of a line of a stream that one core reads, in huge pages: neither walks nor prefetchers that learn each page anew bound it.
static double stream(void) {
    enum { BYTES = 64 << 20 };
    char *start = memory(BYTES, MADV_HUGEPAGE);
    double best = 1;
    for (int round = 0; round < 5; round++) {
        double began = seconds();
        for (char *line = start; line < start + BYTES; line += LINE)
            (void)*(volatile char *)line;
        double spent = seconds() - began;
        if (spent < best)
            best = spent;
    }
    munmap(start, BYTES);
    return best * 1e9 / (BYTES / LINE);
}

// Nanoseconds of an operation that takes nothing but its share of dispatch: what the core's other thread, if it has one, leaves of that.
// They clear registers, which takes no unit on any core modelled (Intel Optimization Manual 3.5.1.7; AMD 57647, 2.9.2). Nops would not do: of
// those Zen 4, which dispatches six operations in a cycle, was found to take nine.
static double dispatched(void) {
    long times = 0;
    double start = seconds(), spent;
    do {
        long rest = 100000;
        __asm__ volatile("1: .rept 3\n xor %%eax, %%eax\n xor %%ecx, %%ecx\n xor %%edx, %%edx\n xor %%esi, %%esi\n xor %%edi, %%edi\n xor %%r8d, %%r8d\n .endr\n"
                         " dec %0\n jnz 1b"
                         : "+r"(rest)
                         :
                         : "eax", "ecx", "edx", "esi", "edi", "r8");
        times += 100000;
        spent = seconds() - start;
    } while (spent < 0.03);
    // A decrement and its jump are one operation.
    return spent * 1e9 / (times * 19.0);
}

static int machine(void) {
    double best = 1;
    for (int round = 0; round < 20; round++) {
        long times = 2000000, sum = 0;
        double start = seconds();
        __asm__ volatile("1: add $1, %1\n add $1, %1\n add $1, %1\n add $1, %1\n dec %0\n jnz 1b"
                         : "+r"(times), "+r"(sum));
        double spent = (seconds() - start) / sum;
        if (spent < best)
            best = spent;
    }
    printf("{\"ns_per_cycle\": %.5f, \"memory\": %.3f, \"paged\": %.3f, \"packed\": %.3f, \"ns_per_line\": %.3f, \"dispatched\": %.5f, \"chains\": {",
           best * 1e9, flushed(), paged(1), paged(0), stream(), dispatched());
    const char *comma = "";
    for (size_t kib = 16; kib <= 48 << 10; kib += kib < 1024 ? kib : kib & (kib - 1) ? kib / 3 : kib / 2) {
        void **at = chain(kib << 10, MADV_NOHUGEPAGE);
        printf("%s\"%zu\": %.3f", comma, kib, latency(at, (kib << 10) / LINE));
        comma = ", ";
        munmap(at, kib << 10);
    }
    printf("}}\n");
    return 0;
}

static uint64_t work(const char *kernel, long steps, uint64_t *words, size_t count, void **at, const uint8_t *coins) {
    uint64_t sum = 1, mask = count - 1;
    if (!strcmp(kernel, "add")) {
        for (long step = 0; step < steps; step++)
            __asm__ volatile("add $3, %0\n xor $5, %0\n add $7, %0\n add %0, %0" : "+r"(sum));
    } else if (!strcmp(kernel, "multiply")) {
        for (long step = 0; step < steps; step++)
            sum = sum * 6364136223846793005u + 1442695040888963407u;
    } else if (!strcmp(kernel, "divide")) {
        for (long step = 0; step < steps; step++)
            sum = (0xfedcba9876543210u - sum) / (sum | 0x10001);
    } else if (!strcmp(kernel, "float")) {
        double value = steps;
        for (long step = 0; step < steps; step++)
            value = value * 0.999999 + 1e-6;
        sum += (uint64_t)value;
    } else if (!strcmp(kernel, "wide")) {
        for (long step = 0; step < steps; step++)
            __asm__ volatile("lea 1(%%rax), %%r8\n lea 2(%%rax), %%r9\n lea 3(%%rax), %%r10\n lea 4(%%rax), %%r11\n"
                             "or %%r8, %%r9\n or %%r10, %%r11\n xor %%r9, %%r11\n lea 5(%%rax), %%r8" ::
                                 : "r8", "r9", "r10", "r11");
    } else if (!strcmp(kernel, "branch")) {
        for (long step = 0; step < steps; step++)
            if (coins[step & 0xfffff])
                __asm__ volatile("add $1, %0" : "+r"(sum));
            else
                __asm__ volatile("xor $9, %0" : "+r"(sum));
    } else if (!strcmp(kernel, "forward")) {
        for (long step = 0; step < steps; step++)
            __asm__ volatile("mov %0, (%1)\n mov (%1), %0\n add $1, %0" : "+r"(sum) : "r"(&words[step & 7]) : "memory");
    } else if (!strncmp(kernel, "chain", 5)) {
        sum += (uintptr_t)follow(at, steps);
    } else if (!strcmp(kernel, "gather")) {
        uint64_t index = 1;
        for (long step = 0; step < steps; step++) {
            index = index * 6364136223846793005u + 1442695040888963407u;
            sum += words[(index >> 20) & mask];
        }
    } else if (!strcmp(kernel, "read")) {
        for (long step = 0; step < steps; step++)
            for (size_t word = 0; word < count; word++)
                sum += words[word];
    } else if (!strcmp(kernel, "write")) {
        for (long step = 0; step < steps; step++)
            for (size_t word = 0; word < count; word++) {
                words[word] = word;
                __asm__ volatile("" ::: "memory");
            }
    } else if (!strcmp(kernel, "scatter")) {
        uint64_t index = 1;
        for (long step = 0; step < steps; step++) {
            index = index * 6364136223846793005u + 1442695040888963407u;
            words[(index >> 20) & mask] = index;
        }
    } else {
        exit(2);
    }
    return sum;
}

int main(int argc, char **argv) {
    if (argc == 2 && !strcmp(argv[1], "machine"))
        return machine();
    if (argc != 3)
        return 2;
    const char *kernel = argv[1];
    size_t bytes = !strcmp(kernel, "chain-l1") ? 16 << 10 : !strcmp(kernel, "chain-l2") ? 256 << 10 : 32 << 20;
    void **at = chain(bytes, MADV_NOHUGEPAGE);
    uint64_t *words = (uint64_t *)memory(32 << 20, MADV_NOHUGEPAGE);
    uint8_t *coins = malloc(1 << 20);
    if (!coins)
        return 2;
    for (long coin = 0; coin < 1 << 20; coin++)
        coins[coin] = chance() >> 63;
    follow(at, bytes / LINE);
    double start = seconds();
    tierscope_mark("kernel");
    uint64_t sum = work(kernel, atol(argv[2]), words, (32 << 20) / sizeof *words, at, coins);
    tierscope_mark("end");
    printf("{\"seconds\": %.9f, \"sum\": %llu}\n", seconds() - start, (unsigned long long)sum);
    return 0;
}
