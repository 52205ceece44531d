/* Asks the loader for functions that this C library may not have, and uses those it is given. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

int main(void) {
    void (*free_sized)(void *, size_t) = (void (*)(void *, size_t))dlsym(RTLD_DEFAULT, "free_sized");
    void (*free_aligned_sized)(void *, size_t, size_t) =
        (void (*)(void *, size_t, size_t))dlsym(RTLD_DEFAULT, "free_aligned_sized");
    void (*cfree)(void *) = (void (*)(void *))dlsym(RTLD_DEFAULT, "cfree");
    for (int i = 0; i < 100; i++) {
        void *block = malloc(50000);
        free_sized ? free_sized(block, 50000) : free(block);
        block = aligned_alloc(64, 64000);
        free_aligned_sized ? free_aligned_sized(block, 64, 64000) : free(block);
        block = malloc(24);
        cfree ? cfree(block) : free(block);
    }
    puts("done");
    return 0;
}
