/* Coroutines on stacks from malloc and mmap, of 16 KiB: their stacks are nobody's thread stack, end anywhere, and leave
 * little room. A page without access lies below, and most of a stack is used up when it allocates. A thread with the
 * smallest stack there can be does so as its first act. */
#define _GNU_SOURCE
#include <alloca.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

enum { ROUTINES = 50, STACK = 16384 };
static ucontext_t scheduler, routines[ROUTINES];

static void routine(int number) {
    memset(alloca(STACK - 6000), number, STACK - 6000);
    for (int i = 0; i < 20; i++) {
        char *block = malloc(30000 + number);
        memset(block, 1, 30000);
        swapcontext(&routines[number], &scheduler);
        free(block);
    }
}

static void *thread(void *argument) {
    free(memset(malloc(44444), 1, 44444));
    return argument;
}

int main(void) {
    pthread_attr_t smallest;
    pthread_attr_init(&smallest);
    pthread_attr_setstacksize(&smallest, 16384);
    pthread_t id;
    if (pthread_create(&id, &smallest, thread, NULL) != 0)
        return 1;
    pthread_join(id, NULL);
    for (int i = 0; i < ROUTINES; i++) {
        char *stack = i % 2 ? aligned_alloc(4096, STACK + 4096)
                            : mmap(NULL, STACK + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        mprotect(stack, 4096, PROT_NONE);
        stack += 4096;
        getcontext(&routines[i]);
        routines[i].uc_stack.ss_sp = stack;
        routines[i].uc_stack.ss_size = STACK;
        routines[i].uc_link = &scheduler;
        makecontext(&routines[i], (void (*)(void))routine, 1, i);
    }
    for (int round = 0; round <= 20; round++)
        for (int i = 0; i < ROUTINES; i++)
            swapcontext(&scheduler, &routines[i]);
    puts("done");
    return 0;
}
