// Eight objects, one for each way of getting memory, each used in a pattern of its own and allocated in a function of its own.
//
//   object     made by             pattern
//   matrix     global              reads with a long stride
//   log        realloc, doubling   written once while it grows, then read in order, seldom
//   stream     aligned_alloc       read and written in order
//   window     mmap                read and written in order, a tenth as often
//   ring       malloc              dependent walk in random order: each load waits for the one before
//   table      calloc              independent reads in random order
//   buckets    new[]               hash look-ups: a read, and often one more beside it
//   nodes      malloc(48) and new  small blocks in a list, half made by each, walked in an order of their own
//
// They are made in this order: as in programs that read their input first, what comes first is not what is used most.
//
// Every object has --mebibytes MiB, but the nodes, which are --nodes-count blocks. A round does a fixed amount of work on each
// object in turn; there are as many rounds as --rounds says or as fit in --seconds. The pauses before and after allow what
// runs beside it (a migration) to be watched.
//
// usage: objects [--mebibytes N] [--nodes-count N] [--rounds N] [--seconds S] [--idle S] [--await FILE]
//                [--only OBJECT,...] [--side FILE] [--nodes FILE]
//   --side FILE   before the first round: JSON lines of object, address and bytes of each extent (nodes: first and last block)
//   --await FILE  after that: wait for a file to appear
//   --idle S      sleep so long after the last round, before the pages are looked for
//   --only LIST   work on these alone; all are made
//   --nodes FILE  at the end: JSON lines of object, bytes, pages, and pages on each node as move_pages finds them; the nodes
//                 are two objects there, "malloc_nodes" and "new_nodes"
//
// To standard output, one line an object ("ring 0.123456 s, at best 0.012345 s a round": in all rounds, and in the fastest,
// which says more where others use the machine) and one of the sums. --mebibytes is at most the matrix's size: 64, or what
// MATRIX_MEBIBYTES says when this is compiled.
#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace {

constexpr std::size_t kMebibyte = 1u << 20;
#ifndef MATRIX_MEBIBYTES
#define MATRIX_MEBIBYTES 64
#endif
constexpr std::size_t kMost = MATRIX_MEBIBYTES * kMebibyte;

struct Node {
    Node *next;
    std::uint64_t value;
    std::uint64_t padding[4];
};
static_assert(sizeof(Node) == 48);

} // namespace

// Not in the anonymous namespace: its symbol is what a policy names.
alignas(4096) std::uint64_t matrix[kMost / sizeof(std::uint64_t)];

