/* A sandbox that allows a program what it needs and kills it for anything else: once running, recording must need no
 * system call that the program does not make itself. Placing needs two more, which the C library's allocator also makes
 * where there are threads. */
#define _GNU_SOURCE
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ALLOW(name) \
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_##name, 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)

__attribute__((noinline)) static void work(void) {
    for (int i = 0; i < 100; i++)
        free(memset(malloc(300000), 1, 300000));
}

int main(void) {
    work();
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        ALLOW(mmap), ALLOW(munmap), ALLOW(brk), ALLOW(write), ALLOW(exit_group), ALLOW(newfstatat),
#ifdef WITH_MPROTECT
        ALLOW(mprotect), ALLOW(madvise),
#endif
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
    };
    struct sock_fprog program = {sizeof filter / sizeof *filter, filter};
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
        return 1;
    work();
    puts("done");
    return 0;
}
