/* vfork and exec, posix_spawn, and a chain of execs: the child of a vfork shares its parent's memory (a shim that takes
 * it for a forked child breaks its parent), and each new image starts anew. */
#define _GNU_SOURCE
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

int main(int argc, char **argv) {
    int left = argc > 1 ? atoi(argv[1]) : 3;
    void *before = malloc(100000 + left);
    int status = -1;
    pid_t child = vfork();
    if (child == 0) {
        execl("/bin/true", "true", (char *)NULL);
        _exit(127);
    }
    waitpid(child, &status, 0);
    printf("vfork %d\n", status);
    char *arguments[] = {"true", NULL};
    posix_spawn(&child, "/bin/true", NULL, NULL, arguments, environ);
    waitpid(child, &status, 0);
    printf("spawn %d\n", status);
    void *after = malloc(200000);
    free(before);
    free(after);
    printf("left %d\n", left);
    fflush(stdout);
    if (left > 0) {
        char number[16];
        snprintf(number, sizeof number, "%d", left - 1);
        execl("/proc/self/exe", argv[0], number, (char *)NULL);
        return 1;
    }
    return 0;
}
