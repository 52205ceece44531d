/* Every way to get and give back a block, with contents checked: the same result wherever the blocks lie. With an
 * argument, it says of which functions the blocks lie in a region of addresses (for a person, and for tests). */
#define _GNU_SOURCE
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHECK(what) \
    do { \
        if (!(what)) { \
            printf("line %d: %s\n", __LINE__, #what); \
            exit(1); \
        } \
    } while (0)

static void fill(unsigned char *block, size_t bytes, unsigned seed) {
    for (size_t i = 0; i < bytes; i++)
        block[i] = (unsigned char)(seed + i * 7);
}

static int holds(const unsigned char *block, size_t bytes, unsigned seed) {
    for (size_t i = 0; i < bytes; i++)
        if (block[i] != (unsigned char)(seed + i * 7))
            return 0;
    return 1;
}

__attribute__((noinline)) void *one(size_t bytes) {
    void *block = malloc(bytes);
    CHECK(block && (uintptr_t)block % 16 == 0);
    return block;
}

__attribute__((noinline)) void *zeroed(size_t count, size_t bytes) {
    unsigned char *block = calloc(count, bytes);
    CHECK(block);
    for (size_t i = 0; i < count * bytes; i++)
        CHECK(block[i] == 0);
    return block;
}

__attribute__((noinline)) void *grown(void *block, size_t bytes) {
    return realloc(block, bytes);
}

__attribute__((noinline)) void *aligned(size_t alignment, size_t bytes) {
    void *block = NULL;
    CHECK(posix_memalign(&block, alignment, bytes) == 0);
    CHECK((uintptr_t)block % alignment == 0);
    return block;
}

static void sizes(void) {
    static const size_t all[] = {0, 1, 15, 16, 17, 100, 4000, 4096, 5000, 65536, 131056, 131072, 200000, 2097152, 5000000};
    enum { COUNT = sizeof all / sizeof *all };
    void *blocks[3][COUNT];
    for (int round = 0; round < 3; round++)
        for (int i = 0; i < COUNT; i++) {
            blocks[round][i] = round == 1 ? zeroed(1, all[i]) : one(all[i]);
            CHECK(malloc_usable_size(blocks[round][i]) >= all[i]);
            fill(blocks[round][i], all[i], round * 31 + i);
        }
    for (int round = 0; round < 3; round++)
        for (int i = 0; i < COUNT; i++) {
            CHECK(holds(blocks[round][i], all[i], round * 31 + i));
            free(blocks[round][i]);
        }
    free(NULL);
}

static void growing(void) {
    unsigned char *block = NULL;
    size_t had = 0;
    for (size_t bytes = 1; bytes < 20000000; bytes = bytes * 3 / 2 + 1) {
        block = grown(block, bytes);
        CHECK(block && holds(block, had, 5));
        fill(block, bytes, 5);
        had = bytes;
    }
    while (had > 10) {
        size_t bytes = had / 3;
        block = grown(block, bytes);
        CHECK(block && holds(block, bytes, 5));
        had = bytes;
    }
    CHECK(grown(block, 0) == NULL);
    block = reallocarray(NULL, 100, 1000);
    CHECK(block);
    fill(block, 100000, 9);
    CHECK(reallocarray(block, SIZE_MAX / 2, 3) == NULL);
    CHECK(holds(block, 100000, 9));
    CHECK(realloc(block, (size_t)1 << 60) == NULL);
    CHECK(holds(block, 100000, 9));
    free(block);
}

static void alignments(void) {
    void *blocks[24];
    for (int i = 0; i < 24; i++) {
        blocks[i] = aligned((size_t)8 << (i % 20), 1000 + i * 3000);
        fill(blocks[i], 1000 + i * 3000, i);
    }
    for (int i = 0; i < 24; i += 2) {
        blocks[i] = realloc(blocks[i], 200000);
        CHECK(blocks[i] && holds(blocks[i], 1000 + i * 3000 < 200000 ? 1000 + i * 3000 : 200000, i));
    }
    for (int i = 0; i < 24; i++) {
        CHECK(holds(blocks[i], 1000 + i * 3000 < 200000 ? 1000 + i * 3000 : 200000, i));
        free(blocks[i]);
    }
    void *block = NULL;
    CHECK(posix_memalign(&block, 24, 10) != 0 && block == NULL);
    block = memalign(64, 1000);
    CHECK((uintptr_t)block % 64 == 0);
    free(block);
    block = aligned_alloc(4096, 8192);
    CHECK((uintptr_t)block % 4096 == 0);
    free(block);
    block = valloc(100);
    CHECK((uintptr_t)block % 4096 == 0);
    free(block);
#ifdef __GLIBC__
    block = pvalloc(100);
    CHECK((uintptr_t)block % 4096 == 0 && malloc_usable_size(block) >= 4096);
    free(block);
#endif
    CHECK(calloc(SIZE_MAX / 2, 3) == NULL);
    CHECK(malloc(SIZE_MAX - 5) == NULL);
}

static void *shared[64];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void *worker(void *argument) {
    unsigned state = (unsigned)(uintptr_t)argument * 2654435761u + 1;
    for (int i = 0; i < 20000; i++) {
        state = state * 1664525 + 1013904223;
        size_t bytes = 8 + (state >> 8) % (i % 50 == 0 ? 300000 : 3000);
        unsigned char *block = one(bytes + 8);
        memcpy(block, &bytes, sizeof bytes);
        fill(block + 8, bytes, (unsigned)bytes);
        pthread_mutex_lock(&lock);
        unsigned char *other = shared[state % 64];
        shared[state % 64] = block;
        pthread_mutex_unlock(&lock);
        if (other) {
            size_t has;
            memcpy(&has, other, sizeof has);
            CHECK(holds(other + 8, has, (unsigned)has));
            free(other);
        }
    }
    return NULL;
}

static void threads(void) {
    pthread_t all[4];
    for (uintptr_t i = 0; i < 4; i++)
        CHECK(pthread_create(&all[i], NULL, worker, (void *)i) == 0);
    for (int i = 0; i < 4; i++)
        pthread_join(all[i], NULL);
    for (int i = 0; i < 64; i++) {
        free(shared[i]);
        shared[i] = NULL;
    }
}

static volatile int stop;

static void *busy(void *argument) {
    while (!stop)
        free(one(100 + (uintptr_t)argument * 1000));
    return NULL;
}

/* Children of a program whose other threads are in the allocator: each has a copy of its own. */
static void forks(void) {
    pthread_t all[2];
    stop = 0;
    for (uintptr_t i = 0; i < 2; i++)
        CHECK(pthread_create(&all[i], NULL, busy, (void *)(i * 200)) == 0);
    unsigned char *small = one(1000), *large = one(3000000);
    fill(small, 1000, 1);
    fill(large, 3000000, 2);
    for (int i = 0; i < 20; i++) {
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            if (!holds(small, 1000, 1) || !holds(large, 3000000, 2))
                _exit(2);
            fill(small, 1000, 100 + i);
            fill(large, 3000000, 101 + i);
            for (int j = 0; j < 100; j++)
                free(one(j * 1000));
            unsigned char *fresh = one(500000);
            fill(fresh, 500000, 3);
            usleep(1000);
            if (!holds(large, 3000000, 101 + i) || !holds(fresh, 500000, 3))
                _exit(3);
            free(large);
            free(small);
            pid_t grandchild = i == 0 ? fork() : 1;
            if (grandchild == 0)
                _exit(holds(fresh, 500000, 3) ? 0 : 4);
            int status = 0;
            if (i == 0 && (waitpid(grandchild, &status, 0) < 0 || status != 0))
                _exit(5);
            _exit(0);
        }
        CHECK(holds(large, 3000000, 2));
        int status = 1;
        CHECK(waitpid(child, &status, 0) == child);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
        CHECK(holds(small, 1000, 1) && holds(large, 3000000, 2));
    }
    stop = 1;
    for (int i = 0; i < 2; i++)
        pthread_join(all[i], NULL);
    free(small);
    free(large);
}

