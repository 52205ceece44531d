/* Addresses that follow from others of the same block, and those that only look as if they did. */
#include <stdio.h>

char data[8192] __attribute__((aligned(4096)));
long other[64];
char table[256];

__attribute__((noinline, target("avx"))) static void once(char *at, long turn) {
    long a = turn, b = 1, c = 8, index = turn % 7;
    __asm__ volatile(
        /* Fields; what is read and written; other registers; an index; one that changes by constants, and by anything. */
        "movq (%[at]), %[a]\n\t"
        "addq %[a], 8(%[at])\n\t"
        "incl 16(%[at])\n\t"
        "movq %[a], 24(%[at],%[index],8)\n\t"
        "movq 32(%[at],%[index],8), %[b]\n\t"
        "addq $8, %[index]\n\t"
        "movq %[b], 40(%[at],%[index],8)\n\t"
        "leaq 5(%[index]), %[index]\n\t"
        "movb %b[b], 64(%[at],%[index])\n\t"
        "andq $7, %[index]\n\t"
        "movq 64(%[at],%[index],8), %[b]\n\t"
        "movq 4104(%[at]), %[b]\n\t"
        /* In pieces, once and twice; around the caches. */
        "movups 3(%[at]), %%xmm0\n\t"
        "movups %%xmm0, 256(%[at])\n\t"
        "movups 272(%[at]), %%xmm1\n\t"
        "vmovups 40(%[at]), %%ymm0\n\t"
        "vmovups %%ymm0, 300(%[at])\n\t"
        "movntps %%xmm1, 512(%[at])\n\t"
        "movnti %[a], 528(%[at])\n\t"
        /* Constants. */
        "movq other(%%rip), %[a]\n\t"
        "movq %[a], 24+other(%%rip)\n\t"
        "addb $1, data+77(%%rip)\n\t"
        : [a] "+r"(a), [b] "+r"(b), [index] "+r"(index)
        : [at] "r"(at)
        : "memory", "xmm0", "xmm1");
    __asm__ volatile(
        /* The stack, by whatever moves it. */
        "pushq %[a]\n\tpushq %[c]\n\tmovq 8(%%rsp), %[a]\n\tsubq $32, %%rsp\n\tmovq %[a], 16(%%rsp)\n\t"
        "call 1f\n1:\n\tpopq %[a]\n\tpushq 16(%%rsp)\n\tpopq 24(%%rsp)\n\taddq $32, %%rsp\n\tpopq %[c]\n\tpopq %[a]\n\t"
        "pushq %%rbp\n\tmovq %%rsp, %%rbp\n\tpushq %[c]\n\tleave\n\t"
        "pushq %%rsp\n\tpopq %[a]\n\tenter $16, $0\n\tmovq -8(%%rbp), %[c]\n\tleave\n\t"
        "pushfq\n\tpopfq\n\tpushw $3\n\tpopw %w[a]\n\t"
        : [a] "+r"(a), [c] "+r"(c)
        :
        : "memory", "cc");
    long bits = 3 + 64 * (turn % 5), expected = 0;
    __asm__ volatile(
        /* Addresses that are computed otherwise, locked instructions, and conditions. */
        "movq 1024(%[at]), %%rax\n\t"
        "btsq %[bits], 1024(%[at])\n\tbtrq $5, 1024(%[at])\n\t"
        "lock incq 1032(%[at])\n\tmovq 1040(%[at]), %%rcx\n\tlock xaddq %%rcx, 1040(%[at])\n\t"
        "xchgq %%rcx, 1048(%[at])\n\txorl %%eax, %%eax\n\tcmpxchgq %%rcx, 1056(%[at])\n\tcmoveq 1064(%[at]), %%rcx\n\t"
        "movq 1072(%[at]), %%rcx\n\tsetc 1073(%[at])\n\tshlq $3, 1080(%[at])\n\tmovb $9, %%al\n\t"
        "pushq %%rbx\n\tleaq table(%%rip), %%rbx\n\txlatb\n\tpopq %%rbx\n\t"
        "movq %[at], %%rsi\n\tleaq 2048(%[at]), %%rdi\n\tmovsq\n\tmovsb\n\tlodsb\n\tstosb\n\tscasb\n\tcmpsb\n\t"
        "movl $3, %%ecx\n\trep movsb\n\tmovq (%%rsi), %%rax\n\tmovq 8(%%rsi), %%rax\n\t"
        "fldl 1096(%[at])\n\tfstpl 1104(%[at])\n\tfildq 1112(%[at])\n\tfstpt 1120(%[at])\n\tmovq %%fs:0, %%rax\n\tmovq %%fs:16, %%rcx\n\t"
        "movl 1144(%k[low]), %%eax\n\tmovhpd 1152(%[at]), %%xmm0\n\tpinsrw $1, 1160(%[at]), %%xmm0\n\tmaskmovdqu %%xmm0, %%xmm0\n\t"
        "fxsave 1536(%[at])\n\tmovq 1536(%[at]), %%rax\n\t"
        : "+a"(expected)
        : [at] "r"(at), [bits] "r"(bits), [low] "r"(at)
        : "memory", "cc", "rcx", "rsi", "rdi", "xmm0");
}

int main(void) {
    for (long turn = 0; turn < 1000; turn++)
        once(data, turn);
    printf("%d %ld %d\n", data[8], other[3], table[9]);
    return 0;
}
