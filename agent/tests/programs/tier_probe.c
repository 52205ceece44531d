/* What each memory node is: as the kernel describes it, and as a clock finds it.
 *
 * For every node with memory, a buffer bound to it (mbind) is touched, and move_pages is asked where each page is. Then, on the
 * first processor, a dependent walk in random order gives nanoseconds a load, and a sum in order gives gigabytes a second: the
 * best of many short runs, for what else the host does only makes one longer. It is for an emulated machine, which has no
 * caches but whose translation look-aside buffer has 256 entries, and a miss there costs more than a load: so walk and sum keep
 * to 128 KiB. On a processor they would measure its second cache.
 *
 * One line a node, of words and values:
 *   node 1 cpus - tier 50 read_latency_ns 250 read_bandwidth_mbs 10240 pages 4096 there 4096 random_ns 16.0 stream_gbs 1.90
 * A dash is what the kernel does not tell. The status is 1 where mbind and move_pages do not agree.
 *
 * usage: tier_probe [MEBIBYTES] */
#define _GNU_SOURCE
#include <errno.h>
#include <glob.h>
#include <linux/mempolicy.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define NODES 64
/* Cells of the walk, a power of two, and steps of one run of it. */
#define WALK (1u << 15)
#define STEPS 2000

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

/* The first line of a file, "-" where there is none or it is empty. */
static const char *line(char *text, size_t bytes, const char *path) {
    FILE *file = fopen(path, "r");
    if (!file || !fgets(text, (int)bytes, file))
        strcpy(text, "\n");
    if (file)
        fclose(file);
    text[strcspn(text, "\n")] = 0;
    return text[0] ? text : "-";
}

/* Whether a list like "0,2-4" has a number. */
static int list_has(const char *list, long number) {
    while (*list >= '0' && *list <= '9') {
        char *end;
        long low = strtol(list, &end, 10), high = low;
        if (*end == '-')
            high = strtol(end + 1, &end, 10);
        if (low <= number && number <= high)
            return 1;
        list = *end == ',' ? end + 1 : end;
    }
    return 0;
}

/* The number of the kernel's memory tier that has a node, -1 where there is none. */
static int tier_of(int node) {
    glob_t files;
    int tier = -1;
    if (glob("/sys/devices/virtual/memory_tiering/memory_tier*/nodelist", 0, NULL, &files))
        return -1;
    for (size_t i = 0; i < files.gl_pathc; i++) {
        char text[256];
        if (list_has(line(text, sizeof text, files.gl_pathv[i]), node))
            sscanf(files.gl_pathv[i], "/sys/devices/virtual/memory_tiering/memory_tier%d", &tier);
    }
    globfree(&files);
    return tier;
}

/* A full period modulo a power of two (Knuth's conditions hold), renumbered by an odd factor so that it has no order. */
static void make_ring(uint32_t *ring, uint32_t cells) {
    for (uint32_t i = 0, at = 0; i < cells; i++) {
        uint32_t next = (at * 5 + 3) & (cells - 1);
        ring[(at * 2654435769u) & (cells - 1)] = (next * 2654435769u) & (cells - 1);
        at = next;
    }
}

int main(int argc, char **argv) {
    size_t bytes = (argc > 1 ? strtoul(argv[1], NULL, 10) : 16) << 20, page = (size_t)sysconf(_SC_PAGESIZE);
    size_t pages = bytes / page;
    char with_memory[256], text[256], path[128];
    cpu_set_t first;
    int status = 0;

    CPU_ZERO(&first);
    CPU_SET(0, &first);
    sched_setaffinity(0, sizeof first, &first);
    line(with_memory, sizeof with_memory, "/sys/devices/system/node/has_memory");
    for (int node = 0; node < NODES; node++) {
        if (!list_has(with_memory, node))
            continue;
        uint32_t *ring = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        void **addresses = malloc(pages * sizeof *addresses);
        int *nodes = malloc(pages * sizeof *nodes);
        unsigned long mask = 1ul << node;
        size_t there = 0;
        if (ring == MAP_FAILED || !addresses || !nodes) {
            fprintf(stderr, "tier_probe: no memory\n");
            return 2;
        }
        madvise(ring, bytes, MADV_NOHUGEPAGE);
        if (syscall(SYS_mbind, ring, bytes, MPOL_BIND, &mask, (unsigned long)NODES + 1, 0u)) {
            fprintf(stderr, "tier_probe: mbind to node %d: %s\n", node, strerror(errno));
            return 2;
        }
        memset(ring, 1, bytes);
        for (size_t i = 0; i < pages; i++)
            addresses[i] = (char *)ring + i * page;
        if (syscall(SYS_move_pages, 0, pages, addresses, NULL, nodes, 0)) {
            fprintf(stderr, "tier_probe: move_pages: %s\n", strerror(errno));
            return 2;
        }
        for (size_t i = 0; i < pages; i++)
            there += nodes[i] == node;
        status |= there != pages;

        make_ring(ring, WALK);
        uint64_t sum = 0;
        uint32_t at = 0;
        double random_s = 1e9, stream_s = 1e9, end = now() + 1;
        while (now() < end) {
            double start = now();
            for (int i = 0; i < STEPS; i++)
                at = ring[at];
            double walked = now();
            for (uint32_t i = 0; i < WALK; i += 2) {
                uint64_t pair;
                memcpy(&pair, &ring[i], sizeof pair);
                sum += pair;
            }
            double summed = now();
            random_s = walked - start < random_s ? walked - start : random_s;
            stream_s = summed - walked < stream_s ? summed - walked : stream_s;
        }

        snprintf(path, sizeof path, "/sys/devices/system/node/node%d/cpulist", node);
        printf("node %d cpus %s", node, line(text, sizeof text, path));
        printf(" tier %d", tier_of(node));
        snprintf(path, sizeof path, "/sys/devices/system/node/node%d/access0/initiators/read_latency", node);
        printf(" read_latency_ns %s", line(text, sizeof text, path));
        snprintf(path, sizeof path, "/sys/devices/system/node/node%d/access0/initiators/read_bandwidth", node);
        printf(" read_bandwidth_mbs %s", line(text, sizeof text, path));
        printf(" pages %zu there %zu random_ns %.1f stream_gbs %.3f\n", pages, there, 1e9 * random_s / STEPS,
               (double)WALK * sizeof *ring / stream_s / 1e9);
        /* A result nothing can be without. */
        fprintf(stderr, "%s", at + sum == 1 ? " " : "");
        munmap(ring, bytes);
        free(addresses);
        free(nodes);
    }
    return status;
}