static void others(void) {
    char *text = strdup("a block that the C library asks for");
    CHECK(strcmp(text, "a block that the C library asks for") == 0);
    text = realloc(text, 100000);
    CHECK(strcmp(text, "a block that the C library asks for") == 0);
    free(text);
    char *line = NULL;
    size_t room = 0;
    FILE *file = fopen("/proc/self/status", "r");
    CHECK(file && getline(&line, &room, file) > 0);
    fclose(file);
    free(line);
    unsigned char *map = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(map != MAP_FAILED);
    fill(map, 1 << 20, 3);
    CHECK(holds(map, 1 << 20, 3));
    CHECK(munmap(map, 1 << 20) == 0);
    /* A daemon closes all descriptors it does not know. */
    unsigned char *before = one(700000);
    fill(before, 700000, 8);
    for (int i = 3; i < 2048; i++)
        close(i);
    unsigned char *after = one(900000);
    fill(after, 900000, 9);
    CHECK(holds(before, 700000, 8) && holds(after, 900000, 9));
    free(before);
    free(after);
}

int main(int count, char **arguments) {
    const char *only = count > 1 ? arguments[1] : "all";
    int all = strcmp(only, "all") == 0;
    if (all || strcmp(only, "sizes") == 0)
        sizes();
    if (all || strcmp(only, "growing") == 0)
        growing();
    if (all || strcmp(only, "alignments") == 0)
        alignments();
    if (all || strcmp(only, "threads") == 0)
        threads();
    if (all || strcmp(only, "forks") == 0)
        forks();
    if (all || strcmp(only, "others") == 0)
        others();
    puts("done");
    return 0;
}
