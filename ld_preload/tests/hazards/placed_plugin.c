/* A library loaded late, whose blocks a rule names. */
#include <stdlib.h>

char *plugin_block(size_t bytes) {
    char *block = malloc(bytes);
    block[0] = 1;
    return block;
}
