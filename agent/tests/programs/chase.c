/* Follows a random ring through 64 MiB, and now and then sums a log of 16 MiB from end to end.
 *
 * Each step of the ring needs the one before it, and 64 MiB are more than the caches hold: nearly every step waits for
 * memory. The log is read in order, and prefetchers hide it. The ring must come out far on top.
 *
 * usage: chase [STEPS [crash]] */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RING (16u << 20)
#define LOG (4u << 20)

__attribute__((noinline)) static uint32_t *allocate_ring(void) {
    uint32_t *ring = malloc(RING * sizeof *ring);
    if (!ring)
        exit(1);
    return ring;
}

__attribute__((noinline)) static uint32_t *allocate_log(void) {
    uint32_t *log = malloc(LOG * sizeof *log);
    if (!log)
        exit(1);
    return log;
}

int main(int argc, char **argv) {
    uint64_t steps = argc > 1 ? strtoull(argv[1], NULL, 10) : 10000000;
    uint32_t *ring = allocate_ring();
    uint32_t *log = allocate_log();
    /* Numbers modulo 2^24 under x -> 5x + 3 (a full period, Knuth's conditions hold), then renumbered by an odd factor:
     * one ring through all of them, without order. */
    for (uint32_t i = 0, at = 0; i < RING; i++) {
        uint32_t next = (at * 5 + 3) % RING;
        ring[(at * 2654435769u) % RING] = (next * 2654435769u) % RING;
        at = next;
    }
    for (uint32_t i = 0; i < LOG; i++)
        log[i] = i;
    uint32_t at = 0;
    uint64_t sum = 0;
    for (uint64_t step = 0; step < steps; step++) {
        at = ring[at];
        if (step % (1 << 22) == 0)
            for (uint32_t i = 0; i < LOG; i++)
                sum += log[i];
    }
    printf("%u %llu\n", at, (unsigned long long)sum);
    fflush(stdout);
    if (argc > 2 && !strcmp(argv[2], "crash")) {
        volatile uintptr_t nowhere = 8;
        *(volatile int *)nowhere = 1;
    }
    free(ring);
    free(log);
    return 0;
}
