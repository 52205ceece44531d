/* A library with a global of its own. */
long of_library[1000];

void touch(long count) {
    for (long i = 0; i < count; i++)
        *(volatile long *)&of_library[i % 1000] = i;
}
