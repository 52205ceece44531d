// Asks for huge pages in a large block, touches it, and prints how much of all memory is huge, in KiB.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { BYTES = 32 << 20, PAGE = 4096 };

int main(void) {
    char *block = malloc(BYTES);
    uintptr_t first = ((uintptr_t)block + PAGE - 1) & ~(uintptr_t)(PAGE - 1);
    uintptr_t end = ((uintptr_t)block + BYTES) & ~(uintptr_t)(PAGE - 1);
    madvise((void *)first, end - first, MADV_HUGEPAGE);
    memset(block, 1, BYTES);
    FILE *smaps = fopen("/proc/self/smaps", "r");
    char line[512];
    long sum = 0, kibibytes;
    while (smaps && fgets(line, sizeof line, smaps))
        if (sscanf(line, "AnonHugePages: %ld", &kibibytes) == 1)
            sum += kibibytes;
    printf("%ld\n", sum);
    return 0;
}
