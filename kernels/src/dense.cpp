// Sums over all pairs of two point sets under a Gaussian, and the permutohedral lattice. scribbleseg.ops.dense has the definitions.
//
//     sum:  out_ci = sum_j k_ij v_cj,                          k_ij = exp(-1/2 |x_i - y_j|^2)
//     pull: out_gi = -sum_j k_ij (sum_c u_ci v_cj) (x_gi - y_gj)
//
// Both are one loop: a tile of weights (k, or k times the dot products) of a few vectors of points i with some points j, then
// the weighted sum of what j carries (v, or y and 1), kept in registers. Points j are split into parts that depend on the
// shapes alone, and parts are added in order: the result does not depend on the number of threads.
//
// A point j that is further than FAR from all points i of a tile is passed over: its k is below 3e-11 (float) or 1e-21 (double),
// so that a whole picture of such points would not be seen. On photographs with a narrow kernel that is most of them.
#include "dense.hpp"
#include "lattice.hpp"
#include "simd.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <vector>

namespace ARCH {
namespace {

constexpr int VECTORS = 2;     // of points i in a tile
constexpr int TILE = 64;       // points j in a tile
constexpr int PARTS = 64;      // tiles of points i below which the points j are split too
constexpr int64_t MANY = 1024; // points j from which it pays to bring the points i into order
template <class T> constexpr T FAR = sizeof(T) == 4 ? T(7) : T(9.8);
template <class T> constexpr int POINTS = VECTORS * LANES<T>;
template <class T> inline void store(T* p, vec<T> v) { std::memcpy(p, &v, BYTES); }

// Points j of one image, one after the other: guide, then what is summed (padded with nothing).
template <class T> struct Packed {
    int64_t width;
    std::vector<T> data;
    Packed(const T* planes, int64_t channels, int64_t points, bool with_one, int threads)
        : width(channels + with_one), data(size_t(width) * points) {
#pragma omp parallel for num_threads(threads) schedule(static)
        for (int64_t first = 0; first < points; first += TILE) {
            const int64_t last = std::min(points, first + TILE);
            for (int64_t c = 0; c < channels; ++c)
                for (int64_t j = first; j < last; ++j) data[j * width + c] = planes[c * points + j];
            if (with_one)
                for (int64_t j = first; j < last; ++j) data[j * width + channels] = T(1);
        }
    }
    const T* at(int64_t j) const { return data.data() + j * width; }
};

// Puts points that are near each other side by side, in tiles: halves them at the middle of the widest guide, over and over.
template <class T> void bring_together(const T* x, int64_t guides, int64_t points, int32_t* first, int32_t* last) {
    const int64_t tiles = (last - first + POINTS<T> - 1) / POINTS<T>;
    if (tiles < 2) return;
    const auto at = [&](int64_t g, int32_t i) {
        const T value = x[g * points + i];
        return value == value ? value : std::numeric_limits<T>::infinity();
    };
    int64_t widest = 0;
    T width = -1;
    for (int64_t g = 0; g < guides; ++g) {
        T low = at(g, *first), high = low;
        for (const int32_t* i = first; i < last; ++i) low = std::min(low, at(g, *i)), high = std::max(high, at(g, *i));
        if (high - low > width) widest = g, width = high - low;
    }
    int32_t* middle = first + tiles / 2 * POINTS<T>;
    std::nth_element(first, middle, last, [&](int32_t i, int32_t j) { return at(widest, i) < at(widest, j); });
    bring_together(x, guides, points, first, middle);
    bring_together(x, guides, points, middle, last);
}

// Copies a tile's points of every plane, with zeros beyond the last point.
template <class T> void take(const T* planes, int64_t channels, int64_t points, const int32_t* order, int64_t count, T* to) {
    for (int64_t c = 0; c < channels; ++c, to += POINTS<T>)
        for (int64_t i = 0; i < POINTS<T>; ++i) to[i] = i < count ? planes[c * points + order[i]] : T(0);
}

// The ball around a tile's points, made wider by FAR: outside of it all k are next to nothing.
template <class T> struct Ball {
    std::vector<T> centre;
    T square;
    Ball(int64_t guides) : centre(guides) {}
    void around(const T* x, int64_t count) {
        T most = 0;
        for (size_t g = 0; g < centre.size(); ++g)
            centre[g] = std::accumulate(x + g * POINTS<T>, x + g * POINTS<T> + count, T(0)) / T(count);
        for (int64_t i = 0; i < count; ++i) {
            T sum = 0;
            for (size_t g = 0; g < centre.size(); ++g) sum += (x[g * POINTS<T> + i] - centre[g]) * (x[g * POINTS<T> + i] - centre[g]);
            most = sum <= most ? most : sum;  // NaN stays: then nothing is outside
        }
        square = (std::sqrt(most) + FAR<T>) * (std::sqrt(most) + FAR<T>);
    }
    // Appends to `list` those of `count` points that are not outside.
    int list_inside(const T* y, int64_t points, int64_t first, int count, int32_t* list) const {
        alignas(64) T sum[TILE] = {};
        for (size_t g = 0; g < centre.size(); ++g) {
            const T *there = y + int64_t(g) * points + first, here = centre[g];
            if (count == TILE)
                for (int j = 0; j < TILE; ++j) sum[j] += (there[j] - here) * (there[j] - here);
            else
                for (int j = 0; j < count; ++j) sum[j] += (there[j] - here) * (there[j] - here);
        }
        int found = 0;
        for (int j = 0; j < count; ++j) {
            list[found] = int32_t(first + j);
            found += !(sum[j] > square);
        }
        return found;
    }
};

// weight[j] = |x_i - y_j|^2, for COUNT listed points j at once.
template <class T, int COUNT>
inline void squares(const T* x, int64_t guides, const Packed<T>& y, const int32_t* list, vec<T>* weight) {
    constexpr int L = LANES<T>;
    vec<T> sum[COUNT][VECTORS] = {};
    const T* there[COUNT];
    for (int j = 0; j < COUNT; ++j) there[j] = y.at(list[j]);
    for (int64_t g = 0; g < guides; ++g) {
        vec<T> own[VECTORS];
        for (int n = 0; n < VECTORS; ++n) own[n] = load(x + g * POINTS<T> + n * L);
        for (int j = 0; j < COUNT; ++j)
            for (int n = 0; n < VECTORS; ++n) {
                const vec<T> step = own[n] - there[j][g];
                sum[j][n] += step * step;
            }
    }
    for (int j = 0; j < COUNT; ++j)
        for (int n = 0; n < VECTORS; ++n) weight[j * VECTORS + n] = sum[j][n];
}

// weight[j] *= sum_c u_c v_cj, for COUNT points j at once.
template <class T, int COUNT>
inline void dots(const T* u, const Packed<T>& v, const int32_t* list, vec<T>* weight) {
    constexpr int L = LANES<T>;
    vec<T> sum[COUNT][VECTORS] = {};
    const T* there[COUNT];
    for (int j = 0; j < COUNT; ++j) there[j] = v.at(list[j]);
    for (int64_t c = 0; c < v.width; ++c) {
        vec<T> own[VECTORS];
        for (int n = 0; n < VECTORS; ++n) own[n] = load(u + c * POINTS<T> + n * L);
        for (int j = 0; j < COUNT; ++j)
            for (int n = 0; n < VECTORS; ++n) sum[j][n] += own[n] * there[j][c];
    }
    for (int j = 0; j < COUNT; ++j)
        for (int n = 0; n < VECTORS; ++n) weight[j * VECTORS + n] *= sum[j][n];
}

// out_c += sum_j weight[j] value_cj, for COUNT channels from c on at once.
template <class T, int COUNT>
inline void gather(const vec<T>* weight, const Packed<T>& value, const int32_t* list, int count, int64_t& c, T* out) {
    constexpr int L = LANES<T>;
    for (; c + COUNT <= value.width; c += COUNT) {
        vec<T> sum[COUNT][VECTORS] = {};
        for (int j = 0; j < count; ++j) {
            const T* there = value.at(list[j]) + c;
            vec<T> w[VECTORS];
            for (int n = 0; n < VECTORS; ++n) w[n] = weight[j * VECTORS + n];
            for (int k = 0; k < COUNT; ++k)
                for (int n = 0; n < VECTORS; ++n) sum[k][n] += w[n] * there[k];
        }
        for (int k = 0; k < COUNT; ++k)
            for (int n = 0; n < VECTORS; ++n) {
                T* to = out + (c + k) * POINTS<T> + n * L;
                store(to, load(to) + sum[k][n]);
            }
    }
}

// One tile's sums: adds what the listed points j give to `out`.
template <class T>
void add(const T* x, int64_t guides, const T* u, const Packed<T>& y, const Packed<T>& v, const int32_t* list, int count, T* out) {
    alignas(64) vec<T> weight[TILE * VECTORS];
    constexpr int MOST = BYTES == 64 ? 8 : 4;  // as many sums as there are registers
    int j = 0;
    for (; j + MOST <= count; j += MOST) squares<T, MOST>(x, guides, y, list + j, weight + j * VECTORS);
    for (; j < count; ++j) squares<T, 1>(x, guides, y, list + j, weight + j * VECTORS);
    for (j = 0; j < count * VECTORS; ++j) weight[j] = exp_negative(T(-0.5) * weight[j]);
    if (u) {
        j = 0;
        for (; j + MOST <= count; j += MOST) dots<T, MOST>(u, v, list + j, weight + j * VECTORS);
        for (; j < count; ++j) dots<T, 1>(u, v, list + j, weight + j * VECTORS);
    }
    const Packed<T>& carried = u ? y : v;
    int64_t c = 0;
    gather<T, BYTES == 64 ? 12 : 6>(weight, carried, list, count, c, out);
    gather<T, 4>(weight, carried, list, count, c, out);
    gather<T, 2>(weight, carried, list, count, c, out);
    gather<T, 1>(weight, carried, list, count, c, out);
}

template <class T> void sum(const SumShape& s, const SumArrays<T>& arrays) {
    const bool pull = arrays.u != nullptr;
    const int64_t tiles = (s.here + POINTS<T> - 1) / POINTS<T>, width = pull ? s.guides + 1 : s.channels;
    const int64_t out_channels = pull ? s.guides : s.channels;
    const int64_t steps = (s.there + TILE - 1) / TILE;
    const int64_t parts = std::max<int64_t>(1, std::min((PARTS + tiles - 1) / tiles, steps)), each = (steps + parts - 1) / parts;
    std::vector<T> sums(size_t(parts * tiles * width * POINTS<T>));
    std::vector<int32_t> order(s.here);
    for (int64_t image = 0; image < s.images; ++image) {
        const T *x = arrays.x + image * s.guides * s.here, *y = arrays.y + image * s.guides * s.there;
        const T *v = arrays.v + image * s.channels * s.there, *u = pull ? arrays.u + image * s.channels * s.here : nullptr;
        const Packed<T> guide(y, s.guides, s.there, pull, s.threads), value(v, s.channels, s.there, false, s.threads);
        std::fill(sums.begin(), sums.end(), T(0));
        std::iota(order.begin(), order.end(), 0);
        if (s.there >= MANY) bring_together(x, s.guides, s.here, order.data(), order.data() + s.here);
#pragma omp parallel num_threads(s.threads)
        {
            std::vector<T> own(size_t(s.guides + s.channels) * POINTS<T>);
            Ball<T> ball(s.guides);
            int32_t list[2 * TILE];
#pragma omp for schedule(dynamic, 4)
            for (int64_t n = 0; n < parts * tiles; ++n) {
                const int64_t part = n / tiles, at = n % tiles * POINTS<T>, count = std::min<int64_t>(POINTS<T>, s.here - at);
                take(x, s.guides, s.here, order.data() + at, count, own.data());
                ball.around(own.data(), count);
                T *u_own = pull ? own.data() + s.guides * POINTS<T> : nullptr, *to = sums.data() + n * width * POINTS<T>;
                if (pull) take(u, s.channels, s.here, order.data() + at, count, u_own);
                int found = 0;
                for (int64_t first = part * each * TILE; first < std::min(s.there, (part + 1) * each * TILE); first += TILE) {
                    found += ball.list_inside(y, s.there, first, int(std::min<int64_t>(TILE, s.there - first)), list + found);
                    if (found < TILE) continue;
                    add<T>(own.data(), s.guides, u_own, guide, value, list, TILE, to);
                    found -= TILE;
                    std::copy_n(list + TILE, found, list);
                }
                add<T>(own.data(), s.guides, u_own, guide, value, list, found, to);
            }
#pragma omp for schedule(static)
            for (int64_t tile = 0; tile < tiles; ++tile) {
                T* total = sums.data() + tile * width * POINTS<T>;
                for (int64_t part = 1; part < parts; ++part) {
                    const T* more = total + part * tiles * width * POINTS<T>;
                    for (int64_t k = 0; k < width * POINTS<T>; ++k) total[k] += more[k];
                }
                const int64_t at = tile * POINTS<T>, count = std::min<int64_t>(POINTS<T>, s.here - at);
                for (int64_t c = 0; c < out_channels; ++c)
                    for (int64_t i = 0; i < count; ++i) {
                        const int64_t own = order[at + i];
                        const T here = total[c * POINTS<T> + i];
                        arrays.out[(image * out_channels + c) * s.here + own] =
                            pull ? here - x[c * s.here + own] * total[s.guides * POINTS<T> + i] : here;
                    }
            }
        }
    }
}

}  // namespace

void sum32(const SumShape& s, const SumArrays<float>& arrays) { sum<float>(s, arrays); }
void sum64(const SumShape& s, const SumArrays<double>& arrays) { sum<double>(s, arrays); }
void lattice32(const LatticeShape& s, const LatticeArrays<float>& arrays) { lattice<float>(s, arrays); }
void lattice64(const LatticeShape& s, const LatticeArrays<double>& arrays) { lattice<double>(s, arrays); }

}  // namespace ARCH
