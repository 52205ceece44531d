/* The library that dlopen_loop.c loads: allocates as it is loaded, as it is called, and as it is unloaded. */
#include <stdlib.h>
#include <string.h>

static void *kept;

__attribute__((constructor)) static void load(void) { kept = malloc(50000); }
__attribute__((destructor)) static void unload(void) { free(kept); }

void *from_plugin(void) {
    void *block = malloc(60000);
    memset(block, 1, 60000);
    return block;
}
