/* Code made at run time, at one address, that is replaced: each version loads from another global. */
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

long one[8] __attribute__((aligned(64)));
long two[8] __attribute__((aligned(64)));

static void generate(unsigned char *code, long *from) {
    /* mov rax, imm64; mov rax, [rax]; ret */
    uint64_t address = (uint64_t)from;
    memcpy(code, "\x48\xb8", 2);
    memcpy(code + 2, &address, 8);
    memcpy(code + 10, "\x48\x8b\x00\xc3", 4);
}

int main(void) {
    unsigned char *code = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    long (*volatile function)(void) = (long (*)(void))code;
    long sum = 0;
    for (int version = 0; version < 20; version++) {
        generate(code, version % 2 ? two : one);
        for (int i = 0; i < 100 + version % 2 * 100; i++)
            sum += function();
    }
    printf("%ld\n", sum);
    return 0;
}
