/* Four arrays, each used in its own way, and the time that each way takes.
 *
 * First every loop runs alone, then all run mixed: rounds of short stretches of each in turn. The CPU time of every
 * stretch is summed by loop: that is the truth which samples are compared with. Each thread has arrays and sums of its
 * own. With `inlined`, all four loops are one function.
 *
 * The sequential loop reads one word of each cache line. One that reads every word is, unoptimised, bound by its own
 * variables on the stack, and the samples rightly say so: its time would not be the truth for the array.
 *
 *   four_arrays THREADS separate|inlined MILLISECONDS STRETCH
 *
 * Stretches are STRETCH times some milliseconds long. Prints where the arrays are before it uses them, then the times,
 * a line of JSON each, and waits for the end of its input, so that its memory can still be looked at.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { RANDOM, SEQUENTIAL, CHASE, STORES, WAYS, MOST_THREADS = 8 };
static const char *const names[WAYS] = {"random", "sequential", "chase", "stores"};

/* 64 MiB each: more than the cache of one core's share, and pages enough to miss the TLB. */
#define BYTES ((size_t)64 << 20)
#define WORDS (BYTES / sizeof(uint64_t))

struct node {
	struct node *next;
	uint64_t padding[7];
};
#define NODES (BYTES / sizeof(struct node))

struct line {
	uint64_t value, padding[7];
};
#define LINES (BYTES / sizeof(struct line))

struct work {
	uint64_t *random, *stores;
	struct line *sequential;
	struct node *chase, *at;
	uint64_t seed, position, write_seed, sink;
	double alone[WAYS], mixed[WAYS];
	uint64_t from_ns, to_ns;
	pid_t thread;
	int inlined, milliseconds;
	size_t stretch;
};

