/* Every form of operator new and delete, and a new that fails: the exception must reach its handler through the shim.
 * Run plain and with an allocator that brings operators of its own. */
#include <cstdio>
#include <cstring>
#include <new>
#include <vector>

struct alignas(128) Aligned {
    char bytes[40000];
};

int main() {
    for (int i = 0; i < 100; i++) {
        delete new long(i);
        delete[] new char[30000];
        delete new (std::nothrow) int;
        delete[] new (std::nothrow) char[30000];
        delete new Aligned;
        delete[] new Aligned[2];
        delete new (std::nothrow) Aligned;
        ::operator delete(::operator new(50000), std::size_t(50000));
        ::operator delete(::operator new(50000, std::align_val_t(256)), std::size_t(50000), std::align_val_t(256));
        std::vector<int> grows;
        for (int j = 0; j < 20000; j++)
            grows.push_back(j);
    }
    volatile std::size_t impossible = ~std::size_t(0) / 2;
    for (int i = 0; i < 10; i++) {
        try {
            char *block = new char[impossible];
            block[0] = 1;
        } catch (const std::bad_alloc &) {
            std::puts("refused");
        }
    }
    if (::operator new(impossible, std::nothrow) == nullptr)
        std::puts("refused quietly");
    for (int i = 0; i < 10; i++)
        delete[] new char[1234567];
    return 0;
}
