/* Ends as it is told to. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static volatile long table[1000];

int main(int count, char **arguments) {
    for (int i = 0; i < 1000; i++)
        table[i] = i;
    const char *how = count > 1 ? arguments[1] : "";
    if (!strcmp(how, "_exit"))
        _exit(9);
    if (!strcmp(how, "segv"))
        *(volatile int *)8 = 1;
    if (!strcmp(how, "term"))
        raise(SIGTERM);
    if (!strcmp(how, "exec")) {
        execl("/nonexistent/program", "program", NULL);
        execl("/bin/true", "true", NULL);
    }
    if (!strcmp(how, "fork")) {
        if (fork() == 0) {
            for (int i = 0; i < 100000; i++)
                table[i % 1000] = i;
            _exit(0);
        }
        for (int i = 0; i < 1000; i++)
            table[i] = i;
    }
    if (!strcmp(how, "loop"))
        for (;;)
            table[1]++;
    return 0;
}
