/* realloc between recorded and unrecorded blocks, in place and moved, to nothing, and failing: a failed realloc must
 * leave the old block alive and recorded; one of a recorded block to an unrecorded size must end it. */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(void) {
    char *a = malloc(100000);
    memset(a, 1, 100000);
    volatile size_t impossible = SIZE_MAX / 2;
    errno = 0;
    void *failed = realloc(a, impossible);
    printf("failed %d %d\n", failed == NULL, errno == ENOMEM);
    printf("alive %d\n", a[99999]);
    a = realloc(a, 50000);     /* in place */
    a = realloc(a, 5000000);   /* moved */
    printf("kept %d %d\n", a[0], a[49999]);
    a = realloc(a, 100);       /* recorded to unrecorded */
    printf("kept %d\n", a[99]);
    a = realloc(a, 200000);    /* and back */
    free(a);
    char *b = realloc(NULL, 300000); /* a malloc */
    b[0] = 1;
    char *gone = realloc(b, 0);      /* a free, or a block of nothing */
    free(gone);
    for (int i = 0; i < 1000; i++) {
        char *c = malloc(16);
        for (size_t n = 32; n < 100000; n *= 2) {
            c = realloc(c, n);
            c[n - 1] = 1;
        }
        free(c);
    }
    puts("done");
    return 0;
}
