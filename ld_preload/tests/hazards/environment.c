/* A program that prints its environment and passes it on. Not followed, a program sees what it would see without the
 * shim, its user's own LD_PRELOAD included. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern char **environ;

int main(void) {
    for (char **entry = environ; *entry; entry++)
        if (strncmp(*entry, "LD_PRELOAD", 10) == 0 || strncmp(*entry, "TIERSCOPE", 9) == 0)
            puts(*entry);
    free(malloc(50000));
    fflush(stdout);
    return system("env | grep -c -e LD_PRELOAD -e TIERSCOPE") == -1;
}
