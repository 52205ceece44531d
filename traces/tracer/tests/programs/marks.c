/* Phases. */
#include "tierscope.h"
#include <stdio.h>

int main(void) {
    tierscope_mark("build");
    tierscope_mark("a name of more than thirty-two bytes");
    puts("done");
    return 0;
}
