/* fork, with children and grandchildren that allocate, free what they inherited, start threads, and end by _exit; and
 * forks while other threads are inside the allocator. A child that writes to its parent's rings shows as more events
 * than its parent made. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile int stop;

static void *churn(void *argument) {
    while (!stop)
        free(memset(malloc(20000), 1, 20000));
    return argument;
}

static void *once(void *argument) {
    free(malloc(60000));
    return argument;
}

static int wait_for(pid_t child) {
    int status = -1;
    return waitpid(child, &status, 0) == child ? status : -1;
}

int main(void) {
    char *inherited = malloc(70000);
    memset(inherited, 1, 70000);
    pid_t child = fork();
    if (child == 0) {
        free(inherited);
        void *own = malloc(80000);
        pthread_t id;
        pthread_create(&id, NULL, once, NULL);
        pthread_join(id, NULL);
        pid_t grandchild = fork();
        if (grandchild == 0) {
            free(own);
            free(malloc(90000));
            _exit(0);
        }
        _exit(wait_for(grandchild) == 0 ? 0 : 1);
    }
    printf("child %d\n", wait_for(child));
    pthread_t id;
    pthread_create(&id, NULL, churn, NULL);
    int failed = 0;
    for (int i = 0; i < 50; i++) {
        child = fork();
        if (child == 0) {
            free(malloc(40000));
            free(malloc(10));
            _exit(0);
        }
        failed |= wait_for(child);
    }
    stop = 1;
    pthread_join(id, NULL);
    printf("children %d\n", failed);
    free(inherited);
    return 0;
}
