/* Coroutines on stacks from malloc and mmap, of 16 KiB: their stacks are nobody's thread stack, end anywhere, and leave
 * little room. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

enum { ROUTINES = 50, STACK = 16384 };
static ucontext_t scheduler, routines[ROUTINES];

static void routine(int number) {
    for (int i = 0; i < 20; i++) {
        char *block = malloc(30000 + number);
        memset(block, 1, 30000);
        swapcontext(&routines[number], &scheduler);
        free(block);
    }
}

int main(void) {
    for (int i = 0; i < ROUTINES; i++) {
        char *stack = i % 2 ? malloc(STACK)
                            : mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
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
