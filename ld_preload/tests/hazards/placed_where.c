/* Objects of several kinds, and what the kernel says of where their pages come from. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

char global_array[1 << 20];
char other_array[1 << 20] = {1};

/* The second word of the line of /proc/self/numa_maps for an address: the policy. */
static void show(const char *name, const void *address) {
    static char line[4096];
    static char policy[64];
    memset((void *)address, 1, 4096);
    FILE *file = fopen("/proc/self/numa_maps", "r");
    if (!file)
        exit(3);
    strcpy(policy, "none");
    while (fgets(line, sizeof line, file)) {
        unsigned long start = strtoul(line, NULL, 16);
        if (start > (unsigned long)address)
            break;
        sscanf(line, "%*s %63s", policy);
    }
    fclose(file);
    printf("%s %s\n", name, policy);
}

__attribute__((noinline)) char *table(size_t bytes) {
    char *block = malloc(bytes);
    memset(block, 2, bytes);
    return block;
}

__attribute__((noinline)) char *mapping(size_t bytes) {
    return mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

int main(int count, char **arguments) {
    setvbuf(stdout, NULL, _IOFBF, 1 << 16);
    char *tables[4];
    for (int i = 0; i < 4; i++)
        tables[i] = table(300000);
    for (int i = 0; i < 4; i++)
        show("table", tables[i]);
    free(tables[1]);
    tables[1] = table(400000);
    show("again", tables[1]);
    free(tables[2]);
    tables[2] = table(300000);
    show("freed", tables[2]);
    for (int i = 0; i < 4; i++)
        free(tables[i]);
    show("global", global_array + 4096);
    show("other", other_array + 4096);
    char *map = mapping(1 << 20);
    show("mapping", map);
    if (munmap(map, 1 << 20) != 0)
        return 1;
    char *elsewhere = malloc(700000);
    show("elsewhere", elsewhere);
    free(elsewhere);
    if (count > 1) {
        void *library = dlopen(arguments[1], RTLD_NOW);
        char *(*make)(size_t) = (char *(*)(size_t))(library ? dlsym(library, "plugin_block") : NULL);
        if (!make)
            return 2;
        char *block = make(300000);
        show("plugin", block);
        free(block);
        dlclose(library);
    }
    return 0;
}
