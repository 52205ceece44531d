// A hash map, a vector and an array made by new[], each with a function of its own that allocates it.
//
// The same number of random look-ups goes to the map and to the vector, which are about equally large. A look-up in the
// map follows bucket, node and key, each known only when the one before has come; a look-up in the vector is one read
// that need not wait for any other. The array of weights is read once, in order. So: map, vector, weights.
#include <cstdint>
#include <cstdio>
#include <unordered_map>
#include <vector>

namespace {

constexpr std::uint64_t kKeys = 1'500'000;
constexpr std::uint64_t kCells = 8u << 20;
constexpr std::uint64_t kWeights = 2u << 20;
constexpr std::uint64_t kLookups = 6'000'000;

std::uint64_t next(std::uint64_t &state) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return state >> 33;
}

[[gnu::noinline]] std::unordered_map<std::uint64_t, std::uint64_t> *build_index() {
    auto *index = new std::unordered_map<std::uint64_t, std::uint64_t>;
    index->reserve(kKeys);
    for (std::uint64_t i = 0; i < kKeys; i++)
        // An odd factor scatters the keys: neighbours in time are not neighbours in the table.
        index->emplace(i * 0x9e3779b97f4a7c15u, i);
    return index;
}

[[gnu::noinline]] std::vector<std::uint64_t> *build_haystack() {
    return new std::vector<std::uint64_t>(kCells, 3);
}

[[gnu::noinline]] double *make_weights() {
    auto *weights = new double[kWeights];
    for (std::uint64_t i = 0; i < kWeights; i++)
        weights[i] = static_cast<double>(i % 3);
    return weights;
}

} // namespace

int main() {
    auto *index = build_index();
    auto *haystack = build_haystack();
    auto *weights = make_weights();
    std::uint64_t state = 1, sum = 0;
    for (std::uint64_t i = 0; i < kLookups; i++)
        sum += index->find(next(state) % kKeys * 0x9e3779b97f4a7c15u)->second;
    for (std::uint64_t i = 0; i < kLookups; i++)
        sum += (*haystack)[next(state) % kCells];
    double weight = 0;
    for (std::uint64_t i = 0; i < kWeights; i++)
        weight += weights[i];
    std::printf("%llu %.0f\n", static_cast<unsigned long long>(sum), weight);
    delete index;
    delete haystack;
    delete[] weights;
}
