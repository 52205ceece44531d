/* Every way to get memory from the C library, each with a recorded and an unrecorded size, each block usable to the
 * size that malloc_usable_size says, and given back by every way there is. A shim that forgets one, or mixes the
 * arguments up, crashes here or loses an event. */
#define _GNU_SOURCE
#include <errno.h>
#include <malloc.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void *valloc(size_t bytes);
#ifdef __GLIBC__
void *pvalloc(size_t bytes);
#else
static void *(*const pvalloc)(size_t) = NULL;
#endif
#pragma weak reallocarray
#pragma weak valloc

static int blocks;

static void *use(void *block, size_t bytes, size_t alignment) {
    if (block == NULL || (uintptr_t)block % alignment != 0 || malloc_usable_size(block) < bytes) {
        printf("bad block of %zu\n", bytes);
        exit(1);
    }
    memset(block, 0x5a, malloc_usable_size(block));
    blocks++;
    return block;
}

int main(void) {
    size_t sizes[] = {1, 24, 4096, 100000, 3000000};
    for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        size_t n = sizes[i];
        free(use(malloc(n), n, 16));
        char *zeroed = calloc(n, 3);
        for (size_t at = 0; at < 3 * n; at++)
            if (zeroed[at] != 0)
                return 2;
        free(use(zeroed, 3 * n, 16));
        void *grown = use(malloc(n), n, 16);
        grown = use(realloc(grown, 2 * n), 2 * n, 16);
        free(use(realloc(grown, n / 2 + 1), n / 2 + 1, 16));
        if (reallocarray)
            free(use(reallocarray(NULL, n, 2), 2 * n, 16));
        free(use(memalign(256, n), n, 256));
        free(use(aligned_alloc(64, (n + 63) / 64 * 64), n, 64));
        void *aligned = NULL;
        if (posix_memalign(&aligned, 4096, n) != 0)
            return 3;
        free(use(aligned, n, 4096));
        if (valloc)
            free(use(valloc(n), n, 4096));
        if (pvalloc)
            free(use(pvalloc(n), n, 4096));
    }
    free(NULL);
    void *nothing = malloc(0);
    free(nothing);
    /* What is refused is refused as before. */
    void *volatile untouched = &blocks;
    volatile size_t huge = SIZE_MAX / 2;
    errno = 0;
    int refused = malloc(huge) == NULL;
    printf("%d %d\n", refused, errno == ENOMEM);
    errno = 0;
    refused = calloc(huge, 4) == NULL;
    printf("%d %d\n", refused, errno == ENOMEM);
    void *kept = untouched;
    int result = posix_memalign(&kept, 3, 8);
    printf("%d %d\n", result == EINVAL, kept == untouched);
    printf("%d blocks\n", blocks);
    return 0;
}
