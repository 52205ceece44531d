/* Two arrays in .bss, as Fortran and older C codes keep their fields: u0 is read at random, u1 in order.
 *
 * u0 must come out on top, as a global and by its name. */
#include <stdint.h>
#include <stdio.h>

#define CELLS (8u << 20)

double u0[CELLS];
double u1[CELLS];

int main(void) {
    for (uint32_t i = 0; i < CELLS; i++) {
        u0[i] = i % 7;
        u1[i] = i % 5;
    }
    uint64_t state = 1;
    double sum = 0;
    for (uint32_t i = 0; i < 40000000; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        sum += u0[(state >> 33) % CELLS];
    }
    for (uint32_t i = 0; i < CELLS; i++)
        sum += u1[i];
    printf("%.0f\n", sum);
    return 0;
}
