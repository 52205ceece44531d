/* As many events as can be made: N blocks on each of two threads, for the test that counts what was read and lost. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

static long count = 200000;

static void *run(void *argument) {
    for (long i = 0; i < count; i++) {
        void *volatile block = malloc(32);
        free(block);
    }
    return argument;
}

int main(int argc, char **argv) {
    if (argc > 1)
        count = atol(argv[1]);
    pthread_t id;
    pthread_create(&id, NULL, run, NULL);
    run(NULL);
    pthread_join(id, NULL);
    puts("done");
    return 0;
}
