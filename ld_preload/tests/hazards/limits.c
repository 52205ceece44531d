/* Run under limits: no file may grow, little address space, few descriptors. A shim that grows its file regardless is
 * killed by SIGXFSZ; one that maps half a gigabyte takes what the program needs. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(void) {
    for (int i = 0; i < 100; i++) {
        void *block = malloc(1 << 20);
        if (block == NULL)
            return 1;
        memset(block, 1, 1 << 20);
        free(block);
    }
    puts("done");
    return 0;
}
