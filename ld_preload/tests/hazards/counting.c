/* A library preloaded behind the shim that counts the allocations which reach the C library, and prints the counts at
 * the end: they must be the same with the shim as without. (Not calls of free: the loader makes one per thread for each
 * library that has thread-local storage, of nothing.) */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);

static unsigned long mallocs, callocs, reallocs;

#define COUNT(counter) __atomic_fetch_add(&counter, 1, __ATOMIC_RELAXED)

void *malloc(size_t bytes) { COUNT(mallocs); return __libc_malloc(bytes); }
void *calloc(size_t count, size_t bytes) { COUNT(callocs); return __libc_calloc(count, bytes); }
void *realloc(void *block, size_t bytes) { COUNT(reallocs); return __libc_realloc(block, bytes); }

__attribute__((destructor)) static void tell(void) {
    char line[128];
    int length = snprintf(line, sizeof line, "%lu %lu %lu\n", mallocs, callocs, reallocs);
    write(1, line, length);
}
