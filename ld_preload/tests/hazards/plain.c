/* Nothing special: four allocations of known sizes from four known places, for the tests that look at what is told. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

__attribute__((noinline)) void *large_block(void) { void *p = malloc(1 << 20); memset(p, 1, 1 << 20); return p; }
__attribute__((noinline)) void *outer(void) { void *p = large_block(); __asm__ volatile("" ::: "memory"); return p; }

int main(void) {
    void *kept = outer();
    void *dropped = outer();
    free(dropped);
    void *map = mmap(NULL, 123456, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(map, 123456);
    printf("%d\n", kept != NULL);
    return 0;
}
