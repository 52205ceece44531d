/* Updates one array at random for some seconds, then another: what a recording sees depends on when it looks.
 *
 * usage: phases FIRST_SECONDS SECOND_SECONDS [PID_FILE DONE_FILE]
 *
 * PID_FILE is written at the start; DONE_FILE, holding "done", at the end. The functions that allocate look at what they
 * got, so that their last call is no jump, which would leave them out of its call stack; and as their code is the same, the
 * compiler is told to leave them two. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define CELLS (8u << 20)

__attribute__((noipa)) static uint64_t *allocate_first(void) {
    uint64_t *cells = calloc(CELLS, sizeof *cells);
    if (!cells)
        exit(1);
    return cells;
}

__attribute__((noipa)) static uint64_t *allocate_second(void) {
    uint64_t *cells = calloc(CELLS, sizeof *cells);
    if (!cells)
        exit(1);
    return cells;
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

__attribute__((noinline)) static void update(uint64_t *cells, double seconds) {
    uint64_t state = 1;
    for (double end = now() + seconds; now() < end;)
        for (int i = 0; i < 100000; i++) {
            state = state * 6364136223846793005u + 1442695040888963407u;
            cells[(state >> 33) % CELLS] += state;
        }
}

static void write_file(const char *path, const char *text) {
    FILE *file = fopen(path, "w");
    if (!file || fputs(text, file) < 0 || fclose(file) != 0)
        exit(1);
}

int main(int argc, char **argv) {
    if (argc < 3)
        return 2;
    if (argc > 4) {
        char pid[32];
        snprintf(pid, sizeof pid, "%d\n", (int)getpid());
        write_file(argv[3], pid);
    }
    uint64_t *first = allocate_first();
    uint64_t *second = allocate_second();
    update(first, atof(argv[1]));
    update(second, atof(argv[2]));
    puts("both phases done");
    if (argc > 4)
        write_file(argv[4], "done\n");
    free(first);
    free(second);
    return 0;
}
