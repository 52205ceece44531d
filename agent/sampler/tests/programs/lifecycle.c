/* Threads and processes that come and go.
 *
 *   lifecycle threads COUNT MILLISECONDS   threads in turn, two alive at a time; prints "TID MICROSECONDS-OF-CPU" each
 *   lifecycle fork MILLISECONDS            a child that computes, then the parent; prints both pids
 *   lifecycle pages COUNT                  writes one byte to each of so many fresh pages; prints where they are
 *   lifecycle burn MILLISECONDS            computes; prints the microseconds of CPU it took
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int milliseconds;

static double cpu_seconds(void) {
	struct timespec now;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static void burn(void) {
	volatile uint64_t sink = 0;
	double end = cpu_seconds() + milliseconds * 1e-3;
	while (cpu_seconds() < end)
		for (int i = 0; i < 10000; i++)
			sink += (uint64_t)i;
}

static void *burn_and_tell(void *unused) {
	(void)unused;
	burn();
	printf("%d %.0f\n", gettid(), cpu_seconds() * 1e6);
	return NULL;
}

int main(int argc, char **argv) {
	if (argc < 3)
		return 2;
	int count = atoi(argv[2]);
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (!strcmp(argv[1], "threads") && argc > 3) {
		milliseconds = atoi(argv[3]);
		pthread_t previous, next;
		pthread_create(&previous, NULL, burn_and_tell, NULL);
		for (int i = 1; i < count; i++) {
			pthread_create(&next, NULL, burn_and_tell, NULL);
			pthread_join(previous, NULL);
			previous = next;
		}
		pthread_join(previous, NULL);
	} else if (!strcmp(argv[1], "fork")) {
		milliseconds = count;
		pid_t child = fork();
		burn();
		if (child == 0)
			_exit(0);
		waitpid(child, NULL, 0);
		printf("%d %d\n", getpid(), child);
	} else if (!strcmp(argv[1], "pages")) {
		size_t bytes = (size_t)count * 4096;
		char *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		madvise(memory, bytes, MADV_NOHUGEPAGE);
		for (size_t at = 0; at < bytes; at += 4096)
			((volatile char *)memory)[at] = 1;
		printf("%ju\n", (uintmax_t)(uintptr_t)memory);
		fflush(stdout);
		while (getchar() != EOF)
			;
	} else if (!strcmp(argv[1], "burn")) {
		milliseconds = count;
		burn();
		printf("%.0f\n", cpu_seconds() * 1e6);
	}
	return 0;
}
