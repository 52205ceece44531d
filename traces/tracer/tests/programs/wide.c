/* Accesses of every width that an emulator may split: each counts once. */
#include <immintrin.h>
#include <stdio.h>

char wide[4096] __attribute__((aligned(64)));
char tens[4096] __attribute__((aligned(64)));
char copied[8192] __attribute__((aligned(64)));

__attribute__((target("avx"))) static void vectors(void) {
    for (int i = 0; i < 100; i++) {
        __asm__ volatile("movups (%0), %%xmm0" : : "r"(wide + i % 64) : "xmm0", "memory");
        __asm__ volatile("vmovups (%0), %%ymm0\n\tvmovups %%ymm0, 1024(%0)\n\tvzeroupper" : : "r"(wide + i % 64) : "xmm0", "memory");
    }
}

int main(void) {
    vectors();
    for (int i = 0; i < 100; i++)
        __asm__ volatile("fldt (%0)\n\tfstpt 1024(%0)" : : "r"(tens + i) : "memory");
    void *to = copied + 4096, *from = copied;
    long count = 300;
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(count) : : "memory");
    puts("done");
    return 0;
}
