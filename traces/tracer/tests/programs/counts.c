/* Exact numbers of loads and stores of a heap block, a global and a second block that moves. */
#include <stdio.h>
#include <stdlib.h>

#define N 100000
long table[N];

int main(void) {
    long *block = malloc(N * sizeof *block);
    for (long i = 0; i < N; i++)
        *(volatile long *)&block[i] = i;
    long sum = 0;
    for (int turn = 0; turn < 3; turn++)
        for (long i = 0; i < N; i++)
            sum += *(volatile long *)&block[i];
    for (long i = 0; i < N; i++)
        *(volatile long *)&table[i] = sum;
    for (long i = 0; i < N; i += 2)
        sum += *(volatile long *)&table[i];
    printf("%ld\n", sum);
    free(block);
    return 7;
}
