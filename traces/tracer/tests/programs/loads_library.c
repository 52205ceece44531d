/* dlopen: the library's globals are objects once it is there. */
#include <dlfcn.h>
#include <stdio.h>

int main(int count, char **arguments) {
    (void)count;
    for (int turn = 0; turn < 2; turn++) {
        void *library = dlopen(arguments[1], RTLD_NOW);
        if (library == NULL)
            return 1;
        void (*touch)(long) = (void (*)(long))dlsym(library, "touch");
        touch(5000);
        dlclose(library);
    }
    puts("done");
    return 0;
}
