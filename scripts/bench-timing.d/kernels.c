// Loops that are bound by one thing each, and what a model of this machine needs to know.
//
//   kernels KERNEL STEPS   does a kernel between the marks "kernel" and "end"; prints its CPU seconds
//   kernels machine        prints the clock, and the latency of chains of 4 KiB to 64 MiB in huge and in small pages
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

// One cycle through all lines, in an order by chance (Sattolo).
static void **chain(size_t bytes, int advice) {
    char *start = memory(bytes, advice);
    size_t lines = bytes / LINE;
    uint32_t *order = malloc(lines * sizeof *order);
    if (!order)
        exit(2);
    for (size_t i = 0; i < lines; i++)
        order[i] = i;
    for (size_t i = lines - 1; i > 0; i--) {
        size_t other = chance() % i;
        uint32_t swapped = order[i];
        order[i] = order[other];
        order[other] = swapped;
    }
    for (size_t i = 0; i < lines; i++)
        *(void **)(start + i * LINE) = start + (size_t)order[i] * LINE;
    free(order);
    return (void **)start;
}

__attribute__((noinline)) static void **follow(void **at, long steps) {
    for (long step = 0; step < steps; step++)
        at = *at;
    return at;
}

// Nanoseconds of a step, the best of several.
static double latency(void **at, long steps) {
    double best = 1;
    for (int round = 0; round < 3; round++) {
        double start = seconds();
        at = follow(at, steps);
        double spent = (seconds() - start) / steps;
        if (spent < best)
            best = spent;
    }
    if (!at)
        exit(2);
    return best * 1e9;
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
    printf("{\"ghz\": %.4f", 1e-9 / best);
    for (int huge = 0; huge < 2; huge++) {
        printf(", \"%s\": {", huge ? "huge" : "small");
        const char *comma = "";
        for (size_t kib = 16; kib <= 64 << 10; kib += kib < 1024 ? kib : kib & (kib - 1) ? kib / 3 : kib / 2) {
            void **at = chain(kib << 10, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
            printf("%s\"%zu\": %.3f", comma, kib, latency(at, kib < 1024 ? 100000 : (long)kib * 16));
            comma = ", ";
            munmap(at, kib << 10);
        }
        printf("}");
    }
    printf("}\n");
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
