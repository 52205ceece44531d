/* Two threads, each with a block of its own, and one they share by atomic additions: no access may be lost. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#define N 200000
static long shared_counter __attribute__((aligned(64)));

static void *work(void *argument) {
    long *block = argument;
    for (long i = 0; i < N; i++) {
        *(volatile long *)&block[i] = i;
        if (i % 4 == 0)
            __atomic_fetch_add(&shared_counter, 1, __ATOMIC_SEQ_CST);
    }
    for (long i = 0; i < N; i++)
        (void)*(volatile long *)&block[i];
    return NULL;
}

__attribute__((noinline)) static long *first_block(void) { long *p = malloc(N * sizeof *p); __asm__ volatile("" ::: "memory"); return p; }
__attribute__((noinline)) static long *second_block(void) { long *p = malloc(N * sizeof *p); __asm__ volatile("" ::: "memory"); return p; }

int main(void) {
    long *first = first_block(), *second = second_block();
    pthread_t id;
    pthread_create(&id, NULL, work, first);
    work(second);
    pthread_join(id, NULL);
    printf("%ld\n", shared_counter);
    return 0;
}
