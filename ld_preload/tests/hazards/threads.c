/* Threads, 2000 at a time and 20000 one after the other: more than there are rings, and enough that a shim which keeps
 * something of every thread that ever lived runs out of memory (the address space is limited in the second part). */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static pthread_barrier_t barrier;

static void *at_once(void *argument) {
    pthread_barrier_wait(&barrier);
    for (int i = 0; i < 20; i++) {
        char *block = malloc(20000);
        block[0] = 1;
        free(block);
    }
    pthread_barrier_wait(&barrier);
    return argument;
}

static void *in_turn(void *argument) {
    char *block = malloc(30000);
    memset(block, 1, 30000);
    free(block);
    return argument;
}

int main(int argc, char **argv) {
    int many = argc > 1 ? atoi(argv[1]) : 2000, turns = argc > 2 ? atoi(argv[2]) : 20000;
    pthread_t *ids = malloc(many * sizeof *ids);
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 65536);
    pthread_barrier_init(&barrier, NULL, many);
    for (int i = 0; i < many; i++)
        if (pthread_create(&ids[i], &attributes, at_once, NULL) != 0)
            return 1;
    for (int i = 0; i < many; i++)
        pthread_join(ids[i], NULL);
    for (int i = 0; i < turns; i++) {
        pthread_t id;
        if (pthread_create(&id, &attributes, in_turn, NULL) != 0)
            return 2;
        pthread_join(id, NULL);
    }
    free(ids);
    puts("done");
    return 0;
}
