/* Loads and unloads a library in a loop while it allocates: stacks lead through code that was not there at start, and
 * unwind tables of what is gone must not be read. The library is found by the program's own run path, which a wrapper
 * around dlopen would lose. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

int main(void) {
    for (int i = 0; i < 300; i++) {
        void *plugin = dlopen("libplugin.so", RTLD_NOW | RTLD_LOCAL);
        if (plugin == NULL) {
            puts(dlerror());
            return 1;
        }
        void *(*from_plugin)(void) = (void *(*)(void))dlsym(plugin, "from_plugin");
        void *block = from_plugin();
        dlclose(plugin);
        free(block);
    }
    /* Taken when the library is gone for good; in the loop it may have come back to the same place unnoticed. */
    free(malloc(70000));
    puts("done");
    return 0;
}
