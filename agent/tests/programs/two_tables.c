/* Two tables of the same size: the lines of one are chased, those of the other read in an order that is known beforehand. As many lines
   of either are read. Beside them a list of small blocks is walked. "small" does it in 32 KiB each, which fit into a cache. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LINE 64

__attribute__((noinline)) static char *allocate_chased(size_t bytes) { return malloc(bytes); }
__attribute__((noinline)) static char *allocate_scattered(size_t bytes) { return malloc(bytes); }

struct node {
    struct node *next;
    char rest[40];
};

__attribute__((noinline)) static struct node *allocate_node(void) { return calloc(1, sizeof(struct node)); }

static uint64_t lot(uint64_t *state) {
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return *state >> 33;
}

int main(int argc, char **argv) {
    int large = argc > 1 && strcmp(argv[1], "large") == 0;
    size_t lines = large ? 65536 : 512, steps = large ? 3000000 : 30000000;
    char *chased = allocate_chased(lines * LINE), *scattered = allocate_scattered(lines * LINE);
    if (!chased || !scattered)
        return 1;
    uint64_t state = 1;
    uint32_t *order = malloc(lines * sizeof *order);
    if (!order)
        return 1;
    for (size_t n = 0; n < lines; n++)
        order[n] = (uint32_t)n;
    for (size_t n = lines - 1; n > 0; n--) {
        size_t other = lot(&state) % n;
        uint32_t kept = order[n];
        order[n] = order[other], order[other] = kept;
    }
    for (size_t n = 0; n < lines; n++)
        *(uint64_t *)(chased + order[n] * (size_t)LINE) = order[(n + 1) % lines];
    memset(scattered, 1, lines * LINE);
    free(order);
    struct node *list = allocate_node(), *last = list;
    for (size_t n = 1; list && n < (large ? 40000 : 4); n++) {
        if (!(last->next = allocate_node()))
            return 1;
        last = last->next;
    }
    if (!list)
        return 1;
    last->next = list;
    uint64_t at = 0, sum = 0;
    for (size_t n = 0; n < steps; n++) {
        at = *(volatile uint64_t *)(chased + at * LINE);
        sum += *(volatile uint64_t *)(scattered + lot(&state) % lines * LINE);
        list = *(struct node *volatile *)&list->next;
    }
    printf("chased to %llu, sum %llu\n", (unsigned long long)at, (unsigned long long)sum);
    free(chased), free(scattered);
    return 0;
}
