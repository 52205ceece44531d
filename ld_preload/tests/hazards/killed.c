/* Dies by a signal in the middle of allocating, with other threads allocating too. */
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

static void *run(void *argument) {
    for (;;)
        free(malloc(20000));
    return argument;
}

int main(void) {
    pthread_t id;
    for (int i = 0; i < 3; i++)
        pthread_create(&id, NULL, run, NULL);
    usleep(50000);
    kill(getpid(), SIGKILL);
    return 0;
}
