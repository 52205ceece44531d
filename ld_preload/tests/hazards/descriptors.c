/* A program that looks at its descriptors, closes all it did not open, and counts on getting the lowest number. */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void list(void) {
    for (int fd = 0; fd < 2048; fd++)
        if (fcntl(fd, F_GETFD) != -1)
            printf("open %d\n", fd);
}

int main(void) {
    list();
    for (int i = 0; i < 50; i++)
        free(malloc(50000));
    for (int fd = 3; fd < 2048; fd++)
        close(fd);
    free(malloc(60000));
    close(0);
    printf("lowest %d\n", open("/dev/null", O_RDONLY));
    free(malloc(70000));
    list();
    return 0;
}
