// The lattice's points: those of a pixel's simplex, their names, their pixels and their neighbours. lattice.hpp has the idea.
#pragma once
#include "dense.hpp"
#include "simd.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

namespace ARCH {
namespace {

constexpr int BLOCK = 8;      // pixels whose simplices are found together
constexpr int CHUNKS = 64;    // parts of the image that are dealt out
constexpr int SHARDS = 64;

inline uint64_t mixed(int64_t name) { return uint64_t(name) * 0x9E3779B97F4A7C15ull; }
inline int shard_of(int64_t name) { return int(mixed(name) >> 58); }

// Points by name: a table that grows, and the points in the order in which they came.
struct Table {
    struct Slot {
        int64_t name;
        int32_t id;
    };
    std::vector<Slot> slots;
    std::vector<int64_t> points;
    void clear() {
        slots.assign(64, Slot{0, -1});
        points.clear();
    }
    size_t place(int64_t name) const {
        size_t at = size_t(mixed(name) >> 20) & (slots.size() - 1);
        while (slots[at].id >= 0 && slots[at].name != name) at = (at + 1) & (slots.size() - 1);
        return at;
    }
    int32_t insert(int64_t name) {
        const size_t at = place(name);
        if (slots[at].id >= 0) return slots[at].id;
        const int32_t id = int32_t(points.size());
        slots[at] = Slot{name, id};
        points.push_back(name);
        if (2 * points.size() > slots.size()) {
            slots.assign(4 * slots.size(), Slot{0, -1});
            for (int32_t k = 0; k <= id; ++k) slots[place(points[k])] = Slot{points[k], k};
        }
        return id;
    }
    int32_t find(int64_t name) const { return slots[place(name)].id; }
};

template <class T> struct Array {  // not set to anything at first
    std::unique_ptr<T[]> data;
    size_t room = 0;
    void resize(size_t size) {
        if (size > room) data.reset(new T[size]), room = size;
    }
    T& operator[](size_t at) { return data[at]; }
    T* at(size_t n) { return data.get() + n; }
};

template <class T> struct Lattice {
    int64_t d, corners, pixels, channels, padded, points;
    const int64_t* hash;
    Array<uint8_t> present;           // pixels that take part
    Array<int64_t> name;              // of each pixel's corners
    Array<T> share;                   // their barycentric weights
    Array<int32_t> corner;            // their points, numbered by first appearance in the image
    Array<int64_t> dealt;             // the names, shard by shard
    Array<T> dealt_share;
    Array<int32_t> from, local;       // which entry of `name` a dealt one was, and which point of the shard it is
    Array<uint8_t> first;             // the entries of `name` at which a point appears first
    std::vector<int64_t> begin;       // first of a shard's dealt names
    std::vector<Table> tables;
    std::vector<std::vector<int32_t>> number;  // of a shard's points
    Array<int64_t> first_pixel;       // of a point's pixels
    Array<int32_t> many;              // how many they are
    Array<int32_t> pixel;
    Array<T> weight;
    Array<int32_t> beside;            // neighbours of a point: d + 1 directions, two ways
    Array<T> value, forth, back;

    void place(const LatticeArrays<T>& arrays, int64_t image, int64_t at, std::vector<double>& scratch);
    void deal(int threads);
    void find_points(int threads);
    void splat(int threads);
    void blur_along(int64_t k, T* z);
    void blur(int threads);
    void slice(T* out, int threads);
    int64_t first_of_chunk(int64_t chunk) const { return std::min(pixels, chunk * ((pixels + CHUNKS - 1) / CHUNKS)); }
    template <class F> void each_entry(int64_t chunk, const F& give) {
        for (int64_t i = first_of_chunk(chunk); i < first_of_chunk(chunk + 1); ++i)
            if (present[i])
                for (int64_t e = i * corners; e < (i + 1) * corners; ++e) give(e);
    }
};

// Simplices of BLOCK pixels: names and weights of their corners.
template <class T>
void Lattice<T>::place(const LatticeArrays<T>& arrays, int64_t image, int64_t at, std::vector<double>& scratch) {
    const double magic = 6755399441055744.0, most = 1099511627776.0;  // adding 1.5 * 2^52 rounds; 2^40
    const double n = double(corners);
    scratch.resize(size_t(6 * corners + 2) * BLOCK);
    double *up = scratch.data(), *rest = up + corners * BLOCK, *rank = rest + corners * BLOCK, *gap = rank + corners * BLOCK;
    double *sorted = gap + corners * BLOCK, bad[BLOCK] = {}, tail[BLOCK] = {}, total[BLOCK] = {};
    int64_t* step = reinterpret_cast<int64_t*>(sorted + (corners + 1) * BLOCK);
    const int64_t count = std::min<int64_t>(BLOCK, pixels - at);
    uint64_t all = 0;
    for (int64_t j = d; j > 0; --j) {
        const T* g = arrays.guide + (image * d + j - 1) * pixels + at;
        all += uint64_t(arrays.hash[j - 1]);
        for (int64_t l = 0; l < BLOCK; ++l) {
            double c = l < count ? double(g[l]) * arrays.scale[j - 1] + arrays.shift[j - 1] : 0.0;
            if (!(std::fabs(c) <= most)) {
                bad[l] = c - c;  // NaN for what is not finite
                c = c > 0 ? most : c < 0 ? -most : 0.0;
            }
            up[j * BLOCK + l] = tail[l] - double(j) * c;
            tail[l] += c;
        }
    }
    std::copy_n(tail, BLOCK, up);
    for (int64_t k = 0; k < corners; ++k)
        for (int l = 0; l < BLOCK; ++l) {
            const double v = (up[k * BLOCK + l] / n + magic) - magic;
            total[l] += v;
            rest[k * BLOCK + l] = v * n;
            gap[k * BLOCK + l] = up[k * BLOCK + l] - v * n;
            rank[k * BLOCK + l] = 0;
        }
    for (int64_t k = 0; k < corners; ++k)
        for (int64_t m = k + 1; m < corners; ++m)
            for (int l = 0; l < BLOCK; ++l) {
                const double lower = gap[k * BLOCK + l] < gap[m * BLOCK + l] ? 1.0 : 0.0;
                rank[k * BLOCK + l] += lower;
                rank[m * BLOCK + l] += 1.0 - lower;
            }
    std::fill_n(sorted, (corners + 1) * BLOCK, 0.0);
    std::fill_n(step, corners * BLOCK, int64_t(0));
    int64_t base[BLOCK] = {};
    for (int64_t k = 0; k < corners; ++k)
        for (int l = 0; l < BLOCK; ++l) {
            double r = rank[k * BLOCK + l] + total[l], turn = r < 0 ? n : r > n - 0.5 ? -n : 0.0;
            r += turn;
            const double key = rest[k * BLOCK + l] + turn;
            const int64_t where = r >= 0 && r < n ? int64_t(r) : 0, h = k < d ? arrays.hash[k] : 0;
            sorted[where * BLOCK + l] = (up[k * BLOCK + l] - key) / n;
            step[where * BLOCK + l] = h;
            base[l] = int64_t(uint64_t(base[l]) + uint64_t(int64_t(key)) * uint64_t(h));
        }
    const T* last = arrays.values + ((image + 1) * channels - 1) * pixels + at;
    for (int64_t l = 0; l < count; ++l) {
        present[at + l] = last[l] != T(0);
        int64_t* names = name.at((at + l) * corners);
        T* shares = share.at((at + l) * corners);
        uint64_t h = uint64_t(base[l]);
        for (int64_t r = 0; r < corners; ++r) {  // corner r holds what lies between the sorted gaps d - r + 1 and d - r
            const double before = r ? sorted[(corners - r) * BLOCK + l] : sorted[l] - 1.0;
            names[r] = int64_t(h);
            shares[r] = T(sorted[(corners - 1 - r) * BLOCK + l] - before + bad[l]);
            h += all - uint64_t(corners) * uint64_t(step[(corners - 1 - r) * BLOCK + l]);
        }
    }
}

// Sorts the names into shards, in the order of their pixels.
template <class T> void Lattice<T>::deal(int threads) {
    std::vector<int64_t> start(size_t(CHUNKS) * SHARDS);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t chunk = 0; chunk < CHUNKS; ++chunk) {
        int64_t count[SHARDS] = {};
        each_entry(chunk, [&](int64_t e) { ++count[shard_of(name[e])]; });
        std::copy_n(count, SHARDS, start.data() + chunk * SHARDS);
    }
    begin.assign(SHARDS + 1, 0);
    int64_t sum = 0;
    for (int shard = 0; shard < SHARDS; ++shard) {
        begin[shard] = sum;
        for (int chunk = 0; chunk < CHUNKS; ++chunk) {
            const int64_t size = start[chunk * SHARDS + shard];
            start[chunk * SHARDS + shard] = sum;
            sum += size;
        }
    }
    begin[SHARDS] = sum;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t chunk = 0; chunk < CHUNKS; ++chunk) {
        int64_t next[SHARDS];
        std::copy_n(start.data() + chunk * SHARDS, SHARDS, next);
        each_entry(chunk, [&](int64_t e) {
            first[e] = 0;
            const int64_t to = next[shard_of(name[e])]++;
            from[to] = int32_t(e);
            dealt[to] = name[e];
            dealt_share[to] = share[e];
        });
    }
}

