#include <stdio.h>
#include <stdlib.h>
int main(void) { void *p = malloc(100000); printf("%d\n", p != NULL); free(p); return 0; }
