/* Memory that is used once and then rests, while the program goes on allocating. Prints what part of it the kernel still
 * takes to have been used, in percent. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static int used_percent(const char *block) {
    static char line[4096];
    unsigned long start = 0, end = 0, size = 0, referenced = 0;
    int inside = 0;
    FILE *file = fopen("/proc/self/smaps", "r");
    if (!file)
        exit(3);
    while (fgets(line, sizeof line, file)) {
        if (sscanf(line, "%lx-%lx ", &start, &end) == 2 && strchr(line, '-') < strchr(line, ' '))
            inside = start <= (unsigned long)block && (unsigned long)block < end;
        if (inside) {
            sscanf(line, "Rss: %lu kB", &size);
            sscanf(line, "Referenced: %lu kB", &referenced);
        }
    }
    fclose(file);
    return size == 0 ? -1 : (int)(referenced * 100 / size);
}

int main(void) {
    char *block = malloc(32 << 20);
    memset(block, 1, 32 << 20);
    int before = used_percent(block);
    for (int i = 0; i < 130; i++) {
        nanosleep(&(struct timespec){0, 10000000}, NULL);
        free(malloc(3000));
    }
    int after = used_percent(block);
    printf("%s %s\n", before > 90 ? "used" : "idle", after > 10 ? "used" : "idle");
    return block[12345] == 1 ? 0 : 1;
}
