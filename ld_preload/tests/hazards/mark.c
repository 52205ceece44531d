/* tierscope_mark, by the header: a no-op without the shim. */
#include "tierscope.h"
#include <stdio.h>

int main(void) {
    tierscope_mark("build");
    tierscope_mark("serve");
    puts("done");
    return 0;
}
