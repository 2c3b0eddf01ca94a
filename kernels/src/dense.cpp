// Sums over all pairs of two point sets under a Gaussian, and the permutohedral lattice. scribbleseg.ops.dense has the definitions.
//
//     sum:  out_ci = sum_j k_ij v_cj,                          k_ij = exp(-1/2 |x_i - y_j|^2)
//     pull: out_gi = -sum_j k_ij (sum_c u_ci v_cj) (x_gi - y_gj)
//
// Both are one loop: a tile of weights (k, or k times the dot products) of a few vectors of points i with some points j, then
// the weighted sum of what j carries (v, or y and 1), kept in registers. Points j are split into parts that depend on the
// shapes alone, and parts are added in order: the result does not depend on the number of threads.
#include "dense.hpp"
#include "lattice.hpp"
#include "simd.hpp"

#include <algorithm>
#include <cstring>
#include <vector>

namespace ARCH {
namespace {

constexpr int VECTORS = 2;  // of points i in a tile
constexpr int TILE = 64;    // points j in a tile
constexpr int PARTS = 64;   // tiles of points i below which the points j are split too
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

// weight[j] = k_ij for the tile's points.
template <class T>
inline void kernels(const T* x, int64_t guides, const Packed<T>& y, int64_t first, int count, vec<T>* weight) {
    constexpr int L = LANES<T>;
    for (int j = 0; j < count; ++j) {
        const T* there = y.at(first + j);
        vec<T> sum[VECTORS] = {};
        for (int64_t g = 0; g < guides; ++g)
            for (int n = 0; n < VECTORS; ++n) {
                const vec<T> step = load(x + g * POINTS<T> + n * L) - there[g];
                sum[n] += step * step;
            }
        for (int n = 0; n < VECTORS; ++n) weight[j * VECTORS + n] = exp_negative(T(-0.5) * sum[n]);
    }
}

// weight[j] *= sum_c u_c v_cj, for COUNT points j at once.
template <class T, int COUNT> inline void dots(const T* u, int64_t channels, const T* v, int64_t width, vec<T>* weight) {
    constexpr int L = LANES<T>;
    vec<T> sum[COUNT][VECTORS] = {};
    for (int64_t c = 0; c < channels; ++c) {
        vec<T> own[VECTORS];
        for (int n = 0; n < VECTORS; ++n) own[n] = load(u + c * POINTS<T> + n * L);
        for (int j = 0; j < COUNT; ++j)
            for (int n = 0; n < VECTORS; ++n) sum[j][n] += own[n] * v[j * width + c];
    }
    for (int j = 0; j < COUNT; ++j)
        for (int n = 0; n < VECTORS; ++n) weight[j * VECTORS + n] *= sum[j][n];
}

// out_c += sum_j weight[j] value_cj, for COUNT channels at once.
template <class T, int COUNT> inline void gather(const vec<T>* weight, int count, const T* value, int64_t width, T* out) {
    constexpr int L = LANES<T>;
    vec<T> sum[COUNT][VECTORS] = {};
    for (int j = 0; j < count; ++j, value += width) {
        vec<T> w[VECTORS];
        for (int n = 0; n < VECTORS; ++n) w[n] = weight[j * VECTORS + n];
        for (int c = 0; c < COUNT; ++c)
            for (int n = 0; n < VECTORS; ++n) sum[c][n] += w[n] * value[c];
    }
    for (int c = 0; c < COUNT; ++c)
        for (int n = 0; n < VECTORS; ++n) {
            T* to = out + c * POINTS<T> + n * L;
            store(to, load(to) + sum[c][n]);
        }
}

template <class T> inline void gather_all(const vec<T>* weight, int count, const Packed<T>& value, int64_t first, T* out) {
    constexpr int MOST = BYTES == 64 ? 12 : 4;  // as many sums as there are registers
    int64_t c = 0;
    const T* from = value.at(first);
    const auto to = [&] { return out + c * POINTS<T>; };
    for (; c + MOST <= value.width; c += MOST) gather<T, MOST>(weight, count, from + c, value.width, to());
    if (MOST == 12 && c + 8 <= value.width) gather<T, 8>(weight, count, from + c, value.width, to()), c += 8;
    if (MOST == 12 && c + 4 <= value.width) gather<T, 4>(weight, count, from + c, value.width, to()), c += 4;
    if (c + 2 <= value.width) gather<T, 2>(weight, count, from + c, value.width, to()), c += 2;
    if (c < value.width) gather<T, 1>(weight, count, from + c, value.width, to());
}

// Copies the tile's points of every plane, with zeros beyond the last point.
template <class T> void take(const T* planes, int64_t channels, int64_t points, int64_t first, T* to) {
    const int64_t count = std::min<int64_t>(POINTS<T>, points - first);
    for (int64_t c = 0; c < channels; ++c, to += POINTS<T>) {
        std::copy_n(planes + c * points + first, count, to);
        std::fill(to + count, to + POINTS<T>, T(0));
    }
}

template <class T> void sum(const SumShape& s, const SumArrays<T>& arrays) {
    const bool pull = arrays.u != nullptr;
    const int64_t tiles = (s.here + POINTS<T> - 1) / POINTS<T>, width = pull ? s.guides + 1 : s.channels;
    const int64_t out_channels = pull ? s.guides : s.channels;
    const int64_t steps = (s.there + TILE - 1) / TILE;
    const int64_t parts = std::max<int64_t>(1, std::min((PARTS + tiles - 1) / tiles, steps)), each = (steps + parts - 1) / parts;
    std::vector<T> sums(size_t(parts * tiles * width * POINTS<T>));
    for (int64_t image = 0; image < s.images; ++image) {
        const T *x = arrays.x + image * s.guides * s.here, *y = arrays.y + image * s.guides * s.there;
        const T *v = arrays.v + image * s.channels * s.there, *u = pull ? arrays.u + image * s.channels * s.here : nullptr;
        const Packed<T> guide(y, s.guides, s.there, pull, s.threads), value(v, s.channels, s.there, false, s.threads);
        std::fill(sums.begin(), sums.end(), T(0));
#pragma omp parallel num_threads(s.threads)
        {
            std::vector<T> own(size_t(s.guides + s.channels) * POINTS<T>);
            alignas(64) vec<T> weight[TILE * VECTORS];
#pragma omp for schedule(dynamic, 4)
            for (int64_t n = 0; n < parts * tiles; ++n) {
                const int64_t part = n / tiles, at = n % tiles * POINTS<T>;
                take(x, s.guides, s.here, at, own.data());
                T *u_own = own.data() + s.guides * POINTS<T>, *to = sums.data() + n * width * POINTS<T>;
                if (pull) take(u, s.channels, s.here, at, u_own);
                for (int64_t first = part * each * TILE; first < std::min(s.there, (part + 1) * each * TILE); first += TILE) {
                    const int count = int(std::min<int64_t>(TILE, s.there - first));
                    kernels<T>(own.data(), s.guides, guide, first, count, weight);
                    if (pull) {
                        constexpr int MOST = BYTES == 64 ? 8 : 4;
                        int j = 0;
                        for (; j + MOST <= count; j += MOST)
                            dots<T, MOST>(u_own, s.channels, value.at(first + j), value.width, weight + j * VECTORS);
                        for (; j < count; ++j)
                            dots<T, 1>(u_own, s.channels, value.at(first + j), value.width, weight + j * VECTORS);
                    }
                    gather_all<T>(weight, count, pull ? guide : value, first, to);
                }
            }
#pragma omp for schedule(static)
            for (int64_t tile = 0; tile < tiles; ++tile) {
                T* total = sums.data() + tile * width * POINTS<T>;
                for (int64_t part = 1; part < parts; ++part) {
                    const T* more = total + part * tiles * width * POINTS<T>;
                    for (int64_t k = 0; k < width * POINTS<T>; ++k) total[k] += more[k];
                }
                const int64_t at = tile * POINTS<T>, count = std::min<int64_t>(POINTS<T>, s.here - at);
                for (int64_t c = 0; c < out_channels; ++c) {
                    T* out = arrays.out + (image * out_channels + c) * s.here + at;
                    for (int64_t i = 0; i < count; ++i) {
                        const T here = total[c * POINTS<T> + i];
                        out[i] = pull ? here - x[c * s.here + at + i] * total[s.guides * POINTS<T> + i] : here;
                    }
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
