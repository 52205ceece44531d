/* A library that allocates in its constructor, and asks the loader (which allocates) from inside its own malloc: what
 * resolves functions with dlsym, or sets itself up in its constructor only, recurses or crashes. Built as a library and
 * preloaded behind the shim. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>

static void *(*next_malloc)(size_t);
static int depth;
static char early[65536];
static size_t early_used;

void *malloc(size_t bytes) {
    if (next_malloc == NULL) {
        if (depth++ > 0) {
            void *block = early + early_used;
            early_used += (bytes + 15) / 16 * 16;
            return block;
        }
        next_malloc = (void *(*)(size_t))dlsym(RTLD_NEXT, "malloc");
        depth--;
    }
    return next_malloc(bytes);
}

void *kept_by_constructor;

__attribute__((constructor)) static void at_load(void) {
    kept_by_constructor = malloc(40000);
}
