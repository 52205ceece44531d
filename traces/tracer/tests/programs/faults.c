/* Blocks that are left before their end: a handler jumps out of faults. The loads before the fault count, those after do not. */
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

static sigjmp_buf back;
long before[64] __attribute__((aligned(64)));
long after[64] __attribute__((aligned(64)));

static void handler(int signal) { siglongjmp(back, signal); }

int main(void) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = handler;
    sigaction(SIGSEGV, &action, NULL);
    volatile int turn = 0;
    while (turn < 100) {
        if (sigsetjmp(back, 1) == 0) {
            long value;
            __asm__ volatile("movq before(%%rip), %0\n\tmovq 8, %0\n\tmovq after(%%rip), %0" : "=r"(value) : : "memory");
        }
        turn++;
    }
    printf("%d\n", turn);
    return 0;
}
