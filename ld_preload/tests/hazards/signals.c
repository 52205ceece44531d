/* Allocations in signal handlers that interrupt allocations: on the same stack, on a signal stack of the least size, and
 * with siglongjmp out of the handler. What leaves its guard set is blind from then on; what holds a lock hangs; what
 * needs much stack overflows. The handler interrupts only where the program says that it may (the allocator itself is
 * not reentrant), which includes the shim's way in and out. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <unistd.h>

static sigjmp_buf back;
static volatile sig_atomic_t handled, jump;

/* Memory that no allocator's lock protects: mmap is safe in a handler, and is hooked all the same. */
static void handler(int signal) {
    (void)signal;
    void *map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(map, 1, 4096);
    munmap(map, 4096);
    handled++;
    if (jump)
        siglongjmp(back, 1);
}

static void work(int rounds) {
    for (volatile int i = 0; i < rounds; i++) {
        char *map = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        map[0] = 1;
        munmap(map, 65536);
    }
}

static void with_timer(void) {
    struct itimerval often = {{0, 200}, {0, 200}}, never = {{0, 0}, {0, 0}};
    setitimer(ITIMER_REAL, &often, NULL);
    sig_atomic_t until = handled + 200;
    while (handled < until)
        work(50);
    setitimer(ITIMER_REAL, &never, NULL);
}

int main(void) {
    struct sigaction action = {.sa_handler = handler};
    sigaction(SIGALRM, &action, NULL);
    with_timer();
    puts("same stack");
    stack_t alternate = {.ss_sp = malloc(SIGSTKSZ), .ss_size = SIGSTKSZ};
    sigaltstack(&alternate, NULL);
    action.sa_flags = SA_ONSTACK;
    sigaction(SIGALRM, &action, NULL);
    with_timer();
    puts("signal stack");
    jump = 1;
    for (volatile int i = 0; i < 200; i++) {
        struct itimerval once = {{0, 0}, {0, 100 + i % 50}};
        if (sigsetjmp(back, 1) == 0) {
            setitimer(ITIMER_REAL, &once, NULL);
            for (;;)
                work(10);
        }
    }
    puts("jumped");
    /* Recorded again after all that: the test counts them. */
    for (int i = 0; i < 100; i++)
        free(memset(malloc(777000), 1, 10));
    return 0;
}