// Numbers the points, lists the pixels of each, and finds its neighbours.
template <class T> void Lattice<T>::find_points(int threads) {
    tables.resize(SHARDS);
    number.resize(SHARDS);
#pragma omp parallel for num_threads(threads) schedule(dynamic)
    for (int shard = 0; shard < SHARDS; ++shard) {
        Table& table = tables[shard];
        table.clear();
        for (int64_t k = begin[shard]; k < begin[shard + 1]; ++k) {
            if (k > begin[shard] && dealt[k] == dealt[k - 1]) {
                local[k] = local[k - 1];
                continue;
            }
            const size_t before = table.points.size();
            local[k] = table.insert(dealt[k]);
            if (table.points.size() > before) first[from[k]] = 1;
        }
        number[shard].resize(table.points.size());
    }
    int64_t start[CHUNKS + 1] = {};
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t chunk = 0; chunk < CHUNKS; ++chunk) {
        int64_t count = 0;
        each_entry(chunk, [&](int64_t e) { count += first[e]; });
        start[chunk + 1] = count;
    }
    for (int chunk = 0; chunk < CHUNKS; ++chunk) start[chunk + 1] += start[chunk];
    points = start[CHUNKS];
    first_pixel.resize(points);
    many.resize(points);
    beside.resize(size_t(points) * corners * 2);
    pixel.resize(begin[SHARDS]);
    weight.resize(begin[SHARDS]);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t chunk = 0; chunk < CHUNKS; ++chunk) {
        int32_t next = int32_t(start[chunk]);
        each_entry(chunk, [&](int64_t e) {
            if (first[e]) corner[e] = next++;
        });
    }
    uint64_t all = 0;
    for (int64_t k = 0; k < d; ++k) all += uint64_t(hash[k]);
