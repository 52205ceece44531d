// Four objects that are used in ways whose cost is known, one way at a time.
//
//   chain    each load gives the address of the next: it costs the latency, every time
//   scatter  loads in no order, none of which waits for another; some arithmetic between them
//   stream   loads in order: it costs the bandwidth
//   small    16 KiB, read again and again: it is in the cache
//   compute  arithmetic alone
//
// All objects are made whatever is worked on. The work begins with the mark "work" and ends with "done".
// usage: patterns PATTERN STEPS [EXIT-STATUS]
#include "tierscope.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BYTES = 4 << 20, LINE = 64, CELLS = BYTES / LINE, SMALL = 16 << 10 };

typedef struct {
    uint64_t next;
    uint64_t rest[7];
} Cell;

static void *require(void *memory) {
    if (!memory)
        exit(2);
    return memory;
}

// What follows the call keeps it from being a jump, which would leave the function out of the call stack.
__attribute__((noipa)) static Cell *allocate_chain(void) { return require(aligned_alloc(LINE, BYTES)); }
__attribute__((noipa)) static Cell *allocate_scatter(void) { return require(aligned_alloc(LINE, BYTES)); }
__attribute__((noipa)) static uint64_t *allocate_stream(void) { return require(aligned_alloc(LINE, BYTES)); }
__attribute__((noipa)) static uint64_t *allocate_small(void) { return require(aligned_alloc(LINE, SMALL)); }

// One more than a multiple of four, and an odd increment: a full period modulo a power of two (Hull and Dobell 1962).
static uint64_t next_of(uint64_t cell) { return (cell * 20021 + 12345) & (CELLS - 1); }

int main(int argc, char **argv) {
    if (argc < 3)
        return 2;
    const char *pattern = argv[1];
    long steps = atol(argv[2]);
    Cell *chain = allocate_chain(), *scatter = allocate_scatter();
    uint64_t *stream = allocate_stream(), *small = allocate_small(), sum = 0, at = 1;
    memset(scatter, 0, BYTES);
    memset(stream, 0, BYTES);
    memset(small, 0, SMALL);
    for (uint64_t cell = 0; cell < CELLS; cell++)
        chain[cell].next = next_of(cell);

    tierscope_mark("work");
    if (!strcmp(pattern, "chain")) {
        for (long step = 0; step < steps; step++)
            at = chain[at].next;
    } else if (!strcmp(pattern, "scatter")) {
        for (long step = 0; step < steps; step++) {
            // Ten multiplications, each of which waits for the one before.
            for (int round = 0; round < 10; round++)
                at = at * 6364136223846793005u + 1442695040888963407u;
            sum += scatter[at >> 48].next;
        }
    } else if (!strcmp(pattern, "stream")) {
        for (long step = 0; step < steps; step++)
            for (long word = 0; word < BYTES / 8; word++)
                sum += stream[word];
    } else if (!strcmp(pattern, "small")) {
        for (long step = 0; step < steps; step++)
            for (long word = 0; word < SMALL / 8; word++)
                sum += small[word];
    } else {
        for (long step = 0; step < steps; step++)
            at = at * 6364136223846793005u + 1442695040888963407u;
    }
    tierscope_mark("done");
    printf("%llu\n", (unsigned long long)(sum + at));
    return argc > 3 ? atoi(argv[3]) : 0;
}