static double cpu_seconds(void) {
	struct timespec now;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static uint64_t monotonic_ns(void) {
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static inline uint64_t next_random(uint64_t seed) {
	return seed * 6364136223846793005u + 1442695040888963407u;
}

static inline __attribute__((always_inline)) void random_body(struct work *work, size_t count) {
	uint64_t seed = work->seed, sum = 0;
	const uint64_t *array = work->random;
	for (size_t i = 0; i < count; i++) {
		seed = next_random(seed);
		sum += array[(seed >> 33) % WORDS];
	}
	work->seed = seed;
	work->sink += sum;
}

static inline __attribute__((always_inline)) void sequential_body(struct work *work, size_t count) {
	uint64_t sum = 0;
	while (count > 0) {
		if (work->position == LINES)
			work->position = 0;
		const struct line *array = work->sequential + work->position;
		size_t run = count < LINES - work->position ? count : LINES - work->position;
		for (size_t i = 0; i < run; i++)
			sum += array[i].value;
		work->position += run;
		count -= run;
	}
	work->sink += sum;
}

static inline __attribute__((always_inline)) void chase_body(struct work *work, size_t count) {
	struct node *node = work->at;
	for (size_t i = 0; i < count; i++)
		node = node->next;
	work->at = node;
}

static inline __attribute__((always_inline)) void stores_body(struct work *work, size_t count) {
	uint64_t *array = work->stores;
	uint64_t seed = work->write_seed;
	for (size_t i = 0; i < count; i++) {
		seed = next_random(seed);
		array[(seed >> 33) % WORDS] = seed;
	}
	work->write_seed = seed;
}

static __attribute__((noinline)) void random_loop(struct work *work, size_t count) { random_body(work, count); }
static __attribute__((noinline)) void sequential_loop(struct work *work, size_t count) { sequential_body(work, count); }
static __attribute__((noinline)) void chase_loop(struct work *work, size_t count) { chase_body(work, count); }
static __attribute__((noinline)) void stores_loop(struct work *work, size_t count) { stores_body(work, count); }

/* Iterations of one stretch, some milliseconds each. */
static const size_t counts[WAYS] = {100000, 300000, 20000, 150000};

static __attribute__((noinline)) void round_separate(struct work *work, double *seconds) {
	double start = cpu_seconds(), end;
	random_loop(work, work->stretch * counts[RANDOM]);
	end = cpu_seconds(), seconds[RANDOM] += end - start, start = end;
	sequential_loop(work, work->stretch * counts[SEQUENTIAL]);
	end = cpu_seconds(), seconds[SEQUENTIAL] += end - start, start = end;
	chase_loop(work, work->stretch * counts[CHASE]);
	end = cpu_seconds(), seconds[CHASE] += end - start, start = end;
	stores_loop(work, work->stretch * counts[STORES]);
	end = cpu_seconds(), seconds[STORES] += end - start;
}

static __attribute__((noinline)) void round_inlined(struct work *work, double *seconds) {
	double start = cpu_seconds(), end;
	random_body(work, work->stretch * counts[RANDOM]);
	end = cpu_seconds(), seconds[RANDOM] += end - start, start = end;
	sequential_body(work, work->stretch * counts[SEQUENTIAL]);
	end = cpu_seconds(), seconds[SEQUENTIAL] += end - start, start = end;
	chase_body(work, work->stretch * counts[CHASE]);
	end = cpu_seconds(), seconds[CHASE] += end - start, start = end;
	stores_body(work, work->stretch * counts[STORES]);
	end = cpu_seconds(), seconds[STORES] += end - start;
}

/* Every word differs from its neighbours, as data does. */
static void *allocate(uint64_t seed) {
	uint64_t *memory = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED) {
		perror("mmap");
		exit(1);
	}
	for (size_t i = 0; i < WORDS; i++)
		memory[i] = seed = next_random(seed);
	return memory;
}

/* One cycle through all nodes in random order (Sattolo). */
static void link_nodes(struct node *nodes, uint64_t seed) {
	uint32_t *order = malloc(NODES * sizeof *order);
	for (size_t i = 0; i < NODES; i++)
		order[i] = (uint32_t)i;
	for (size_t i = NODES - 1; i > 0; i--) {
		seed = next_random(seed);
		size_t j = (seed >> 33) % i;
		uint32_t swap = order[i];
		order[i] = order[j];
		order[j] = swap;
	}
	for (size_t i = 0; i < NODES; i++)
		nodes[order[i]].next = &nodes[order[(i + 1) % NODES]];
	free(order);
}

static pthread_barrier_t ready, told;

static void *run(void *argument) {
	struct work *work = argument;
	work->random = allocate(work->seed + 0);
	work->sequential = allocate(work->seed + 1);
	work->chase = allocate(work->seed + 2);
	work->stores = allocate(work->seed + 3);
	link_nodes(work->chase, work->seed);
	work->at = work->chase;
	pthread_barrier_wait(&ready);
	pthread_barrier_wait(&told);
	void (*const loops[WAYS])(struct work *, size_t) = {random_loop, sequential_loop, chase_loop, stores_loop};
	for (int way = 0; way < WAYS; way++) {
		double start = cpu_seconds();
		for (int i = 0; i < 20; i++)
			loops[way](work, counts[way]);
		work->alone[way] = (cpu_seconds() - start) / 20;
	}
	work->thread = gettid();
	work->from_ns = monotonic_ns();
	double end = cpu_seconds() + work->milliseconds * 1e-3;
	while (cpu_seconds() < end) {
		if (work->inlined)
			round_inlined(work, work->mixed);
		else
			round_separate(work, work->mixed);
	}
	work->to_ns = monotonic_ns();
	return NULL;
}

static void print_arrays(const struct work *works, int count) {
	printf("{\"arrays\":[");
	for (int i = 0; i < count; i++) {
		const void *const starts[WAYS] = {works[i].random, works[i].sequential, works[i].chase, works[i].stores};
		for (int way = 0; way < WAYS; way++)
			printf("%s{\"name\":\"%s\",\"start\":%ju,\"bytes\":%zu}", i + way ? "," : "", names[way],
			       (uintmax_t)(uintptr_t)starts[way], BYTES);
	}
	printf("]}\n");
	fflush(stdout);
}

static void print_times(const struct work *works, int count) {
	printf("{\"loops\":[");
	for (int i = 0; i < count; i++)
		for (int way = 0; way < WAYS; way++)
			printf("%s{\"name\":\"%s\",\"alone_s\":%.9f,\"mixed_s\":%.9f}", i + way ? "," : "", names[way],
			       works[i].alone[way], works[i].mixed[way]);
	printf("],\"threads\":[");
	for (int i = 0; i < count; i++)
		printf("%s{\"tid\":%d,\"from_ns\":%ju,\"to_ns\":%ju}", i ? "," : "", works[i].thread,
		       (uintmax_t)works[i].from_ns, (uintmax_t)works[i].to_ns);
	printf("],\"sink\":%ju}\n", (uintmax_t)works[0].sink);
	fflush(stdout);
}

int main(int argc, char **argv) {
	static struct work works[MOST_THREADS];
	pthread_t threads[MOST_THREADS];
	int count = argc > 1 ? atoi(argv[1]) : 1;
	if (count < 1 || count > MOST_THREADS)
		return 2;
	pthread_barrier_init(&ready, NULL, (unsigned)count + 1);
	pthread_barrier_init(&told, NULL, (unsigned)count + 1);
	for (int i = 0; i < count; i++) {
		works[i].seed = works[i].write_seed = 88172645463325252u + (uint64_t)i;
		works[i].inlined = argc > 2 && !strcmp(argv[2], "inlined");
		works[i].milliseconds = argc > 3 ? atoi(argv[3]) : 1000;
		works[i].stretch = argc > 4 ? (size_t)atoi(argv[4]) : 1;
		if (pthread_create(&threads[i], NULL, run, &works[i]))
			return 1;
	}
	pthread_barrier_wait(&ready);
	print_arrays(works, count);
	pthread_barrier_wait(&told);
	for (int i = 0; i < count; i++)
		pthread_join(threads[i], NULL);
	print_times(works, count);
	while (getchar() != EOF)
		;
	return 0;
}