namespace {

[[noreturn]] void fail(const char *what) {
    std::fprintf(stderr, "objects: %s: %s\n", what, std::strerror(errno));
    std::exit(2);
}

// Not inlined, so that what a call returned to is a line of its caller, and the call before it is no jump.
[[gnu::noinline]] void require(const void *memory) {
    if (!memory || memory == MAP_FAILED)
        fail("no memory");
}

[[gnu::noinline]] std::uint32_t *allocate_ring(std::size_t bytes) {
    auto *ring = static_cast<std::uint32_t *>(std::malloc(bytes));
    require(ring);
    return ring;
}

[[gnu::noinline]] std::uint64_t *allocate_table(std::size_t bytes) {
    auto *table = static_cast<std::uint64_t *>(std::calloc(bytes / 8, 8));
    require(table);
    return table;
}

// Begins with 64 KiB and doubles, writing what is new each time, so that what is copied is real.
[[gnu::noinline]] std::uint64_t *grow_log(std::size_t bytes) {
    std::uint64_t *log = nullptr;
    std::size_t written = 0;
    for (std::size_t size = 1u << 16;; size = size * 2 < bytes ? size * 2 : bytes) {
        log = static_cast<std::uint64_t *>(std::realloc(log, size));
        require(log);
        for (; written < size / 8; written++)
            log[written] = written;
        if (size == bytes)
            return log;
    }
}

[[gnu::noinline]] double *allocate_stream(std::size_t bytes) {
    auto *stream = static_cast<double *>(std::aligned_alloc(4096, bytes));
    require(stream);
    return stream;
}

[[gnu::noinline]] std::uint64_t *allocate_buckets(std::size_t bytes) {
    auto *buckets = new std::uint64_t[bytes / 8];
    require(buckets);
    return buckets;
}

[[gnu::noinline]] std::uint64_t *map_window(std::size_t bytes) {
    void *window = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    require(window);
    return static_cast<std::uint64_t *>(window);
}

[[gnu::noinline]] Node *malloc_node() {
    auto *node = static_cast<Node *>(std::malloc(sizeof(Node)));
    require(node);
    return node;
}

[[gnu::noinline]] Node *new_node() {
    auto *node = new Node;
    require(node);
    return node;
}

// x -> 5x + 3 modulo a power of two has a full period (Knuth's conditions hold), and an odd factor takes away its order.
std::uint64_t scattered(std::uint64_t at, std::uint64_t cells) { return (at * 2654435769u) & (cells - 1); }
std::uint64_t successor(std::uint64_t at, std::uint64_t cells) { return (at * 5 + 3) & (cells - 1); }

std::uint64_t hash(std::uint64_t key) { return (key ^ (key >> 29)) * 0xbf58476d1ce4e5b9u; }

// Largest power of two not above.
std::size_t floor_power(std::size_t number) {
    std::size_t power = 1;
    while (power * 2 <= number)
        power *= 2;
    return power;
}

struct Extent {
    const void *address;
    std::size_t bytes;
};

struct Objects {
    std::size_t bytes;
    std::uint32_t *ring;
    std::uint64_t *table, *log;
    double *stream;
    std::uint64_t *buckets, *window;
    std::vector<Node *> nodes;
    Node *head = nullptr;

    Objects(std::size_t bytes, std::size_t count) : bytes(bytes) {
        log = grow_log(bytes);
        stream = allocate_stream(bytes);
        window = map_window(bytes);
        ring = allocate_ring(bytes);
        std::size_t cells = floor_power(bytes / sizeof *ring);
        // What is beyond the last power of two is touched, so that every page is there, and points into the ring.
        std::memset(ring, 0, bytes);
        for (std::size_t i = 0, at = 0; i < cells; i++, at = successor(at, cells))
            ring[scattered(at, cells)] = static_cast<std::uint32_t>(scattered(successor(at, cells), cells));
        table = allocate_table(bytes);
        buckets = allocate_buckets(bytes);
        for (std::size_t i = 0; i < bytes / 8; i++) {
            table[i] = i;
            stream[i] = 1.0;
            buckets[i] = hash(i);
            window[i] = i;
            matrix[i] = i;
        }
        nodes.reserve(count);
        for (std::size_t i = 0; i < count; i++) {
            nodes.push_back(i % 2 ? new_node() : malloc_node());
            nodes.back()->value = i;
        }
        std::size_t linked = floor_power(count);
        for (std::size_t i = 0, at = 0; i < linked && count; i++, at = successor(at, linked))
            nodes[scattered(at, linked)]->next = nodes[scattered(successor(at, linked), linked)];
        for (std::size_t i = linked; i < count; i++)
            nodes[i]->next = nullptr;
        head = count ? nodes[0] : nullptr;
    }

    std::map<std::string, std::vector<Extent>> extents() const {
        std::map<std::string, std::vector<Extent>> all = {
            {"ring", {{ring, bytes}}},       {"table", {{table, bytes}}},   {"log", {{log, bytes}}},
            {"stream", {{stream, bytes}}},   {"buckets", {{buckets, bytes}}}, {"window", {{window, bytes}}},
            {"matrix", {{matrix, bytes}}},
        };
        for (const Node *node : nodes)
            all["nodes"].push_back({node, sizeof *node});
        return all;
    }

