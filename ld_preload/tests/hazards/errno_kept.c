/* free keeps errno (glibc since 2.33 does, and programs rely on it), and a successful malloc through the shim does not
 * change it where the plain one did not. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

int main(void) {
    int kept = 1;
    for (int i = 0; i < 1000; i++) {
        void *warm = malloc(20000 + i);
        errno = 77;
        free(warm);
        kept &= errno == 77;
        void *block = malloc(20000 + i);
        kept &= errno == 77;
        free(block);
        kept &= errno == 77;
    }
    printf("%d\n", kept);
    return 0;
}
