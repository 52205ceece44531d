/* Two OpenMP threads gather from a field by an index.
 *
 * field: 64 MiB, read at random. index: 32 MiB, read in order. output: 8 KiB a thread, stays in the first-level cache.
 * The field must come out on top. */
#include <omp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define CELLS (8u << 20)
#define ROUNDS 6

/* Looks at what it got, so that the call of the allocator is no jump, which would leave the caller out of its stack. */
static void *checked(void *block) {
    if (!block)
        exit(1);
    return block;
}

__attribute__((noinline)) static double *allocate_field(void) { return checked(malloc(CELLS * sizeof(double))); }

__attribute__((noinline)) static uint32_t *allocate_index(void) { return checked(malloc(CELLS * sizeof(uint32_t))); }

__attribute__((noinline)) static double *allocate_output(void) { return checked(calloc(1024, sizeof(double))); }

int main(void) {
    double *field = allocate_field();
    uint32_t *index = allocate_index();
    uint64_t state = 1;
    for (uint32_t i = 0; i < CELLS; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        index[i] = (uint32_t)((state >> 33) % CELLS);
        field[i] = i % 10;
    }
    double sum = 0;
#pragma omp parallel num_threads(2) reduction(+ : sum)
    {
        double *output = allocate_output();
        for (int round = 0; round < ROUNDS; round++) {
#pragma omp for
            for (uint32_t i = 0; i < CELLS; i++)
                output[i % 1024] += field[index[i]];
        }
        for (int i = 0; i < 1024; i++)
            sum += output[i];
        free(output);
    }
    printf("%.0f\n", sum);
    free(field);
    free(index);
    return 0;
}
