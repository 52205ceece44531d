/* A block is freed and its address handed to another site; a block moves when it grows. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define N 4096
__attribute__((noinline)) static long *early(void) { long *p = malloc(N * sizeof *p); __asm__ volatile("" ::: "memory"); return p; }
__attribute__((noinline)) static long *late(void) { long *p = malloc(N * sizeof *p); __asm__ volatile("" ::: "memory"); return p; }
__attribute__((noinline)) static long *grown(long *p) { p = realloc(p, 64 * N * sizeof *p); __asm__ volatile("" ::: "memory"); return p; }

static void store(long *p, long count) {
    for (long i = 0; i < count; i++)
        *(volatile long *)&p[i % N] = i;
}

int main(void) {
    long *a = early();
    store(a, 10000);
    unsigned long was = (unsigned long)a;
    free(a);
    long *b = late();
    store(b, 20000);
    printf("%d\n", (unsigned long)b == was);
    b = grown(b);
    store(b, 40000);
    free(b);
    return 0;
}
