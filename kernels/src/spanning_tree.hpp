// The minimum spanning tree of a grid: Kruskal on edges in radix order, then depth first from pixel 0.
#pragma once
#include "tree.hpp"

#include <algorithm>
#include <cstring>
#include <memory>
#include <vector>

namespace ARCH {
namespace {

// How many threads some tasks are worth.
int team(const TreeShape& s, int64_t tasks) { return int(std::max<int64_t>(1, std::min<int64_t>(s.threads, tasks))); }

// Weights are squares: their bits sort like they do, and NaN last. Equal keys stay in the order of the edges.
struct Entry32 {
    uint64_t both;
    static constexpr int DIGITS = 3;
    static Entry32 of(float w, uint32_t edge) {
        uint32_t bits;
        std::memcpy(&bits, &w, 4);
        return {uint64_t(w != w ? ~0u : bits) << 32 | edge};
    }
    uint32_t edge() const { return uint32_t(both); }
    int digit(int n) const { return int(both >> (32 + 11 * n)) & 2047; }
};
struct Entry64 {
    uint64_t key;
    uint32_t edge_;
    static constexpr int DIGITS = 6;
    static Entry64 of(double w, uint32_t edge) {
        uint64_t bits;
        std::memcpy(&bits, &w, 8);
        return {w != w ? ~uint64_t(0) : bits, edge};
    }
    uint32_t edge() const { return edge_; }
    int digit(int n) const { return int(key >> (11 * n)) & 2047; }
};
template <class T> struct EntryOf { using type = Entry32; };
template <> struct EntryOf<double> { using type = Entry64; };

// Sorts `a` with the help of `b`; the result is in the one returned.
template <class E> E* sorted(E* a, E* b, int64_t count) {
    std::vector<uint32_t> starts(size_t(E::DIGITS) * 2048, 0);
    for (int64_t i = 0; i < count; ++i)
        for (int n = 0; n < E::DIGITS; ++n) ++starts[n * 2048 + a[i].digit(n)];
    for (int n = 0; n < E::DIGITS; ++n) {
        uint32_t* start = starts.data() + n * 2048;
        uint32_t sum = 0, most = 0;
        for (int d = 0; d < 2048; ++d) {
            most = std::max(most, start[d]);
            const uint32_t here = start[d];
            start[d] = sum, sum += here;
        }
        if (int64_t(most) == count) continue;  // all alike in this digit
        for (int64_t i = 0; i < count; ++i) b[start[a[i].digit(n)]++] = a[i];
        std::swap(a, b);
    }
    return a;
}

template <class T> struct Builder {
    using Entry = typename EntryOf<T>::type;
    const int64_t height, width, pixels;
    std::unique_ptr<Entry[]> one, two;
    std::unique_ptr<int32_t[]> set;    // union-find; then the stack
    std::unique_ptr<uint8_t[]> edges;  // of a pixel in the tree: right, down, left, up; in the upper half the cut ones
    Builder(int64_t rows, int64_t columns)
        : height(rows), width(columns), pixels(rows * columns), one(new Entry[2 * pixels]), two(new Entry[2 * pixels]),
          set(new int32_t[pixels]), edges(new uint8_t[pixels]) {}

    int32_t root(int32_t v) {
        while (set[v] != v) v = set[v] = set[set[v]];
        return v;
    }

    void kruskal(const T* weights) {
        int64_t count = 0;
        for (int64_t y = 0; y < height; ++y)
            for (int64_t p = y * width; p + 1 < (y + 1) * width; ++p) one[count++] = Entry::of(weights[p], uint32_t(p));
        for (int64_t p = 0; p < pixels - width; ++p) one[count++] = Entry::of(weights[pixels + p], uint32_t(pixels + p));
        const Entry* entry = sorted(one.get(), two.get(), count);
        for (int64_t v = 0; v < pixels; ++v) set[v] = int32_t(v), edges[v] = 0;
        for (int64_t i = 0, left = pixels - 1; left > 0; ++i) {
            const int64_t edge = entry[i].edge();
            const bool down = edge >= pixels;
            const int64_t u = down ? edge - pixels : edge, v = down ? u + width : u + 1;
            int32_t a = root(int32_t(u)), b = root(int32_t(v));
            if (a == b) continue;
            set[std::max(a, b)] = std::min(a, b);
            const int cut = weights[edge] != weights[edge] ? 0x11 : 0x01;
            edges[u] |= uint8_t(cut << (down ? 1 : 0));
            edges[v] |= uint8_t(cut << (down ? 3 : 2));
            --left;
        }
    }

    void depth_first(int32_t* parent, int32_t* order) {
        const int32_t to[4] = {1, int32_t(width), -1, -int32_t(width)};
        int32_t* stack = set.get();
        int64_t waiting = 0, visited = 0;
        parent[0] = 0;
        stack[waiting++] = 0;
        while (waiting) {
            const int32_t v = stack[--waiting];
            order[visited++] = v;
            for (int d = 0; d < 4; ++d) {
                if (!(edges[v] >> d & 1)) continue;
                const int32_t child = v + to[d];
                edges[child] &= uint8_t(~(1 << ((d + 2) & 3)));
                parent[child] = edges[v] >> (4 + d) & 1 ? child : v;
                stack[waiting++] = child;
            }
        }
    }
};

template <class T> void build(const TreeShape& s, const T* weights, int32_t* parent, int32_t* order) {
    const int64_t pixels = s.height * s.width;
    const int threads = team(s, s.images);
    std::vector<std::unique_ptr<Builder<T>>> builders(threads);
    for (auto& builder : builders) builder.reset(new Builder<T>(s.height, s.width));
#pragma omp parallel for num_threads(threads) schedule(static, 1)
    for (int t = 0; t < threads; ++t)
        for (int64_t b = t; b < s.images; b += threads) {
            builders[t]->kruskal(weights + b * 2 * pixels);
            builders[t]->depth_first(parent + b * pixels, order + b * pixels);
        }
}

}  // namespace
}  // namespace ARCH