#pragma omp parallel num_threads(threads)
    {
#pragma omp for schedule(dynamic)
        for (int shard = 0; shard < SHARDS; ++shard) {
            std::vector<int32_t>& mine = number[shard];
            std::vector<int64_t> next(mine.size());
            for (int64_t k = begin[shard]; k < begin[shard + 1]; ++k) {
                if (next[local[k]]++ == 0) mine[local[k]] = corner[from[k]];
            }
            int64_t sum = begin[shard];
            for (size_t v = 0; v < mine.size(); ++v) {
                first_pixel[mine[v]] = sum;
                many[mine[v]] = int32_t(next[v]);
                sum += next[v];
                next[v] = first_pixel[mine[v]];
            }
            for (int64_t k = begin[shard]; k < begin[shard + 1]; ++k) {
                const int64_t to = next[local[k]]++;
                corner[from[k]] = mine[local[k]];
                pixel[to] = int32_t(from[k] / corners);
                weight[to] = dealt_share[k];
            }
        }
#pragma omp for schedule(static)
        for (int64_t n = 0; n < points * corners; ++n) beside[2 * n + 1] = int32_t(points);
#pragma omp for schedule(dynamic)
        for (int shard = 0; shard < SHARDS; ++shard)
            for (size_t v = 0; v < number[shard].size(); ++v)
                for (int64_t k = 0; k < corners; ++k) {
                    const uint64_t move = uint64_t(corners) * uint64_t(k < d ? hash[k] : 0) - all;
                    const int64_t there = int64_t(uint64_t(tables[shard].points[v]) + move);
                    const int other = shard_of(there);
                    const int32_t found = tables[other].find(there), here = number[shard][v];
                    int32_t* pairs = beside.at(size_t(k) * points * 2);
                    pairs[2 * int64_t(here)] = found < 0 ? int32_t(points) : number[other][found];
                    if (found >= 0) pairs[2 * int64_t(pairs[2 * int64_t(here)]) + 1] = here;
                }
    }
}

}  // namespace
}  // namespace ARCH
