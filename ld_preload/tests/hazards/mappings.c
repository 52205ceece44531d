/* mmap, mremap that grows and moves, MAP_FIXED over part of a live mapping, munmap of a part, and calls that fail. A
 * wrapper of mremap that loses its fifth argument, or of mmap its sixth, shows here. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int main(int argc, char **argv) {
    (void)argc;
    size_t page = 4096;
    char *a = mmap(NULL, 64 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(a, 1, 64 * page);
    char *over = mmap(a + 8 * page, 8 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    printf("over %d %d %d\n", over == a + 8 * page, over[0], a[0]);
    char *target = mmap(NULL, 256 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char *moved = mremap(a, 64 * page, 128 * page, MREMAP_MAYMOVE | MREMAP_FIXED, target);
    printf("moved %d\n", moved == target);
    if (moved == MAP_FAILED) { /* several mappings now: only its first can move as a whole */
        moved = mremap(a, 8 * page, 128 * page, MREMAP_MAYMOVE | MREMAP_FIXED, target);
        printf("part %d %d\n", moved == target, moved[0]);
    }
    char *grown = mremap(moved, 128 * page, 200 * page, MREMAP_MAYMOVE);
    printf("grown %d\n", grown != MAP_FAILED && grown[0] == 1);
    printf("unmapped %d\n", munmap(grown + page, page));
    printf("unmapped %d\n", munmap(grown, 200 * page));
    errno = 0;
    int refused = munmap(target + 1, page);
    printf("refused %d %d\n", refused, errno == EINVAL);
    errno = 0;
    refused = mmap(NULL, 0, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED;
    printf("refused %d %d\n", refused, errno == EINVAL);
    int file = open("/proc/self/exe", O_RDONLY);
    char *elf = mmap(NULL, page, PROT_READ, MAP_PRIVATE, file, 0);
    char *second = mmap(NULL, page, PROT_READ, MAP_PRIVATE, file, page);
    char direct[16];
    pread(file, direct, sizeof direct, page);
    printf("file %d %d\n", memcmp(elf, "\177ELF", 4), memcmp(second, direct, sizeof direct));
    close(file);
    return argv == NULL;
}
