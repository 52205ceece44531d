// Three sites and a global for a policy: an index by malloc, a table by calloc, a log by realloc that grows, small blocks.
// -DEXTRA adds functions above them and moves every address, but no line: what is added is on one line.
//
// usage: sites [status N] [kill N] [fork] [touch FILE] [again PROGRAM ARGUMENT...] - done in this order, after the work
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
#ifdef EXTRA
__attribute__((noinline)) static void *pad(int n) { char *p = malloc(n * 3u + 7); return p ? memset(p, 1, 7) : p; } __attribute__((noinline)) void *extra(int n) { return n > 5 ? pad(n) : calloc(n + 1, 5); }
#else
#define extra(n) NULL
#endif
#define MIB (1u << 20)

double weights[1u << 17];

__attribute__((noinline)) static char *make_index(size_t bytes) {
    char *index = malloc(bytes);
    return memset(index, 1, bytes);
}

__attribute__((noinline)) static char *make_table(size_t bytes) {
    char *table = calloc(bytes, 1);
    return memset(table, 2, bytes);
}

__attribute__((noinline)) static char *grow_log(char *log, size_t bytes) {
    log = realloc(log, bytes);
    return memset(log, 3, bytes);
}

static int work(void) {
    char *index = make_index(8 * MIB), *table = make_table(16 * MIB);
    char *log = grow_log(grow_log(NULL, MIB), 4 * MIB);
    for (unsigned at = 0; at < sizeof weights / sizeof *weights; at++)
        weights[at] = at;
    int sum = index[5 * MIB] + table[7 * MIB] + log[2 * MIB];
    free(index);
    free(table);
    free(log);
    return sum;
}

int main(int argc, char **argv) {
    free(extra(argc));
    printf("%d\n", work());
    fflush(stdout);
    for (int at = 1; at < argc; at++) {
        if (!strcmp(argv[at], "touch") && fclose(fopen(argv[++at], "w")))
            return 1;
        if (!strcmp(argv[at], "fork")) {
            pid_t child = fork();
            if (child == 0) {
                work();
                _exit(0);
            }
            waitpid(child, NULL, 0);
        }
        if (!strcmp(argv[at], "kill"))
            raise(atoi(argv[++at]));
        if (!strcmp(argv[at], "wait"))
            pause();
        if (!strcmp(argv[at], "again"))
            execvp(argv[at + 1], argv + at + 1);
        if (!strcmp(argv[at], "status"))
            return atoi(argv[++at]);
    }
    return 0;
}