    // As `extents`, with the nodes apart by who made them.
    std::map<std::string, std::vector<Extent>> extents_by_call() const {
        auto all = extents();
        all.erase("nodes");
        for (std::size_t i = 0; i < nodes.size(); i++)
            all[i % 2 ? "new_nodes" : "malloc_nodes"].push_back({nodes[i], sizeof *nodes[i]});
        return all;
    }
};

// One round's work on one object; what it returns depends on all of it, so that nothing can be left out.
std::uint64_t work(const std::string &name, Objects &objects, std::uint64_t round) {
    const std::size_t words = objects.bytes / 8;
    std::uint64_t sum = 0;
    if (name == "ring") {
        static std::uint32_t at;
        for (int i = 0; i < 200'000; i++)
            at = objects.ring[at];
        sum = at;
    } else if (name == "table") {
        for (std::uint64_t i = 0; i < 200'000; i++)
            sum += objects.table[hash(round * 200'000 + i) % words];
    } else if (name == "log") {
        for (std::size_t i = round % 64; i < words; i += 64)
            sum += objects.log[i];
    } else if (name == "stream") {
        for (std::size_t i = 0; i < words / 4; i++)
            objects.stream[i + words / 4 * (round % 4)] *= 0.5;
        sum = static_cast<std::uint64_t>(objects.stream[words / 2]);
    } else if (name == "buckets") {
        for (std::uint64_t i = 0; i < 100'000; i++) {
            std::uint64_t key = hash(round * 100'000 + i), at = key % words;
            sum += objects.buckets[at];
            // Half the look-ups find the key one further.
            if (objects.buckets[at] & 1)
                sum += objects.buckets[at + 1 < words ? at + 1 : 0];
        }
    } else if (name == "window") {
        for (std::size_t i = 0; i < words / 40; i++)
            sum += objects.window[i + words / 40 * (round % 40)]++;
    } else if (name == "matrix") {
        for (std::size_t column = round % 512; column < words; column += 512)
            sum += matrix[column];
    } else if (name == "nodes") {
        Node *at = objects.head;
        for (int i = 0; i < 50'000 && at; i++) {
            sum += at->value;
            at = at->next;
        }
        objects.head = at;
    }
    return sum;
}

// How many of the pages of an object are on each node; errors of single pages under their negative number.
std::map<int, std::size_t> pages_by_node(const std::vector<Extent> &extents) {
    const auto page = static_cast<std::uintptr_t>(sysconf(_SC_PAGESIZE));
    std::vector<void *> addresses;
    for (const Extent &extent : extents) {
        auto first = reinterpret_cast<std::uintptr_t>(extent.address);
        for (std::uintptr_t at = first & ~(page - 1); at < first + extent.bytes; at += page)
            addresses.push_back(reinterpret_cast<void *>(at));
    }
    std::sort(addresses.begin(), addresses.end());
    addresses.erase(std::unique(addresses.begin(), addresses.end()), addresses.end());
    std::vector<int> nodes(addresses.size());
    if (!addresses.empty() && syscall(SYS_move_pages, 0, addresses.size(), addresses.data(), nullptr, nodes.data(), 0))
        fail("move_pages");
    std::map<int, std::size_t> count;
    for (int node : nodes)
        count[node]++;
    return count;
}

void write_side(const char *path, const Objects &objects) {
    FILE *file = std::fopen(path, "w");
    if (!file)
        fail(path);
    for (const auto &[name, extents] : objects.extents())
        for (std::size_t i = 0; i < extents.size(); i += extents.size() > 1 ? extents.size() - 1 : 1)
            std::fprintf(file, "{\"object\":\"%s\",\"address\":%ju,\"bytes\":%zu}\n", name.c_str(),
                         static_cast<std::uintmax_t>(reinterpret_cast<std::uintptr_t>(extents[i].address)), extents[i].bytes);
    if (std::fclose(file))
        fail(path);
}

void write_nodes(const char *path, const Objects &objects) {
    FILE *file = std::fopen(path, "w");
    if (!file)
        fail(path);
    for (const auto &[name, extents] : objects.extents_by_call()) {
        std::size_t bytes = 0, pages = 0;
        std::string list;
        for (const Extent &extent : extents)
            bytes += extent.bytes;
        for (const auto &[node, count] : pages_by_node(extents)) {
            pages += count;
            list += (list.empty() ? "\"" : ",\"") + std::to_string(node) + "\":" + std::to_string(count);
        }
        std::fprintf(file, "{\"object\":\"%s\",\"bytes\":%zu,\"pages\":%zu,\"nodes\":{%s}}\n", name.c_str(), bytes, pages, list.c_str());
    }
    if (std::fclose(file))
        fail(path);
}

double seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

} // namespace

int main(int argc, char **argv) {
    std::size_t bytes = 16 * kMebibyte, count = 1'000'000, rounds = 20;
    double limit = 0, idle = 0;
    const char *side = nullptr, *nodes = nullptr, *awaited = nullptr;
    std::string only;
    for (int i = 1; i < argc; i += 2) {
        std::string_view option = argv[i];
        if (i + 1 == argc) {
            std::fprintf(stderr, "objects: %s takes a value\n", argv[i]);
            return 2;
        }
        const char *value = argv[i + 1];
        if (option == "--mebibytes")
            bytes = std::strtoull(value, nullptr, 10) * kMebibyte;
        else if (option == "--nodes-count")
            count = std::strtoull(value, nullptr, 10);
        else if (option == "--rounds")
            rounds = std::strtoull(value, nullptr, 10);
        else if (option == "--seconds")
            limit = std::strtod(value, nullptr);
        else if (option == "--idle")
            idle = std::strtod(value, nullptr);
        else if (option == "--await")
            awaited = value;
        else if (option == "--only")
            only = std::string(",") + value + ",";
        else if (option == "--side")
            side = value;
        else if (option == "--nodes")
            nodes = value;
        else {
            std::fprintf(stderr, "objects: unknown option %s\n", argv[i]);
            return 2;
        }
    }
    if (bytes == 0 || bytes > kMost) {
        std::fprintf(stderr, "objects: --mebibytes is 1 to %zu\n", kMost / kMebibyte);
        return 2;
    }

    double start = seconds();
    Objects objects(bytes, count);
    std::printf("made %.6f s\n", seconds() - start);
    if (side)
        write_side(side, objects);
    while (awaited && access(awaited, F_OK))
        std::this_thread::sleep_for(std::chrono::milliseconds(20));

    const char *names[] = {"ring", "table", "log", "stream", "buckets", "window", "matrix", "nodes"};
    std::map<std::string, double> spent, fastest;
    std::uint64_t sum = 0, round = 0;
    start = seconds();
    for (; limit > 0 ? seconds() - start < limit : round < rounds; round++)
        for (const char *name : names) {
            if (!only.empty() && only.find("," + std::string(name) + ",") == std::string::npos)
                continue;
            double before = seconds();
            sum += work(name, objects, round);
            double turn = seconds() - before;
            spent[name] += turn;
            fastest[name] = fastest.count(name) ? std::min(fastest[name], turn) : turn;
        }
    double total = seconds() - start;
    double all_fastest = 0;
    for (const char *name : names) {
        std::printf("%s %.6f s, at best %.6f s a round\n", name, spent[name], fastest[name]);
        all_fastest += fastest[name];
    }
    std::printf("total %.6f s in %ju rounds, at best %.6f s a round\n", total, static_cast<std::uintmax_t>(round), all_fastest);
    std::fflush(stdout);
    // A result nothing can be without.
    std::fprintf(stderr, "%s", sum == 1 ? " " : "");

    std::this_thread::sleep_for(std::chrono::duration<double>(idle));
    if (nodes)
        write_nodes(nodes, objects);
    return 0;
}
