// What the prefetchers of an Intel core do: which lines of a page are in which cache after some of it was asked for.
//
//   cc -O2 -o prefetchers scripts/bench-timing.d/prefetchers.c && ./prefetchers
//
// Every line of a page is flushed, some are asked for, and the time of one more load says where that line was: 1 (first level), 2
// (second), L (last), . (memory), in most of 100 pages. The bounds between them are those of a core at 3 to 4 GHz with a time stamp of 2.8.
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <x86intrin.h>

enum { LINE = 64, PAGE = 4096, PAGES = 32768, ROUNDS = 100, HUGE_PAGE = 2 << 20 };

static uint64_t state = 88172645463325252u;

// Marsaglia's xorshift.
static uint64_t chance(void) {
    state ^= state << 13;
    state ^= state >> 7;
    return (state ^= state << 17) >> 20;
}

static void wait(int times) {
    while (times-- > 0)
        _mm_pause();
}

// Loads by instructions that are 16 different ones, so that no prefetcher that goes by instruction can follow.
#define LOAD(n) \
    __attribute__((noinline)) static void load_##n(volatile char *at) { \
        (void)*at; \
        __asm__ volatile("" ::"i"(n)); \
    }
LOAD(0) LOAD(1) LOAD(2) LOAD(3) LOAD(4) LOAD(5) LOAD(6) LOAD(7)
LOAD(8) LOAD(9) LOAD(10) LOAD(11) LOAD(12) LOAD(13) LOAD(14) LOAD(15)
static void (*const loads[16])(volatile char *) = {
    load_0, load_1, load_2, load_3, load_4, load_5, load_6, load_7,
    load_8, load_9, load_10, load_11, load_12, load_13, load_14, load_15,
};

enum by { ONE, MANY, STORES };

__attribute__((noinline)) static void ask(enum by by, volatile char *at) {
    if (by == ONE)
        load_0(at);
    else if (by == MANY)
        loads[chance() % 16](at);
    else
        *at = 1;
}

static uint64_t timed(volatile char *at) {
    unsigned core;
    _mm_mfence();
    _mm_lfence();
    uint64_t start = __rdtscp(&core);
    _mm_lfence();
    (void)*at;
    _mm_lfence();
    return __rdtscp(&core) - start;
}

static int compare(const void *left, const void *right) {
    uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
    return a < b ? -1 : a > b;
}

static char where(uint64_t *times, size_t count) {
    qsort(times, count, sizeof *times, compare);
    uint64_t median = times[count / 2];
    return median < 58 ? '1' : median < 90 ? '2' : median < 200 ? 'L' : '.';
}

static char *flushed(char *memory, int pages) {
    char *page = memory + chance() % (PAGES - pages) * PAGE;
    for (int line = 0; line < pages * PAGE / LINE; line++)
        _mm_clflush(page + line * LINE);
    _mm_mfence();
    wait(20);
    return page;
}

// Where the lines after the last are, when `count` were asked for `step` lines apart from the line `first` on.
static void after(char *memory, enum by by, int first, int step, int count, int pages) {
    int last = first + step * (count - 1), way = step < 0 ? -1 : 1;
    for (int ahead = 1; ahead <= 24; ahead++) {
        int line = last + way * ahead;
        if (line < 0 || line >= pages * PAGE / LINE)
            break;
        uint64_t times[ROUNDS];
        for (int round = 0; round < ROUNDS; round++) {
            char *page = flushed(memory, pages);
            for (int n = 0; n < count; n++) {
                ask(by, page + (first + step * n) * LINE);
                _mm_lfence();
                wait(5);
            }
            wait(60);
            times[round] = timed(page + line * LINE);
        }
        putchar(where(times, ROUNDS));
    }
    putchar('\n');
}

// Of pages gone through in turn, in how many of a hundred the line after 16 is there.
static int followed(char *memory, int pages) {
    static char *page[256];
    int there = 0, rounds = 20;
    for (int round = 0; round < rounds; round++) {
        for (int n = 0; n < pages; n++)
            page[n] = flushed(memory, 1);
        for (int line = 0; line < 16; line++)
            for (int n = 0; n < pages; n++)
                ask(MANY, page[n] + line * LINE);
        wait(100);
        for (int n = 0; n < pages; n++)
            there += timed(page[n] + 17 * LINE) < 200;
    }
    return 100 * there / (rounds * pages);
}

// Of some pieces of memory of which two ascending words were loaded at once, in how many of a hundred the next line is there.
static int pairs(char *memory, int pieces) {
    static char *piece[64];
    int there = 0, rounds = 300;
    for (int round = 0; round < rounds; round++) {
        for (int n = 0; n < pieces; n++)
            piece[n] = flushed(memory, 1) + chance() % 62 * LINE;
        for (int n = 0; n < pieces; n++)
            __asm__ volatile("movzbl (%0), %%eax\n movzbl 8(%0), %%eax" ::"r"(piece[n]) : "eax");
        wait(60);
        there += timed(piece[chance() % pieces] + LINE) < 200;
    }
    return 100 * there / rounds;
}

int main(void) {
    const char *names[] = {"one instruction", "many", "stores"};
    for (int huge = 1; huge >= 0; huge--) {
        char *memory = mmap(NULL, PAGES * (size_t)PAGE + HUGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED)
            return 2;
        memory += -(uintptr_t)memory % HUGE_PAGE;
        madvise(memory, PAGES * (size_t)PAGE, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
        memset(memory, 1, PAGES * (size_t)PAGE);
        printf("pages of %s\n", huge ? "2 MiB" : "4 KiB");
        for (enum by by = ONE; by <= STORES; by++)
            for (int count = 2; count <= 20; count += count < 14 ? 1 : 3)
                printf("%2d lines by %s, then: ", count, names[by]), after(memory, by, 0, 1, count, 1);
        for (int step = -2; step <= 6; step += step == -1 ? 3 : 1)
            for (int count = 9; count <= 11; count++)
                printf("%2d lines, %d apart, then: ", count, step), after(memory, MANY, step < 0 ? 63 : 0, step, count, 1);
        for (int count = 64; count <= 76; count++)
            printf("%2d lines of two pages, then: ", count), after(memory, MANY, 0, 1, count, 2);
        for (int pages = 16; pages <= 96; pages += 16)
            printf("%d pages in turn: %d %% are followed\n", pages, followed(memory, pages));
        for (int pieces = 1; pieces <= 32; pieces *= 2)
            printf("two words of %d pieces: the next line is there in %d %%\n", pieces, pairs(memory, pieces));
        munmap(memory, PAGES * (size_t)PAGE);
    }
    return 0;
}
