/* What a malloc and its free cost: nanoseconds per pair, on one thread or on several at once.
 *
 *     malloc_free_pair [iterations [threads [bytes]]]
 *
 * Prints "ns_per_pair: X", the mean over threads of their CPU time by pair. Blocks are kept in a small window, as programs
 * do, so that the allocator does not hand out the same block each time. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { WINDOW = 64 };

static unsigned long iterations = 20000000;
static size_t bytes = 64;

static double thread_seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return now.tv_sec + now.tv_nsec * 1e-9;
}

static void *run(void *result) {
    void *volatile window[WINDOW];
    for (int slot = 0; slot < WINDOW; slot++)
        window[slot] = NULL;
    double began = thread_seconds();
    for (unsigned long i = 0; i < iterations; i++) {
        unsigned slot = i % WINDOW;
        free(window[slot]);
        window[slot] = malloc(bytes);
    }
    *(double *)result = (thread_seconds() - began) / iterations * 1e9;
    for (int slot = 0; slot < WINDOW; slot++)
        free(window[slot]);
    return NULL;
}

int main(int argc, char **argv) {
    int threads = 1;
    if (argc > 1)
        iterations = strtoul(argv[1], NULL, 10);
    if (argc > 2)
        threads = atoi(argv[2]);
    if (argc > 3)
        bytes = strtoul(argv[3], NULL, 10);
    if (iterations == 0 || threads < 1 || threads > 256) {
        fputs("usage: malloc_free_pair [iterations [threads [bytes]]]\n", stderr);
        return 2;
    }
    pthread_t ids[256];
    double cost[256], sum = 0;
    for (int i = 1; i < threads; i++)
        if (pthread_create(&ids[i], NULL, run, &cost[i]) != 0)
            return 1;
    run(&cost[0]);
    for (int i = 1; i < threads; i++)
        pthread_join(ids[i], NULL);
    for (int i = 0; i < threads; i++)
        sum += cost[i];
    printf("ns_per_pair: %.2f\n", sum / threads);
    return 0;
}
